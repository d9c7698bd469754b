"""One thread that waits for thousands of sockets, and processes made of it. Knows nothing of HTTP."""

import gc
import heapq
import itertools
import multiprocessing
import os
import select
import signal
import time


class Loop:
    """Calls back when a socket is ready, or a time has come."""

    def __init__(self):
        self.epoll, self.ready = select.epoll(), {}
        self.timers, self.numbers = [], itertools.count()
        self.parent, self.is_over = os.getppid(), False

    def watch(self, socket, events, ready):
        self.ready[socket.fileno()] = ready
        self.epoll.register(socket.fileno(), events)

    def change(self, socket, events):
        self.epoll.modify(socket.fileno(), events)

    def close(self, socket):
        del self.ready[socket.fileno()]
        socket.close()

    def after(self, seconds, call, *args):
        self.at(time.monotonic() + seconds, call, *args)

    def at(self, when, call, *args):
        # The number decides between equal times: calls can't be compared.
        heapq.heappush(self.timers, (when, next(self.numbers), call, args))

    def run(self):
        # A parent that was killed can't stop this process.
        while not self.is_over and os.getppid() == self.parent:
            now = time.monotonic()
            while self.timers and self.timers[0][0] <= now:
                _, _, call, args = heapq.heappop(self.timers)
                call(*args)
            patience = min(1.0, self.timers[0][0] - time.monotonic()) if self.timers else 1.0
            for descriptor, events in self.epoll.poll(max(0.0, patience), 1024):
                ready = self.ready.get(descriptor)
                if ready:
                    ready(events)


class Child:
    """A function in a process of its own, which is given one end of a pipe. Forked, so that it can be given sockets as well."""

    def __init__(self, function, *args):
        context = multiprocessing.get_context("fork")
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=begin, args=(function, other, *args), daemon=True)
        self.process.start()
        other.close()

    def hear(self, patience):
        """What it says next. Raises what it failed with, or that it said nothing."""
        if not self.pipe.poll(patience):
            raise RuntimeError(f"a process of the benchmark says nothing for {patience:.0f} s")
        try:
            return self.pipe.recv()
        except EOFError:
            raise RuntimeError("a process of the benchmark has ended") from None

    def ask(self, question, patience=5):
        self.pipe.send(question)
        return self.hear(patience)

    def close(self):
        self.process.kill()
        self.process.join(2)
        self.pipe.close()


def give_way():
    """Runs only while no other process would. For what would be on other hosts: its CPU mustn't look like the proxy's."""
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


def begin(function, pipe, *args):
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # A collection among ten thousand connections would be a latency of its own.
    gc.disable()
    function(pipe, *args)
