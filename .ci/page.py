"""Uses the status page in chromium as somebody would: page.py PROGRAM [FOLDER-FOR-PICTURES]"""

import itertools
import json
import os
import pathlib
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler

from backends import serve
from browser import SOON, Browser, until

HOSTILE = '"><script>alert(1)</script>'


def backend(think, fails_every=0, has_old=False):
    """A backend that takes some milliseconds, and its URL. Few have what is old."""
    count = itertools.count(1)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        server_version = HOSTILE

        def do_GET(self):
            time.sleep(max(think / 2, random.gauss(think, think / 4)) / 1000)
            fails = fails_every and next(count) % fails_every == 0
            self.send_response(503 if fails else 404 if "old" in self.path and not has_old else 200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    return serve(Handler)


class Proxy:
    def __init__(self, program, folder, *flags, fails_every=4):
        self.file = folder / "backends"
        folder.mkdir()
        dc1, dc2, dc3, far = backend(14), backend(17), backend(30, fails_every), backend(70, has_old=True)
        self.file.write_text(f"{dc1} name=dc1\n{dc2} name=dc2\n{dc3} name=dc3\n{far} name=far\n")
        command = [program, "--backends-file", self.file, "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", *flags]
        environment = {key: value for key, value in os.environ.items() if not key.startswith("RED_TENTACLE_")}
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
        told = ""
        for line in self.process.stderr:
            told += line
            if found := re.search(r"listens on (\S+)\n.*updates are taken on (\S+)", told, re.DOTALL):
                self.clients, self.admin = found.groups()
                break
        else:
            raise SystemExit(f"the program did not start: {told}")
        threading.Thread(target=lambda: [None for _ in self.process.stderr], daemon=True).start()

    def race(self, seconds):
        """Sends requests one after another for as long, now and then for what few have."""
        paths = ["/block/latest", "/block/18442907", "/tx/0x6f1c6c3b", "/peers", '/%22%3E%3Cscript%3E', "/balance?token=secret"]
        end = time.monotonic() + seconds
        for number in itertools.count():
            if time.monotonic() > end:
                break
            path = "/block/old" if number == 70 else random.choice(paths)
            try:
                urllib.request.urlopen(f"http://{self.clients}{path}", timeout=SOON).read()
            except urllib.error.HTTPError:
                pass

    def backends(self, token=None):
        fields = {"Authorization": f"Bearer {token}"} if token else {}
        request = urllib.request.Request(f"http://{self.admin}/backends", headers=fields | {"Accept": "application/json"})
        return {entry["url"]: entry for entry in json.load(urllib.request.urlopen(request))["backends"]}


def looks(tab, pictures, name):
    """Each width in each scheme, without an overflow."""
    for width, scheme in itertools.product([1280, 320], ["light", "dark"]):
        tab.look(width, scheme)
        if pictures:
            tab.picture(pictures / f"{name}-{width}-{scheme}.png", 1100 if width > 500 else 1900)
    tab.look(1280, "light")


def change(tab, proxy, added, token=None):
    """Adds a backend, pauses it, fails to add nonsense, and removes it again, by what the page has alone."""
    def listed():
        return proxy.backends(token)

    tab.type("#entry", f"{added} name=new")
    tab.click("#entry + button")
    until("the backend is listed", lambda: added in listed())
    until("the page is back", lambda: tab.find(f"button[name=pause][value='{added}']"))
    tab.click(f"button[name=pause][value='{added}']")
    until("it is paused", lambda: listed()[added]["state"] == "paused")
    until("the page says so", lambda: tab.find(f"button[name=resume][value='{added}']"))

    typed = f"{HOSTILE} name=x"
    tab.type("#entry", typed)
    tab.click("#entry + button")
    until("the error is told", lambda: tab.find(".error[role=alert]"))
    text = tab.html()
    assert "it must begin with http:// or https://" in text, text
    value = re.search(r'<input id="entry"[^>]* value="([^"]*)"', text).group(1)
    assert value.replace("&quot;", '"').replace("&lt;", "<").replace("&gt;", ">") == typed, value
    assert "<script>" not in text.replace("<script src", ""), text
    tab.click("a[href='/']")
    until("the page is back from its error", lambda: tab.find(f"button[name=resume][value='{added}']") and not tab.find(".error"))

    tab.click(f"tr:has(button[value='{added}']) summary")
    tab.click(f"button[name=remove][value='{added}']")
    until("it is removed", lambda: added not in listed())
    until("the page is back", lambda: not tab.find(f"button[value='{added}']") and tab.find("#entry"))


def with_scripts(tab, proxy):
    """The page looks again by itself, but not while something is typed."""
    own = f"http://{proxy.admin}/"
    tab.asked.clear()
    tab.listen(4.5)
    assert tab.asked.count(own) >= 2, f"the page does not look again: {tab.asked}"
    tab.type("#list", "\n# mine\n")
    tab.call("Runtime.evaluate", expression="document.activeElement.blur()")
    tab.asked.clear()
    tab.listen(5)
    assert tab.asked == [], f"the page looks again while something is typed: {tab.asked}"
    assert "# mine" in tab.evaluate("document.querySelector('#list').value")
    assert tab.evaluate("document.querySelector('#note').textContent").startswith("Held still since ")
    tab.evaluate("window.isOld = true")
    tab.click("#list ~ button")
    is_new = "!window.isOld && document.readyState === 'complete' && document.querySelector('#entry') !== null"
    until("the page runs again", lambda: tab.evaluate_or(None, is_new))
    tab.evaluate("document.querySelector('#edit summary').click()")
    tab.evaluate("document.activeElement.blur()")
    tab.asked.clear()
    tab.listen(4.5)
    assert tab.asked == [], f"the page looks again while something is open: {tab.asked}"


def without_scripts(tab, proxy):
    """The page loads anew by itself, but not where it is held still."""
    own = f"http://{proxy.admin}/"
    tab.asked.clear()
    tab.listen(6)
    assert own in tab.asked, f"the page does not load anew: {tab.asked}"
    tab.click("noscript a")
    until("the page is held", lambda: "data-held" in tab.html())
    tab.type("#entry", "http://typed.example")
    tab.asked.clear()
    tab.listen(6)
    assert tab.asked == [], f"the page loads anew: {tab.asked}"


def browse(browsers, free, kept, benching, pictures):
    """All that is tried, by a label."""
    added = backend(20)

    def scripts():
        tab = browsers[True].tab()
        tab.open(f"http://{free.admin}/")
        length = len(urllib.request.urlopen(urllib.request.Request(f"http://{free.admin}/", headers={"Accept": "text/html"})).read())
        print(f"page: {length} bytes")
        looks(tab, pictures, "scripts")
        change(tab, free, added)
        with_scripts(tab, free)
        return tab

    def plain():
        tab = browsers[False].tab()
        tab.open(f"http://{free.admin}/?still")
        looks(tab, pictures, "plain")
        change(tab, free, added)
        tab.open(f"http://{free.admin}/")
        without_scripts(tab, free)
        return tab

    def elsewhere():
        # Browsers say nothing of the site: it is plain HTTP, and not this host for all they know.
        tab = browsers[True].tab()
        tab.open(f"http://admin.example:{free.admin.split(':')[1]}/")
        change(tab, free, added)
        return tab

    def password():
        tab = browsers[True].tab()
        tab.open(f"http://me:s3cret%3A~@{kept.admin}/")
        change(tab, kept, added, "s3cret:~")
        return tab

    def benched():
        """Its row has a button more, and its state is a sentence."""
        until("a backend is benched", lambda: benching.race(0.2) or "benched" in [entry["state"] for entry in benching.backends().values()])
        tab = browsers[True].tab()
        tab.open(f"http://{benching.admin}/")
        tab.look(920, "light")
        assert tab.find("button[name=resume]"), tab.html()
        return tab

    return {"with scripts": scripts, "without scripts": plain, "as if on another host": elsewhere, "by a password": password, "with a bench": benched}


def main():
    program = sys.argv[1]
    pictures = pathlib.Path(sys.argv[2]) if len(sys.argv) > 2 else None
    if pictures:
        pictures.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    running = []
    with tempfile.TemporaryDirectory(prefix="page-", ignore_cleanup_errors=True) as folder:
        folder = pathlib.Path(folder)
        token = folder / "token"
        token.write_text("s3cret:~\n")
        try:
            free = Proxy(program, folder / "free", "--admin-host", "admin.example")
            running.append(free.process)
            kept = Proxy(program, folder / "kept", "--admin-token-file", token)
            running.append(kept.process)
            benching = Proxy(program, folder / "benching", "--bench", "2", fails_every=1)
            running.append(benching.process)
            browsers = {}
            for has_scripts, flags in [(True, []), (False, ["--blink-settings=scriptEnabled=false"])]:
                flags.append("--host-resolver-rules=MAP admin.example 127.0.0.1")
                browsers[has_scripts] = Browser(folder / f"browser-{has_scripts}", *flags)
                running.append(browsers[has_scripts].process)
            # A whole minute for a picture of one.
            free.race(63 if pictures else 2)
            for label, step in browse(browsers, free, kept, benching, pictures).items():
                step().done()
                print(f"page: {label}, ok ({time.monotonic() - began:.0f} s)", flush=True)
        finally:
            for process in running:
                process.kill()
                process.wait()


main()
