"""Whether a proxy races as it should: what is fast but wrong isn't worth measuring."""

import http.client
import select
import socket
import statistics
import threading
import time

from .processes import Backends, CannotPlay, Proxy
from .scenarios import MIB


class Client:
    """One keep-alive connection. A call gives status, body, answer and seconds."""

    def __init__(self, port, timeout=8):
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)

    def __call__(self, method="GET", path="/", body=None, headers=None, is_chunked=False):
        began = time.monotonic()
        self.connection.request(method, path, body, headers or {}, encode_chunked=is_chunked)
        answer = self.connection.getresponse()
        return answer.status, answer.read(), answer, time.monotonic() - began


def must(condition, message):
    if not condition:
        raise AssertionError(message)


def answers(want):
    def check(backends, port):
        for _ in range(3):
            status = Client(port)()[0]
            must(status == want, f"status {status}, not {want}")

    return check


def first_wins(backends, port):
    client, times = Client(port), []
    for _ in range(30):
        status, body, _, seconds = client()
        must(status == 200, f"status {status}")
        must(body.startswith(b"backend %d\n" % backends.ports[1]), "body of another backend")
        must(len(body) == 1024, f"length {len(body)}")
        times.append(seconds)
    median = 1e3 * statistics.median(times)
    must(median < 45, f"waits for the losers: median {median:.1f} ms")
    return f"median {median:.2f} ms"


def headers_pass(backends, port):
    answer = Client(port)()[2]
    must(answer.getheader("X-Backend") == str(backends.ports[0]), "no X-Backend header of the winner")
    kind = answer.getheader("Content-Type")
    must(kind == "text/plain", f"Content-Type {kind!r}")


def hang_costs_nothing(backends, port):
    client = Client(port)
    for number in range(10):
        status, _, _, seconds = client()
        must(status == 200 and seconds < 0.5, f"request {number}: status {status} after {seconds:.2f} s")


def hang_ends(backends, port):
    status, _, _, seconds = Client(port, 12)()
    must(status in (502, 504), f"status {status}")
    return f"{status} after {seconds:.1f} s"


BODY = bytes(range(256)) * 256


def post_is_echoed(backends, port):
    client = Client(port)
    for _ in range(10):
        status, body, _, _ = client("POST", "/", BODY)
        must(status == 200, f"status {status}")
        must(body == BODY, f"echo differs ({len(body)} bytes)")


def post_reaches_all(backends, port):
    client = Client(port)
    for _ in range(10):
        client("POST", "/", BODY)
    time.sleep(0.3)
    whole = [round(row["body_sum"] / sum(BODY), 1) for row in backends.counts()]
    must(all(count == 10 for count in whole), f"whole bodies seen of 10: {whole}")


def chunked_post_is_echoed(backends, port):
    parts = [b"x" * 1000, b"y" * 30000, b"z"]
    status, body, _, _ = Client(port)("POST", "/", iter(parts), {"Transfer-Encoding": "chunked"}, True)
    must(status == 200 and body == b"".join(parts), f"status {status}, {len(body)} bytes")


def body_is_whole(backends, port):
    want = Client(backends.ports[0])()[1]
    client = Client(port)
    for _ in range(2):
        status, body, _, _ = client()
        must(status == 200 and body == want, f"status {status}, {len(body)} of {len(want)} bytes")


def head_has_no_body(backends, port):
    client = Client(port)
    status, body, answer, _ = client("HEAD")
    must(status == 200 and body == b"", f"status {status}")
    length = answer.getheader("Content-Length")
    status, body, _, _ = client()
    must(status == 200 and len(body) == 1024, f"the GET after it: status {status}, {len(body)} bytes")
    return f"Content-Length {length}"


def request_passes(backends, port):
    text = Client(port)("GET", "/a/b%20c?x=1&y=%2F", headers={"X-Foo": "bar", "Cookie": "a=b"})[1].decode()
    lines = text.split("\r\n")
    must(lines[0] == "GET /a/b%20c?x=1&y=%2F HTTP/1.1", f"request line {lines[0]!r}")
    must("x-foo: bar" in text.lower() and "cookie: a=b" in text.lower(), "request headers lost")
    return next(line for line in lines if line.lower().startswith("host"))


def every_backend_is_called(backends, port):
    client = Client(port)
    for _ in range(20):
        client()
    time.sleep(0.3)
    counts = [row["requests"] for row in backends.counts()]
    must(min(counts) >= 20, f"requests seen {counts} of 20")


