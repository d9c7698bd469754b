#!/usr/bin/env python3
"""What a checked binary talks with: backends, a name server and clients, from Python's standard library alone.

peers.py backend PORT NAME          an HTTP backend: it answers NAME and how long the request's body was
peers.py backends COUNT             COUNT of them answer GETs on free ports; prints their URLs, between commas
peers.py https PORT CERT KEY        the same, behind TLS
peers.py websocket PORT             a WebSocket echo
peers.py dns ADDRESS NAME...        a name server: each NAME is at 127.0.0.1, all others don't exist; prints what it was asked
peers.py say HOST:PORT TEXT         a WebSocket client: sends the text, and fails unless it comes back
peers.py load HOST:PORT COUNT CONNECTIONS [once]   COUNT GETs over CONNECTIONS connections, or with a new one for each; fails
                                    unless each gets its 200
"""
import asyncio
import base64
import hashlib
import http.client
import http.server
import os
import socket
import ssl
import sys
import threading


class Backend(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    name = "backend"

    def answer(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        text = f"{self.name} got {len(body)} bytes\n".encode()
        # In one write, or the client's delayed acknowledgement holds up the body.
        self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(text), text))

    do_GET = do_POST = answer

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True

    def handle_error(self, *_):
        """Losers are hung up on: nothing to tell."""


def backend(port, name):
    return Server(("127.0.0.1", int(port)), type("Named", (Backend,), {"name": name}))


def https(port, certificate, key):
    server = backend(port, "https")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.serve_forever()


class Quick(asyncio.Protocol):
    """Answers each GET at once. One thread for all, as hundreds of threads in Python keep each other waiting."""

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data.count(b"\r\n\r\n") * b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


def backends(count):
    async def serve():
        loop = asyncio.get_running_loop()
        servers = [await loop.create_server(Quick, "127.0.0.1", 0, backlog=1024) for _ in range(int(count))]
        print(",".join("http://127.0.0.1:%d" % server.sockets[0].getsockname()[1] for server in servers), flush=True)
        await asyncio.gather(*(server.serve_forever() for server in servers))

    asyncio.run(serve())


class Echo(http.server.BaseHTTPRequestHandler):
    """One frame of at most 125 bytes, as RFC 6455 has it: masked on its way here, bare on its way back."""

    def do_GET(self):
        key = self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        accept = base64.b64encode(hashlib.sha1(key.encode()).digest())
        head = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        self.wfile.write(head + b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n")
        kind, length = self.rfile.read(2)
        mask = self.rfile.read(4)
        text = bytes(byte ^ mask[at % 4] for at, byte in enumerate(self.rfile.read(length & 0x7F)))
        self.wfile.write(bytes([kind, len(text)]) + text)
        self.close_connection = True

    def log_message(self, *_):
        pass


def say(address, text):
    host, port = address.split(":")
    with socket.create_connection((host, int(port)), timeout=30) as client:
        head = "GET /chat HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        key = base64.b64encode(os.urandom(16)).decode()
        client.sendall(f"{head}Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode())
        answers = client.makefile("rb")
        status = answers.readline()
        assert status.startswith(b"HTTP/1.1 101 "), status
        while answers.readline().strip():
            pass
        client.sendall(bytes([0x81, 0x80 | len(text), 0, 0, 0, 0]) + text.encode())
        echo = answers.read(2 + len(text))
        assert echo == bytes([0x81, len(text)]) + text.encode(), echo


def dns(address, *names):
    """A over UDP, and no AAAA: enough of RFC 1035 for a resolver's questions."""
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind((address, 53))
    while True:
        query, client = server.recvfrom(512)
        labels, at = [], 12
        while query[at]:
            labels.append(query[at + 1 : at + 1 + query[at]].decode())
            at += 1 + query[at]
        name, is_address = ".".join(labels), query[at + 1 : at + 3] == b"\0\1"
        print(name, flush=True)
        known = name in names
        answers = b"\xc0\x0c\0\1\0\1\0\0\0\x05\0\4\x7f\0\0\1" if known and is_address else b""
        flags = b"\x85\x80" if known else b"\x85\x83"
        head = query[:2] + flags + b"\0\1" + (b"\0\1" if answers else b"\0\0") + b"\0\0\0\0"
        server.sendto(head + query[12 : at + 5] + answers, client)


def load(address, count, connections, once=None):
    fields = {"Connection": "close"} if once else {}
    numbers, failures = iter(range(int(count))), []
    lock = threading.Lock()

    def work():
        client = http.client.HTTPConnection(address, timeout=60)
        while True:
            with lock:
                if next(numbers, None) is None:
                    return
            try:
                client.request("GET", "/load", headers=fields)
                answer = client.getresponse()
                text = answer.read()
                if answer.status != 200:
                    failures.append(f"{answer.status} {text!r}")
            except OSError as error:
                failures.append(repr(error))
                client.close()

    threads = [threading.Thread(target=work) for _ in range(int(connections))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures[:5]


if __name__ == "__main__":
    verbs = {
        "backend": lambda port, name: backend(port, name).serve_forever(),
        "backends": backends,
        "https": https,
        "websocket": lambda port: Server(("127.0.0.1", int(port)), Echo).serve_forever(),
        "dns": dns,
        "say": say,
        "load": load,
    }
    verbs[sys.argv[1]](*sys.argv[2:])
