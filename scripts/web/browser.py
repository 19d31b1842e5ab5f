"""A headless Chromium, by the W3C WebDriver protocol."""

import base64
import json
import os
import pathlib
import re
import subprocess
import threading
import time
import urllib.error
import urllib.request

# A machine may be busy with something else.
LIMIT_S = 90
POLL_S = 0.1
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
KEYS = {"Enter": "\ue007", "Tab": "\ue004", "ArrowRight": "\ue014", "ArrowLeft": "\ue012"}


class Gone(Exception):
    """An element is not there any more, or not yet."""


def wait_until(what, condition):
    """Waits for a condition to be something that counts as true, and returns that."""
    ends = time.monotonic() + LIMIT_S
    while True:
        try:
            found = condition()
        except Gone:
            found = None
        if found:
            return found
        if time.monotonic() > ends:
            raise AssertionError(f"waited in vain for {what}")
        time.sleep(POLL_S)


class Browser:
    """One browser with a profile of its own."""

    def __init__(self, folder):
        self.driver = subprocess.Popen(
            [os.environ.get("CHROMEDRIVER", "chromedriver"), "--port=0"],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=folder,
        )
        self.session = None
        port = None
        for line in self.driver.stdout:
            found = re.search(r"started successfully on port (\d+)", line)
            if found:
                port = found.group(1)
                break
        assert port, "chromedriver did not start"
        # What else it says is read, so that it never waits for a reader.
        threading.Thread(target=self.driver.stdout.read, daemon=True).start()
        self.base = f"http://127.0.0.1:{port}"
        arguments = ["--headless=new", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", f"--user-data-dir={folder}/profile"]
        if os.geteuid() == 0:
            arguments.append("--no-sandbox")  # Chromium refuses to run as root with it
        options = {"args": arguments}
        if "CHROMIUM" in os.environ:
            options["binary"] = os.environ["CHROMIUM"]
        wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}, "unhandledPromptBehavior": "accept"}
        self.session = self.post("/session", {"capabilities": {"alwaysMatch": wanted}})["sessionId"]

    def close(self):
        try:
            if self.session:
                self.call("DELETE", f"/session/{self.session}")
        finally:
            self.driver.terminate()
            self.driver.wait(LIMIT_S)

    def call(self, method, path, fields=None):
        body = None if fields is None else json.dumps(fields).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self.base + path, body, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=LIMIT_S) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            value = json.load(error)["value"]
            if value["error"] in ("no such element", "stale element reference"):
                raise Gone(value["message"]) from None
            raise AssertionError(f"{method} {path}: {value['error']}: {value['message']}") from None

    def post(self, path, fields):
        return self.call("POST", path, fields)

    def at(self, path):
        return f"/session/{self.session}{path}"

    def open(self, url):
        self.post(self.at("/url"), {"url": url})

    def url(self):
        return self.call("GET", self.at("/url"))

    def title(self):
        return self.call("GET", self.at("/title"))

    def run(self, script, *arguments):
        """The value of a function's body."""
        return self.post(self.at("/execute/sync"), {"script": script, "args": list(arguments)})

    def find(self, selector):
        found = self.post(self.at("/element"), {"using": "css selector", "value": selector})
        return found[ELEMENT]

    def click(self, selector):
        self.post(self.at(f"/element/{self.find(selector)}/click"), {})

    def type(self, selector, text):
        self.post(self.at(f"/element/{self.find(selector)}/value"), {"text": KEYS.get(text, text)})

    def text(self, selector):
        """All text of an element, whether it is seen or not."""
        found = self.run("return document.querySelector(arguments[0])?.textContent ?? null", selector)
        if found is None:
            raise Gone(selector)
        return found

    def is_shown(self, selector):
        return self.call("GET", self.at(f"/element/{self.find(selector)}/displayed"))

    def count(self, selector):
        return self.run("return document.querySelectorAll(arguments[0]).length", selector)

    def windows(self):
        return self.call("GET", self.at("/window/handles"))

    def window(self):
        return self.call("GET", self.at("/window"))

    def switch(self, window):
        self.post(self.at("/window"), {"handle": window})

    def close_window(self):
        self.call("DELETE", self.at("/window"))

    def log(self):
        """What the console was told since the last time; a violation of the policy is there, too."""
        entries = self.post(self.at("/se/log"), {"type": "browser"})
        return [f"{entry['level']} {entry['source']}: {entry['message']}" for entry in entries]

    def devtools(self, command, **fields):
        return self.post(self.at("/goog/cdp/execute"), {"cmd": command, "params": fields})

    def look(self, width, scheme):
        self.devtools("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.devtools("Emulation.setDeviceMetricsOverride", width=width, height=700, deviceScaleFactor=1, mobile=False)

    def screenshots(self, folder, name):
        """The page as it is now: light and dark, wide and narrow."""
        if folder is None:
            return
        for width in (1280, 390):
            for scheme in ("light", "dark"):
                self.look(width, scheme)
                time.sleep(0.3)  # a frame or two
                height = self.run("return Math.min(4000, Math.max(700, document.documentElement.scrollHeight))")
                clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
                picture = self.devtools("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)
                file = pathlib.Path(folder, f"{name}-{'wide' if width > 800 else 'narrow'}-{scheme}.png")
                file.write_bytes(base64.b64decode(picture["data"]))
        self.look(1280, "light")