def burst_is_answered(backends, port, count=64):
    """`count` keep-alive connections at once, all kept open: is each one answered?"""
    sockets = [socket.create_connection(("127.0.0.1", port), 5) for _ in range(count)]
    for client in sockets:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    began, left = time.monotonic(), set(sockets)
    while left and time.monotonic() - began < 4:
        for client in select.select(list(left), [], [], 0.2)[0]:
            client.recv(65536)
            left.discard(client)
    seconds = time.monotonic() - began
    for client in sockets:
        client.close()
    must(not left, f"{len(left)} of {count} connections are not answered in 4 s")
    return f"{count} in {1e3 * seconds:.0f} ms"


def many_at_once(backends, port):
    failures = []

    def work():
        try:
            client = Client(port)
            for _ in range(20):
                status, body, _, _ = client()
                if status != 200 or len(body) != 1024:
                    failures.append((status, len(body)))
        except Exception as error:
            failures.append(repr(error))

    threads = [threading.Thread(target=work) for _ in range(48)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    must(not failures, f"{len(failures)} failed, first {failures[:1]}")


CHECKS = [
    ("first 2xx wins", ["status=500", "size=1024", "size=1024:delay=50"], first_wins),
    ("late 2xx after failures", ["status=500", None, "size=64:delay=30"], answers(200)),
    ("all 500 -> 502", ["status=500", "status=500"], answers(502)),
    ("404 is no success -> 502", ["status=404"], answers(502)),
    ("302 not followed -> 502", ["status=302"], answers(502)),
    ("all refuse -> 502", [None, None], answers(502)),
    ("reset -> 502", ["reset"], answers(502)),
    ("201 passes", ["status=201", "status=500"], answers(201)),
    ("204 passes", ["status=204"], answers(204)),
    ("reply headers pass", ["size=64"], headers_pass),
    ("hanging loser does not delay", ["hang", "size=1024", None], hang_costs_nothing),
    ("only a hanging backend -> 502/504", ["hang"], hang_ends),
    ("64 KiB POST, echoed", ["echo"] * 3, post_is_echoed),
    ("info: 64 KiB POST reaches all whole", ["echo"] * 3, post_reaches_all),
    ("chunked POST", ["echo", "echo"], chunked_post_is_echoed),
    ("10 MiB reply", [f"size={10 * MIB}"], body_is_whole),
    ("10 MiB reply, 3 racing", [f"size={10 * MIB}", "status=500", "size=1024:delay=500"], body_is_whole),
    ("chunked reply", ["size=200000:chunked"], body_is_whole),
    ("HEAD", ["size=1024"], head_has_no_body),
    ("path, query, headers", ["dump"], request_passes),
    ("info: every backend is called", ["size=64"] * 3, every_backend_is_called),
    ("64 keep-alive clients arrive at once", ["size=1024"], burst_is_answered),
    ("48 clients at once", ["size=1024", "status=500", "size=1024:delay=20"], many_at_once),
    ("backend closes after each reply", ["size=1024:close"], many_at_once),
    ("https backends", ["size=1024:tls"] * 2, many_at_once),
]


def run(setup, name, command, ports, specs, check):
    """Whether the check holds, and what it has to say."""
    base, port = ports.next()
    backends = Backends(setup, specs, base)
    try:
        proxy = Proxy(setup, name, command, port, backends)
        try:
            return True, check(backends, port) or ""
        finally:
            proxy.close()
    except CannotPlay:
        return True, "can't be played"
    except AssertionError as error:
        return False, str(error)
    except Exception as error:
        return False, f"{type(error).__name__}: {error}"
    finally:
        backends.close()


def check_all(setup, proxies, ports):
    """The results as a table in Markdown, and whether all is well."""
    results = {name: [] for name in proxies}
    for name, command in proxies.items():
        for title, specs, check in CHECKS:
            is_right, note = run(setup, name, command, ports, specs, check)
            results[name].append((is_right, note))
            print(f"{'ok' if is_right else 'FAIL':4} {name:24} {title:36} {note}", flush=True)
    rows = ["| check | " + " | ".join(results) + " |", "|---" * (len(results) + 1) + "|"]
    for number, (title, _, _) in enumerate(CHECKS):
        cells = ["ok" if result[number][0] else f"**no**: {result[number][1]}" for result in results.values()]
        rows.append(f"| {title} | " + " | ".join(cells) + " |")
    # What is for information is no fault: a loser may be spared its request.
    musts = [number for number, (title, _, _) in enumerate(CHECKS) if not title.startswith("info:")]
    return "\n".join(rows) + "\n", all(result[number][0] for result in results.values() for number in musts)
