"""Backends by their manners: one that answers at once, some that stream, some that are ill."""

import random
import re
import select
import socket
import time

from .loop import Child, Loop, give_way
from .scenarios import KIB, MIB

# What the clients of a crowd ask for, and no others.
CROWD = b" /crowd "
LENGTH = re.compile(rb"\ncontent-length: *(\d+)", re.IGNORECASE)
BLOCK = bytes(64 * KIB)
# Small, so that they are full soon, and what piles up piles up in the proxy.
BUFFER = 64 * KIB
# Between two signs of life of a stream.
PERIOD = 5.0

OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 1024\r\n\r\n" + b"k" * KIB
NOT_FOUND = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
EVENTS = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\nTransfer-Encoding: chunked\r\n\r\n"
TEXT = b"data: " + b"e" * 92 + b"\n\n"
EVENT = b"%x\r\n%s\r\n" % (len(TEXT), TEXT)
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
MESSAGE = b"m" * 64
FIELDS = b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-Field-%d: value\r\n" % number for number in range(65))
LONG = b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-Field-%d: %s\r\n" % (number, b"v" * 1010) for number in range(16))


class Peer:
    """A connection to the proxy, at the backend."""

    def __init__(self, loop, connection, answer, reads):
        self.loop, self.socket, self.answer = loop, connection, answer
        self.received, self.head, self.body = b"", b"", 0
        # What is still to be sent: these bytes, and then a number of meaningless ones.
        self.unsent, self.meaningless = b"", 0
        self.is_open, self.is_tunnel = True, False
        # One that reads sees the end when it reads.
        self.interest = self.watched = select.EPOLLIN if reads else select.EPOLLRDHUP
        connection.setblocking(False)
        loop.watch(connection, self.watched, self.ready)

    def ready(self, events):
        if events & (select.EPOLLERR | select.EPOLLHUP | select.EPOLLRDHUP):
            self.close()
            return
        if events & select.EPOLLOUT:
            self.flush()
        if events & select.EPOLLIN and self.is_open:
            self.receive()

    def receive(self):
        try:
            data = self.socket.recv(256 * KIB)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close()
        elif self.body:
            self.body -= len(data)
            if not self.body:
                self.answer(self, self.head)
        elif not self.is_tunnel:
            self.received += data
            self.take_requests()

    def take_requests(self):
        while self.is_open and not self.body and b"\r\n\r\n" in self.received:
            self.head, _, rest = self.received.partition(b"\r\n\r\n")
            length = LENGTH.search(self.head)
            whole = int(length.group(1)) if length else 0
            # The proxy doesn't pipeline: nothing stands behind a body that hasn't come whole.
            self.body, self.received = max(0, whole - len(rest)), rest[whole:]
            if not self.body:
                self.answer(self, self.head)

    def send(self, data, meaningless=0):
        if self.is_open:
            self.unsent += data
            self.meaningless += meaningless
            self.flush()

    def flush(self):
        try:
            while self.unsent or self.meaningless:
                if self.unsent:
                    self.unsent = self.unsent[self.socket.send(self.unsent) :]
                else:
                    self.meaningless -= self.socket.send(BLOCK[: min(len(BLOCK), self.meaningless)])
            self.watch(self.interest)
        except BlockingIOError:
            self.watch(self.interest | select.EPOLLOUT)
        except OSError:
            self.close()

    def watch(self, events):
        if events != self.watched:
            self.watched = events
            self.loop.change(self.socket, events)

    def send_every(self, seconds, data, first=None):
        """At its own time: the peers together send evenly."""

        def send():
            self.send(data)
            if self.is_open:
                self.loop.after(seconds, send)

        self.loop.after(random.uniform(0, seconds) if first is None else first, send)

    def switch(self, reads, meaningless=0):
        self.is_tunnel = True
        self.interest = select.EPOLLIN if reads else select.EPOLLRDHUP
        self.send(SWITCHED, meaningless)

    def close(self):
        if self.is_open:
            self.is_open = False
            self.loop.close(self.socket)


def quick(peer, head):
    peer.send(NOT_FOUND if CROWD in head[:64] else OK)


