"""Has chromium open a page through the program over HTTPS: browse_https.py PROGRAM"""

import base64
import contextlib
import hashlib
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import threading
from http.server import BaseHTTPRequestHandler

from backends import serve
from browser import Browser, until

FETCHES = 40
UPLOAD = 300_000
PAGE = f"""<!DOCTYPE html><title>Through the proxy</title><main></main><script>
const told = {{}};
const tell = (what, value) => told[what] = value;
const text = async (...request) => (await fetch(...request)).text();
Promise.all([...Array({FETCHES}).keys()].map(n => text('/echo/' + n)))
    .then(all => tell('fetched', all.filter((path, n) => path === '/echo/' + n).length), error => tell('fetched', String(error)));
text('/length', {{method: 'POST', body: 'x'.repeat({UPLOAD})}}).then(length => tell('posted', length), error => tell('posted', String(error)));
text('/forwarded').then(proto => tell('forwarded', proto));
const events = new EventSource('/events');
let heard = '';
events.onmessage = event => {{
    heard += event.data;
    if (heard.length === 3) {{ events.close(); tell('heard', heard); }}
}};
</script>"""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path == "/events":
            return self.tell_events()
        echoed = self.headers["X-Forwarded-Proto"] if self.path == "/forwarded" else self.path
        kind, body = ("text/html", PAGE) if self.path == "/" else ("text/plain", echoed)
        self.answer(kind, body)

    def do_POST(self):
        self.answer("text/plain", str(len(self.rfile.read(int(self.headers["Content-Length"])))))

    def answer(self, kind, body):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def tell_events(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        for letter in "abc":
            self.wfile.write(f"data: {letter}\n\n".encode())
            self.wfile.flush()

    def log_message(self, *_):
        pass


def certificate(folder):
    """A file with a certificate and its key, and what chromium knows its key by."""
    file, key = folder / "server.pem", folder / "key.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30",
                    "-subj", "/CN=front.example", "-addext", "subjectAltName=DNS:front.example", "-keyout", key, "-out", file],
                   check=True, capture_output=True)
    public = subprocess.run(["openssl", "pkey", "-in", key, "-pubout", "-outform", "DER"], check=True, capture_output=True).stdout
    file.write_bytes(file.read_bytes() + key.read_bytes())
    return file, base64.b64encode(hashlib.sha256(public).digest()).decode()


@contextlib.contextmanager
def proxy(program, file):
    command = [program, "--listen", "off", "--tls-listen", "127.0.0.1:0", "--tls-cert", file, "--admin-listen", "off",
               "--backends", f"{serve(Handler)},{serve(Handler)}"]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("RED_TENTACLE_")}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        port = next(found.group(1) for line in process.stderr if (found := re.search(r"listens for HTTPS on .*:(\d+)", line)))
        threading.Thread(target=lambda: [None for _ in process.stderr], daemon=True).start()
        yield port
    finally:
        process.kill()
        process.wait()


def main():
    with tempfile.TemporaryDirectory(prefix="https-", ignore_cleanup_errors=True) as folder:
        folder = pathlib.Path(folder)
        file, key = certificate(folder)
        browser = Browser(folder / "browser", "--host-resolver-rules=MAP *.example 127.0.0.1",
                          f"--ignore-certificate-errors-spki-list={key}")
        try:
            with proxy(sys.argv[1], file) as port:
                tab = browser.tab()
                tab.open(f"https://front.example:{port}/", "main")
                until("the page has told all", lambda: tab.evaluate("Object.keys(told).length") == 4)
                told = json.loads(tab.evaluate("JSON.stringify(told)"))
                assert told == {"fetched": FETCHES, "posted": str(UPLOAD), "forwarded": "https", "heard": "abc"}, told
                protocols = tab.evaluate("[...new Set(performance.getEntries().map(e => e.nextHopProtocol).filter(Boolean))].join()")
                assert protocols == "http/1.1", protocols
                assert tab.security["protocol"] == "TLS 1.3", tab.security
                tab.done()
                print(f"https: {FETCHES} at once, {UPLOAD} bytes up, an event stream: {tab.security['protocol']}, {protocols}")
        finally:
            browser.process.kill()
            browser.process.wait()


main()
