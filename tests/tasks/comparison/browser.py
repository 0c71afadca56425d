"""A headless Chromium that opens a page from a file and says what happened, over the DevTools protocol."""

import base64
import itertools
import json
import os
import shutil
import subprocess
import tempfile
import time
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

PATIENCE = 120
"""Seconds for any one answer of the browser: a busy machine is slow."""


def chromium():
    """Return the command of a Chromium, None where there is none."""
    return os.environ.get("CHROMIUM") or next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
    )


def axe_source():
    """Return axe-core's JavaScript, None where it is not installed: from the file AXE names, or the package axe-core-python."""
    named = os.environ.get("AXE")
    if named:
        return Path(named).read_text(encoding="utf-8")
    spec = find_spec("axe_core_python")
    if spec and spec.submodule_search_locations:
        found = sorted(Path(spec.submodule_search_locations[0]).rglob("axe*.js"))
        return found[0].read_text(encoding="utf-8") if found else None
    return None


class Tab:
    """One tab. Attributes: requests, every address that was asked for; complaints, what stands in the console."""

    def __init__(self, socket, session):
        self._socket, self._session, self._ids = socket, session, itertools.count(1)
        self.requests, self.complaints, self._happened = [], [], set()
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method, **parameters):
        number = next(self._ids)
        self._socket.send(json.dumps({"id": number, "sessionId": self._session, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv(timeout=PATIENCE))
            if message.get("id") == number and message.get("sessionId") == self._session:
                assert "error" not in message, f"{method}: {message['error']}"
                return message["result"]
            self._note(message)

    def _note(self, message):
        method, said = message.get("method"), message.get("params", {})
        self._happened.add(method)
        if method == "Network.requestWillBeSent":
            self.requests.append(said["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(said["exceptionDetails"].get("text", "exception"))
        elif method == "Runtime.consoleAPICalled" and said["type"] in ("error", "warning", "assert"):
            self.complaints.append(str(said["args"]))
        elif method == "Log.entryAdded" and said["entry"]["level"] in ("error", "warning"):
            self.complaints.append(said["entry"]["text"])

    def open(self, page, *, width, height=900, scheme="light", scripts=True):
        """Open a file at a width in pixels, and wait until it is loaded."""
        self.requests.clear()
        self.complaints.clear()
        self._happened.clear()
        self.call("Emulation.setScriptExecutionDisabled", value=not scripts)
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.call("Page.navigate", url=page.resolve().as_uri())
        while "Page.loadEventFired" not in self._happened:
            self._note(json.loads(self._socket.recv(timeout=PATIENCE)))

    def run(self, expression):
        """Return the value of a JavaScript expression, of its promise where it is one."""
        done = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in done, done["exceptionDetails"]
        return done["result"].get("value")

    def picture(self, path):
        """Write the whole page as a picture."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)["data"]))

    def pdf(self, path):
        """Write the page as it is printed."""
        path.write_bytes(base64.b64decode(self.call("Page.printToPDF", preferCSSPageSize=True, printBackground=True)["data"]))


@contextmanager
def browser():
    """Yield a tab of a Chromium of its own, which ends with the block."""
    from websockets.sync.client import connect

    with tempfile.TemporaryDirectory() as profile:
        command = [chromium(), "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
        command += ["--disable-background-networking", "--disable-component-update", "--remote-debugging-port=0"]
        process = subprocess.Popen(
            [*command, f"--user-data-dir={profile}", "about:blank"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            said = Path(profile) / "DevToolsActivePort"
            for _ in range(PATIENCE * 10):
                if said.exists() and len(said.read_text().splitlines()) == 2:
                    break
                assert process.poll() is None, f"{command[0]} ended by itself"
                time.sleep(0.1)
            port, path = said.read_text().splitlines()
            with connect(f"ws://127.0.0.1:{port}{path}", max_size=None, proxy=None, open_timeout=PATIENCE) as socket:
                socket.send(json.dumps({"id": -1, "method": "Target.createTarget", "params": {"url": "about:blank"}}))
                target = _answer(socket, -1)["targetId"]
                socket.send(
                    json.dumps({"id": -2, "method": "Target.attachToTarget", "params": {"targetId": target, "flatten": True}})
                )
                yield Tab(socket, _answer(socket, -2)["sessionId"])
        finally:
            process.terminate()
            try:
                process.wait(timeout=PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _answer(socket, number):
    while True:
        message = json.loads(socket.recv(timeout=PATIENCE))
        if message.get("id") == number:
            return message["result"]
