#!/usr/bin/env python3
"""What a profiled build learns from: clients and backends of every kind, all on loopback, around one running proxy.

train.py FOLDER COMMAND...    the command is the program's, before its flags; FOLDER has ca.pem, leaf.pem and leaf.key

Each round has its own backends and a number of requests, so that what is learnt doesn't depend on the machine's speed. It fails
if an answer is not what its backends and the round should give: a profile of failures would be worse than none.
"""
import atexit
import concurrent.futures
import http.client
import multiprocessing
import re
import socket
import ssl
import subprocess
import sys
import threading
import time

CLIENTS = 12
FIELDS = (
    b"Date: Mon, 30 Nov 2026 00:00:00 GMT\r\nServer: backend\r\nContent-Type: application/json\r\n"
    b"Cache-Control: no-store\r\n"
)


def served(connection, status, delay):
    """Answers on one connection until its end: `/N` with N bytes, `/chunked/N` in two chunks."""
    received = connection.makefile("rb")
    while line := received.readline():
        fields = {}
        while (field := received.readline()) not in (b"\r\n", b""):
            name, _, value = field.partition(b":")
            fields[name.lower()] = value.strip()
        if fields.get(b"transfer-encoding") == b"chunked":
            while size := int(received.readline(), 16):
                received.read(size + 2)
            received.readline()
        else:
            received.read(int(fields.get(b"content-length", 0)))
        time.sleep(delay)
        path = line.split()[1].decode()
        body = bytes(int(path.rsplit("/", 1)[1]))
        head = b"HTTP/1.1 %d -\r\n%s" % (status, FIELDS)
        if path.startswith("/chunked/"):
            half, rest = body[: len(body) // 2], body[len(body) // 2 :]
            chunks = b"%x\r\n%s\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(half), half, len(rest), rest)
            connection.sendall(head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks)
        else:
            connection.sendall(head + b"Content-Length: %d\r\n\r\n%s" % (len(body), body))


def serve(listener, certificate, status, delay):
    """Accepts until the process ends."""
    context = None
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)

    def work(connection):
        # Losers are hung up on: nothing to tell.
        try:
            if context:
                connection = context.wrap_socket(connection, server_side=True)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            served(connection, status, delay)
        except OSError:
            pass
        finally:
            connection.close()

    while True:
        threading.Thread(target=work, args=(listener.accept()[0],), daemon=True).start()


def backend(status=200, delay=0.0, certificate=None):
    """Starts a backend in a process of its own; its URL."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=256)
    multiprocessing.Process(target=serve, args=(listener, certificate, status, delay), daemon=True).start()
    port = listener.getsockname()[1]
    listener.close()
    return f"{'https' if certificate else 'http'}://127.0.0.1:{port}"


class Proxy:
    """The running program."""

    def __init__(self, folder, command):
        flags = ["--backends", "http://127.0.0.1:1", "--ca-file", f"{folder}/ca.pem"]
        flags += ["--tls-cert", f"{folder}/leaf.pem,{folder}/leaf.key"]
        for door in ("listen", "tls-listen", "admin-listen"):
            flags += [f"--{door}", "127.0.0.1:0"]
        self.process = subprocess.Popen(command + flags, stderr=subprocess.PIPE, text=True)
        # Whatever goes wrong here.
        atexit.register(self.process.kill)
        doors = {}
        for line in self.process.stderr:
            doors |= dict(re.findall(r" (listens|spoken|taken) on 127\.0\.0\.1:(\d+)", line))
            if len(doors) == 3:
                break
        else:
            raise SystemExit(f"train: the program ended before it listened; it said where for: {list(doors)}")
        self.plain, self.tls, self.admin = (int(doors[verb]) for verb in ("listens", "spoken", "taken"))
        threading.Thread(target=self.process.stderr.read, daemon=True).start()

    def client(self, is_tls):
        if not is_tls:
            return http.client.HTTPConnection("127.0.0.1", self.plain, timeout=60)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return http.client.HTTPSConnection("127.0.0.1", self.tls, timeout=60, context=context)

    def update(self, backends):
        admin = http.client.HTTPConnection("127.0.0.1", self.admin, timeout=60)
        admin.request("POST", "/-update-backends?backends=" + ",".join(backends))
        answer = admin.getresponse()
        assert answer.status == 200, answer.read()

    def stop(self):
        """By a signal, as only a regular end writes the profile."""
        self.process.terminate()
        assert self.process.wait(60) == 0, "the program failed"


def ask(proxy, count, path="/120", upload=None, expected=200, is_tls=False, is_kept=True):
    """So many requests of one kind, by clients that take turns."""
    numbers, wrong = iter(range(count)), []
    fields = {"User-Agent": "curl/8.5.0", "Accept": "*/*", "Cookie": "session=0123456789abcdef"}

    def work():
        client = proxy.client(is_tls)
        while next(numbers, None) is not None:
            # Without a length `http.client` sends the pieces as chunks.
            body = iter([upload[:1000], upload[1000:]]) if upload and path.startswith("/chunked/") else upload
            client.request("POST" if upload else "GET", path, body, fields)
            answer = client.getresponse()
            length = len(answer.read())
            if answer.status != expected or expected == 200 and length != int(path.rsplit("/", 1)[1]):
                wrong.append((path, answer.status, length))
            if not is_kept:
                client.close()

    with concurrent.futures.ThreadPoolExecutor(CLIENTS) as clients:
        for ended in [clients.submit(work) for _ in range(CLIENTS)]:
            ended.result()
    assert not wrong, wrong[:5]


def main(folder, *command):
    leaf = (f"{folder}/leaf.pem", f"{folder}/leaf.key")
    quick = [backend() for _ in range(3)]
    ill = [backend(status=503), backend(delay=0.1), "http://127.0.0.1:1"]
    tls = [backend(certificate=leaf) for _ in range(2)]
    proxy = Proxy(folder, list(command))

    # Nearly all is what most requests are: short, on connections that are kept, and their answers short, too. What is optimised for
    # speed is what makes up 99 % of it.
    proxy.update(quick[:1])
    ask(proxy, 28000)
    ask(proxy, 200, "/30000")
    ask(proxy, 200, "/chunked/2000")
    ask(proxy, 4, "/8000000")
    proxy.update(quick)
    ask(proxy, 28000)
    ask(proxy, 200, is_kept=False)
    ask(proxy, 100, "/chunked/2000", upload=bytes(3000))
    ask(proxy, 100, upload=bytes(65536))
    ask(proxy, 600, is_tls=True)
    ask(proxy, 50, is_tls=True, is_kept=False)
    proxy.update(quick[:1] + ill)
    ask(proxy, 600)
    proxy.update(ill[::2])
    ask(proxy, 100, expected=502)
    proxy.update(tls)
    ask(proxy, 600)
    proxy.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