def events(peer):
    peer.send(EVENTS)
    peer.send_every(PERIOD, EVENT)


def silence(peer):
    peer.send(EVENTS)


def until_close(peer):
    peer.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + BLOCK[: 4 * KIB])
    peer.send_every(PERIOD, BLOCK[: 4 * KIB])


def sized(peer):
    peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (100 * MIB) + BLOCK[: 4 * KIB])
    peer.send_every(PERIOD, BLOCK[: 4 * KIB])


def at_once(length):
    return lambda peer: peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % length, length)


def tunnel(peer):
    peer.switch(reads=True)
    peer.send_every(PERIOD, MESSAGE)


def drips(peer, head):
    def drip(place):
        peer.send(OK[place : place + 1])
        if peer.is_open and place + 1 < len(OK):
            peer.loop.after(1.0, drip, place + 1)

    drip(0)


def apart(peer, head):
    peer.send(OK[:-KIB])
    peer.loop.after(0.2, peer.send, OK[-KIB:])


# Those of streams answer a crowd alone, and 404 to all others, so that a quick backend answers those.
STREAMS = {
    "events": events,
    "silence": silence,
    "until close": until_close,
    "sized": sized,
    "tunnel": tunnel,
    "tunnel, unread": lambda peer: peer.switch(reads=False),
    "tunnel, flooded": lambda peer: peer.switch(reads=True, meaningless=10**12),
    "1 MiB": at_once(MIB),
    "100 MiB": at_once(100 * MIB),
}
ANSWERS = {
    "quick": quick,
    "65 fields": lambda peer, head: peer.send(FIELDS),
    "16 KiB of a head": lambda peer, head: peer.send(LONG),
    "hangs": lambda peer, head: None,
    "never reads": lambda peer, head: None,
    "drips": drips,
    "apart": apart,
}


def serve(pipe, listener, manner):
    loop = Loop()
    stream = STREAMS.get(manner)
    if stream:
        give_way()
    answer = ANSWERS.get(manner) or (lambda peer, head: stream(peer) if CROWD in head[:64] else peer.send(NOT_FOUND))

    def accept(_):
        try:
            while True:
                Peer(loop, listener.accept()[0], answer, manner != "never reads")
        except BlockingIOError:
            pass

    loop.watch(listener, select.EPOLLIN, accept)
    loop.run()


class Mannered:
    """A backend in a process of its own."""

    def __init__(self, manner):
        with socket.socket() as listener:
            # Connections inherit their listener's buffers.
            for option in (socket.SO_RCVBUF, socket.SO_SNDBUF) if manner in STREAMS or manner == "never reads" else ():
                listener.setsockopt(socket.SOL_SOCKET, option, BUFFER)
            listener.bind(("127.0.0.1", 0))
            listener.listen(4096)
            listener.setblocking(False)
            self.url = "http://127.0.0.1:%d" % listener.getsockname()[1]
            self.child = Child(serve, listener, manner)

    def close(self):
        self.child.close()


class Deaf:
    """A port that drops SYNs at each of these addresses: its connections are never accepted, and the queue is full."""

    def __init__(self, *addresses):
        for _ in range(20):
            self.sockets, port = [], 0
            try:
                for address in addresses:
                    listener = self.kept(socket.socket())
                    listener.bind((address, port))
                    listener.listen(0)
                    port = listener.getsockname()[1]
                    self.fill(address, port)
                self.port, self.url = port, f"http://{addresses[0]}:{port}"
                return
            except OSError:
                # The port is taken at one of the addresses.
                self.close()
        raise RuntimeError("no port is free at all of " + " ".join(addresses))

    def kept(self, opened):
        self.sockets.append(opened)
        return opened

    def fill(self, address, port):
        clients = [self.kept(socket.socket()) for _ in range(8)]
        for client in clients:
            client.setblocking(False)
            client.connect_ex((address, port))
        time.sleep(0.05)
        if len(select.select([], clients, [], 0)[1]) == len(clients):
            raise RuntimeError("the queue of a listener is never full")

    def close(self):
        for opened in self.sockets:
            opened.close()
