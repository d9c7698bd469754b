"""Drives Debian's chromium by the DevTools protocol: types, clicks, and looks at what comes back."""

import base64
import itertools
import json
import subprocess
import time
import urllib.request

import websocket

# In seconds: what takes longer has failed.
SOON = 20


class Browser:
    def __init__(self, folder, *flags):
        self.folder = folder
        command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
                   "--remote-debugging-port=0", "--remote-allow-origins=*", f"--user-data-dir={folder}", *flags, "about:blank"]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        # It writes there where it listens.
        port = folder / "DevToolsActivePort"
        self.port = until("chromium starts", lambda: port.exists() and port.read_text().count("\n") and port.read_text().split()[0])

    def tab(self):
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/json/new?about:blank", method="PUT")
        return Tab(json.load(urllib.request.urlopen(request))["webSocketDebuggerUrl"])


class Tab:
    def __init__(self, url):
        self.socket = websocket.create_connection(url, timeout=SOON)
        self.ids = itertools.count(1)
        self.complaints, self.asked = [], []
        self.security = {}
        self.is_loading = False
        for domain in ["Page", "DOM", "Log", "Runtime", "Network"]:
            self.call(f"{domain}.enable")

    def call(self, method, **parameters):
        number = next(self.ids)
        self.socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self.socket.recv())
            if message.get("id") == number:
                if "error" in message:
                    raise LookupError(f"{method} {parameters}: {message['error']}")
                return message["result"]
            self.note(message)

    def note(self, message):
        method, told = message["method"], message["params"]
        if method == "Log.entryAdded" and told["entry"]["level"] in ("error", "warning"):
            entry = told["entry"]
            # A change that is refused has the status of an error.
            if entry["source"] != "network" or not entry.get("url", "").endswith("/backends"):
                self.complaints.append(f"{entry['source']}: {entry['text']} {entry.get('url', '')}")
        if method == "Runtime.exceptionThrown" or (method == "Runtime.consoleAPICalled" and told["type"] == "error"):
            self.complaints.append(json.dumps(told))
        if method in ("Page.frameStartedLoading", "Page.frameStoppedLoading"):
            self.is_loading = method == "Page.frameStartedLoading"
        if method == "Network.requestWillBeSent":
            self.asked.append(told["request"]["url"])
        if method == "Network.responseReceived":
            self.security = told["response"].get("securityDetails", {})

    def listen(self, seconds):
        """Takes events for as long."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.call("Page.getLayoutMetrics")
            time.sleep(0.05)

    def open(self, url, mark="a[href='/races']"):
        """Until the page is there, with what it alone has."""
        self.call("Page.navigate", url=url)
        until(f"{url} is there", lambda: "</main>" in self.html() and self.find(mark))

    def html(self):
        try:
            root = self.call("DOM.getDocument")["root"]["nodeId"]
            return self.call("DOM.getOuterHTML", nodeId=root)["outerHTML"]
        except LookupError:
            return ""

    def find(self, selector):
        try:
            root = self.call("DOM.getDocument")["root"]["nodeId"]
            return self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        except LookupError:
            return 0

    def place(self, selector):
        """The middle of what is shown, or None."""
        node = self.find(selector)
        try:
            self.call("DOM.scrollIntoViewIfNeeded", nodeId=node)
            corners = self.call("DOM.getContentQuads", nodeId=node)["quads"][0]
        except (LookupError, IndexError):
            return None
        return sum(corners[::2]) / 4, sum(corners[1::2]) / 4

    def click(self, selector):
        places = [None]

        def rests():
            places.append(self.place(selector))
            return not self.is_loading and places[-1] == places[-2] and places[-1]

        x, y = until(f"{selector} is shown", rests)
        for kind in ["mousePressed", "mouseReleased"]:
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def type(self, selector, text):
        """Types at the end of what is there."""
        self.click(selector)
        self.call("Input.dispatchKeyEvent", type="keyDown", key="End", commands=["MoveToEndOfDocument"])
        self.call("Input.insertText", text=text)

    def evaluate(self, expression):
        return self.call("Runtime.evaluate", expression=expression)["result"].get("value")

    def evaluate_or(self, other, expression):
        """While one page makes way for the next there is nothing to evaluate in."""
        try:
            return self.evaluate(expression)
        except LookupError:
            return other

    def look(self, width, scheme):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 500)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        content = self.call("Page.getLayoutMetrics")["cssContentSize"]["width"]
        assert content <= width, f"at {width} px the page is {content} px wide"

    def picture(self, path, height):
        width = self.call("Page.getLayoutMetrics")["cssLayoutViewport"]["clientWidth"]
        clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
        shot = self.call("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))

    def done(self):
        assert not self.complaints, "the browser complains: " + "; ".join(self.complaints)
        self.socket.close()


def until(label, condition):
    end = time.monotonic() + SOON
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.05)
    raise SystemExit(f"page: not within {SOON} s: {label}")
