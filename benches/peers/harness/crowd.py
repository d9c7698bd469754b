"""Thousands of clients, each of which asks for one stream and stays."""

import collections
import random
import select
import socket

from .loop import Child, Loop, give_way
from .manners import BLOCK, BUFFER, CROWD, MESSAGE, PERIOD

# New clients a second: what a listener's queue bears.
RAMP = 4000
TICK = 0.01
ASK = b"GET%sHTTP/1.1\r\nHost: crowd.example\r\n" % CROWD
UPGRADE = ASK + (
    b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
# Once its stream has begun a client reads, doesn't, reads and talks now and then, or sends all it can and doesn't read.
READS, IDLES, TALKS, FLOODS = "reads", "idles", "talks", "floods"


class Member:
    def __init__(self, crowd):
        self.crowd, self.loop = crowd, crowd.loop
        self.state, self.head = "connecting", b""
        self.socket = socket.socket()
        self.socket.setblocking(False)
        if not crowd.reads:
            for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
                self.socket.setsockopt(socket.SOL_SOCKET, option, BUFFER)
        self.socket.connect_ex(("127.0.0.1", crowd.port))
        self.loop.watch(self.socket, select.EPOLLOUT, self.ready)

    def ready(self, events):
        try:
            if events & (select.EPOLLERR | select.EPOLLHUP | select.EPOLLRDHUP):
                self.end("cut off" if self.state == "open" else "hung up on")
            elif self.state == "connecting":
                self.socket.send(self.crowd.request)
                self.state = "asked"
                self.loop.change(self.socket, select.EPOLLIN)
            elif self.state == "asked":
                self.take_head()
            elif events & select.EPOLLOUT:
                self.flood()
            else:
                self.read()
        except BlockingIOError:
            pass
        except OSError:
            self.end("reset")

    def take_head(self):
        # Those that don't read take nothing away, the head included.
        self.head = self.socket.recv(1024, 0 if self.crowd.reads else socket.MSG_PEEK)
        if self.head[9:12] not in (b"200", b"101"):
            self.end(self.head[9:12].decode("latin-1") or "hung up on")
            return
        self.state = "open"
        self.crowd.open += 1
        manner = self.crowd.manner
        self.loop.change(
            self.socket,
            {IDLES: select.EPOLLRDHUP, FLOODS: select.EPOLLRDHUP | select.EPOLLOUT}.get(manner, select.EPOLLIN),
        )
        if manner == TALKS:
            self.loop.after(random.uniform(0, PERIOD), self.talk)

    def talk(self):
        if self.state == "open":
            try:
                self.socket.send(MESSAGE)
            except OSError:
                self.end("reset")
                return
            self.loop.after(PERIOD, self.talk)

    def read(self):
        data = self.socket.recv(len(BLOCK))
        self.crowd.received += len(data)
        if not data:
            self.end("ended")

    def flood(self):
        self.crowd.sent += self.socket.send(BLOCK)

    def end(self, reason):
        self.crowd.open -= self.state == "open"
        self.crowd.failures[reason] += 1
        self.state = "ended"
        self.loop.close(self.socket)


class Members:
    """All of them, in the process that they have for themselves."""

    def __init__(self, pipe, port, manner, count, is_tunnel):
        give_way()
        self.loop, self.pipe, self.port, self.manner, self.count = Loop(), pipe, port, manner, count
        self.reads = manner in (READS, TALKS)
        self.request = UPGRADE if is_tunnel else ASK + b"\r\n"
        self.begun, self.open, self.failures = [], 0, collections.Counter()
        # Bytes of those that flood, and those that came after a head.
        self.sent, self.received = 0, 0
        self.loop.watch(pipe, select.EPOLLIN, self.tell)
        self.grow()
        self.loop.run()

    def grow(self):
        for _ in range(min(int(RAMP * TICK), self.count - len(self.begun))):
            self.begun.append(Member(self))
        if len(self.begun) < self.count:
            self.loop.after(TICK, self.grow)

    def tell(self, _):
        try:
            self.pipe.recv()
        except EOFError:
            self.loop.is_over = True
            return
        unanswered = len(self.begun) - self.open - sum(self.failures.values())
        told = {"begun": len(self.begun), "open": self.open, "sent": self.sent, "received": self.received}
        self.pipe.send(told | {"failures": dict(self.failures) | ({"unanswered": unanswered} if unanswered else {})})


class Crowd:
    """`told` is what came of its members: begun, open, bytes sent and received, and failures by reason."""

    def __init__(self, port, manner, count, is_tunnel):
        self.count, self.child = count, Child(Members, port, manner, count, is_tunnel)

    def told(self):
        return self.child.ask("how many?")

    def close(self):
        self.child.close()
