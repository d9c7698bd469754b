"""Clients on kept connections, at a pace of their own or as fast as they can."""

import collections
import math
import re
import select
import socket
import time

from .loop import Loop

LENGTH = re.compile(rb"\ncontent-length: *(\d+)", re.IGNORECASE)
# After a failure, so that a proxy that refuses isn't stormed.
PAUSE = 0.02


class Client:
    """Sends, waits for the whole answer, and sends again: at its next time, or at once if that is over."""

    def __init__(self, load, due):
        self.load, self.loop, self.due = load, load.loop, due
        self.socket, self.sent = None, None
        self.loop.at(due, self.send)

    def connect(self):
        self.socket, self.is_connected, self.received = socket.socket(), False, b""
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.connect_ex(("127.0.0.1", self.load.port))
        self.loop.watch(self.socket, select.EPOLLOUT, self.ready)

    def send(self):
        self.sent, self.unsent = time.monotonic(), memoryview(self.load.request)
        if self.socket is None:
            self.connect()
        else:
            self.flush()

    def flush(self):
        try:
            while self.unsent:
                self.unsent = self.unsent[self.socket.send(self.unsent) :]
            # Nothing else changes what it waits for: most requests go out in one piece.
            if not self.is_connected or len(self.load.request) > 4096:
                self.loop.change(self.socket, select.EPOLLIN)
        except BlockingIOError:
            self.loop.change(self.socket, select.EPOLLIN | select.EPOLLOUT)
        except OSError:
            self.fail("reset")
            return
        self.is_connected = True

    def ready(self, events):
        if not self.is_connected and events & (select.EPOLLERR | select.EPOLLHUP):
            self.fail("not connected")
        elif events & select.EPOLLOUT:
            self.flush()
        else:
            self.receive()

    def receive(self):
        try:
            data = self.socket.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = None
        if not data:
            self.fail("reset" if data is None else "hung up on")
            return
        self.received += data
        end = self.received.find(b"\r\n\r\n")
        if end < 0:
            return
        length = LENGTH.search(self.received, 0, end)
        if len(self.received) >= end + 4 + (int(length.group(1)) if length else 0):
            status, self.received = self.received[9:12], b""
            self.answered(status)

    def answered(self, status):
        if status != b"200":
            self.fail(status.decode("latin-1"))
            return
        now = time.monotonic()
        self.load.count(now, now - self.sent)
        self.sent = None
        self.due = max(now, self.due + self.load.interval)
        if self.load.interval:
            self.loop.at(self.due, self.send)
        else:
            self.send()

    def fail(self, reason):
        self.load.failures[reason] += 1
        self.sent = None
        if self.socket is not None:
            self.loop.close(self.socket)
            self.socket = None
        self.due = time.monotonic() + max(PAUSE, self.load.interval)
        self.loop.at(self.due, self.send)


class Load:
    """One run, in a process of its own; tells its figures at the end. `rate` is that of all clients together, 0 no limit."""

    def __init__(self, pipe, port, method, body, clients, rate, warm, seconds):
        self.loop, self.port = Loop(), port
        length = b"Content-Length: %d\r\n" % body if body else b""
        self.request = b"%s / HTTP/1.1\r\nHost: pace.example\r\n%s\r\n" % (method.encode(), length) + b"b" * body
        self.interval = clients / rate if rate else 0
        self.failures, self.latencies = collections.Counter(), []
        began = time.monotonic()
        self.from_, self.until = began + warm, began + warm + seconds
        all_clients = [Client(self, began + number * self.interval / clients) for number in range(clients)]
        self.loop.at(self.until, self.end)
        self.loop.run()
        pipe.send(self.figures(all_clients, seconds))

    def count(self, now, latency):
        if self.from_ <= now < self.until:
            self.latencies.append(latency)

    def end(self):
        self.loop.is_over = True

    def figures(self, all_clients, seconds):
        answers = len(self.latencies)
        # Requests under way: they have taken so long at least, or a proxy that answers nothing would have no latency.
        under_way = [self.until - client.sent for client in all_clients if client.sent is not None]
        unanswered = sum(age > 1 for age in under_way)
        if unanswered:
            self.failures["unanswered"] = unanswered
        ordered = sorted(self.latencies + [age for age in under_way if age > 0])
        at = lambda share: 1e3 * ordered[math.ceil(share * len(ordered)) - 1] if ordered else None
        figures = {"rps": answers / seconds, "p50": at(0.5), "p99": at(0.99), "max": at(1)}
        return figures | {"failures": dict(self.failures)}
