"""Has an OpenAI client and a client of JSON-RPC ask through the program: clients.py PROGRAM"""

import contextlib
import http.server
import json
import os
import subprocess
import sys
import threading
import time
import urllib.request

import jsonrpclib
import openai

PROGRAM = sys.argv[1]


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers each POST by its server's function."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked += 1
        # A client that hangs up is none of its concerns.
        with contextlib.suppress(ConnectionError):
            self.server.answer(self, asked)
        self.close_connection = True

    def log_message(self, *_):
        pass

    def begin(self, status, kind):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.flush()

    def send(self, status, value):
        self.begin(status, "application/json")
        self.wfile.write(json.dumps(value).encode())


@contextlib.contextmanager
def backend(answer):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads, server.answer, server.asked = True, answer, 0
    threading.Thread(target=server.serve_forever, daemon=True).start()
    server.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


@contextlib.contextmanager
def proxy(backends, *options):
    """The program, and its address."""
    urls = ",".join(backend.url for backend in backends)
    flags = ["--listen", "127.0.0.1:0", "--admin-listen", "off", "--timeout", "5s", "--backends", urls, *options]
    program = subprocess.Popen([PROGRAM, *flags], stderr=subprocess.PIPE, text=True)
    try:
        for line in program.stderr:
            if " listens on " in line:
                break
        threading.Thread(target=program.stderr.read, daemon=True).start()
        yield "http://" + line.split(" listens on ")[1].strip()
    finally:
        program.terminate()
        program.wait(10)


def event(text):
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    chunk = {"id": "c", "object": "chat.completion.chunk", "created": 0, "model": "m", "choices": [choice]}
    return f"data: {json.dumps(chunk)}\n\n".encode()


def streams(words, silent_for=0):
    """A provider that sends its head at once, comments while it is silent, and then words."""

    def answer(handler, asked):
        assert asked["stream"]
        handler.begin(200, "text/event-stream")
        until = time.monotonic() + silent_for
        while time.monotonic() < until:
            handler.wfile.write(b": still working\n\n")
            handler.wfile.flush()
            time.sleep(0.05)
        for word in words:
            handler.wfile.write(event(word))
            handler.wfile.flush()
            time.sleep(0.02)
        if words:
            handler.wfile.write(b"data: [DONE]\n\n")

    return answer


def later(answer, seconds):
    def wait(handler, asked):
        time.sleep(seconds)
        answer(handler, asked)

    return wait


def fails(status, message):
    error = {"error": {"message": message, "type": "server_error", "code": None, "param": None}}
    return lambda handler, _: handler.send(status, error)


def said(address, **options):
    """What the model says, and how often it was asked."""
    client = openai.OpenAI(base_url=f"{address}/v1", api_key="secret", max_retries=0, timeout=10, **options)
    messages = [{"role": "user", "content": "hello"}]
    stream = client.chat.completions.create(model="m", messages=messages, stream=True)
    return "".join(chunk.choices[0].delta.content or "" for chunk in stream)


def check(what, found, expected):
    assert found == expected, f"{what}: {found!r}, not {expected!r}"
    print(f"clients: {what}")


def language_models():
    quick = later(streams(["so", " quick"]), 0.1)
    with backend(streams(["too", " late"], silent_for=3)) as slow, backend(quick) as fast:
        with proxy([slow, fast], "--win-on", "byte") as address:
            began = time.monotonic()
            check("openai: the first words win, not the first head", said(address), "so quick")
            assert time.monotonic() - began < 2.5, "it didn't wait for the other"
    with backend(streams([])) as empty, backend(later(streams(["words"]), 0.3)) as full:
        with proxy([empty, full], "--win-on", "byte") as address:
            check("openai: a stream without a word loses", said(address), "words")
    with backend(fails(429, "quota")) as busy, backend(streams(["the", " other"])) as free:
        with proxy([busy, free], "--win-on", "byte") as address:
            check("openai: a provider whose quota is used up loses", said(address), "the other")
    with backend(fails(400, "no such model")) as one, backend(fails(400, "no such model")) as other:
        with proxy([one, other], "--on-failure", "best") as address:
            try:
                said(address)
                raise AssertionError("an error isn't told")
            except openai.BadRequestError as error:
                check("openai: what all providers say is told in their words", error.body["message"], "no such model")
        with proxy([one, other]) as address:
            try:
                said(address)
                raise AssertionError("an error isn't told")
            except openai.InternalServerError as error:
                check("openai: or in the program's", (error.status_code, error.body["status"]), (502, 502))


def answers(result=None, error=None):
    def answer(handler, asked):
        told = {"error": error} if error else {"result": result}
        handler.send(200, {"jsonrpc": "2.0", "id": asked["id"], **told})

    return answer


def json_rpc():
    behind = answers(error={"code": -32000, "message": "header not found"})
    rule = ("--lose-if", r'body ~ ^\s*\{[^{]*"error"\s*:')
    with backend(behind) as lost, backend(later(answers("0x10d4f"), 0.2)) as good:
        with proxy([lost, good], *rule) as address:
            node = jsonrpclib.ServerProxy(address)
            check("JSON-RPC: an error in a 200 loses to a result", node.eth_blockNumber(), "0x10d4f")
            check("JSON-RPC: each node was asked once", (lost.asked, good.asked), (1, 1))
        with proxy([lost, good]) as address:
            try:
                jsonrpclib.ServerProxy(address).eth_blockNumber()
                raise AssertionError("the rule isn't what makes the difference")
            except jsonrpclib.ProtocolError as error:
                check("JSON-RPC: and wins without a rule", error.args[0][0], -32000)
    with backend(behind) as one, backend(behind) as other:
        with proxy([one, other], *rule) as address:
            # A 502, as problem+json: clients of JSON-RPC send JSON, and say nothing of what they take.
            call = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "eth_blockNumber", "params": []}).encode()
            request = urllib.request.Request(address, call, {"Content-Type": "application/json"})
            try:
                urllib.request.urlopen(request)
                raise AssertionError("an error isn't told")
            except urllib.error.HTTPError as error:
                told = json.load(error)
                legs = [leg["outcome"] for leg in told["legs"]]
                check("JSON-RPC: errors of all nodes are a 502 that says so", (error.code, legs), (502, ["unfit"] * 2))


for name in ("http_proxy", "https_proxy", "all_proxy"):
    os.environ.pop(name, None)
    os.environ.pop(name.upper(), None)
language_models()
json_rpc()
