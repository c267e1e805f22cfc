"""A headless Chromium for tests, spoken to over a pipe in its DevTools protocol; no package is needed for it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CHROMIUM = next((path for name in ("chromium", "chromium-browser", "google-chrome", "chrome") if (path := shutil.which(name))), None)
Json = dict[str, Any]
ON_3_AND_4 = """
import fcntl, os, sys
ends = [fcntl.fcntl(int(end), fcntl.F_DUPFD, 10) for end in sys.argv[1:3]]
for place, end in zip((3, 4), ends): os.dup2(end, place)
os.execv(sys.argv[3], sys.argv[3:])
"""  # the protocol's pipes are file descriptors 3 and 4
READY = "document.readyState === 'complete' && location.href !== 'about:blank'"


LEAVING = "navigated or closed"


class PageLeft(Exception):
    """The page went away before it answered."""


@dataclass
class Browser:
    """One open page. ``complaints``: errors it logged, exceptions, and requests for anything but its own files."""

    into: Any
    out: Any
    session: str = ""
    count: int = 0
    complaints: list[str] = field(default_factory=list)

    def call(self, method: str, **parameters: Any) -> Json:
        self.count += 1
        message = {"id": self.count, "method": method, "params": parameters} | ({"sessionId": self.session} if self.session else {})
        self.into.write(json.dumps(message).encode() + b"\0")
        self.into.flush()
        while True:
            answer = self._read()
            if answer.get("id") == self.count:
                if LEAVING in answer.get("error", {}).get("message", ""):
                    raise PageLeft(method)
                assert "error" not in answer, answer
                result: Json = answer["result"]
                return result
            self._note(answer)

    def _read(self) -> Json:
        text = bytearray()
        while (byte := self.out.read(1)) != b"\0":
            assert byte, "the browser ended"
            text += byte
        message: Json = json.loads(text)
        return message

    def _note(self, event: Json) -> None:
        method, parameters = event.get("method"), event.get("params", {})
        if method == "Network.requestWillBeSent" and not parameters["request"]["url"].startswith(("file:", "data:")):
            self.complaints.append(f"request for {parameters['request']['url']}")
        if method == "Runtime.exceptionThrown" or (method == "Log.entryAdded" and parameters["entry"]["level"] == "error"):
            self.complaints.append(json.dumps(parameters)[:500])

    def open(self, page: Path, width: int = 1300, scheme: str = "light", fragment: str = "") -> None:
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.call("Page.navigate", url="about:blank")
        self.call("Page.navigate", url=page.as_uri() + fragment)
        while not self.value(READY):
            pass

    def value(self, expression: str) -> Any:
        """What a JavaScript expression comes to; a promise is waited for. One that is left meanwhile cannot say: the next is asked."""
        try:
            answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        except PageLeft:
            return self.value(expression)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def press(self, *keys: str, modifiers: int = 0) -> None:
        for key in keys:
            text = {"Enter": "\r"}.get(key, key if len(key) == 1 else "")
            self.call("Input.dispatchKeyEvent", type="keyDown", key=key, text=text, modifiers=modifiers)
            self.call("Input.dispatchKeyEvent", type="keyUp", key=key, modifiers=modifiers)


@contextmanager
def browser(profile: Path) -> Iterator[Browser]:
    """A browser with one page; ``profile``: an empty folder."""
    assert CHROMIUM is not None
    (their_in, our_out), (our_in, their_out) = os.pipe(), os.pipe()
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", f"--user-data-dir={profile}", "about:blank"]
    command = [sys.executable, "-c", ON_3_AND_4, str(their_in), str(their_out), CHROMIUM, *options]
    process = subprocess.Popen(command, pass_fds=(their_in, their_out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    os.close(their_in)
    os.close(their_out)
    with os.fdopen(our_out, "wb") as into, os.fdopen(our_in, "rb") as out:
        page = Browser(into, out)
        try:
            target = page.call("Target.createTarget", url="about:blank")["targetId"]
            page.session = page.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
            for domain in ("Page", "Runtime", "Log", "Network"):
                page.call(f"{domain}.enable")
            yield page
        finally:
            process.terminate()
            process.wait(timeout=30)
