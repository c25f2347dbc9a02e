"""A headless Chromium that waits for the texts of a page which is drawn by scripts, and takes its picture."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from websockets.sync.client import connect

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
_TEXTS = "document.body.innerText + ' ' + [...document.querySelectorAll('svg text')].map(e => e.textContent).join(' ')"
_POLL_SECONDS = 0.3


class Browser:
    """One tab; a context that ends the process.

    Args:
        folder: for its profile.
        width: of the window, CSS pixels; ``height`` likewise.
    """

    def __init__(self, folder: Path, width: int = 1400, height: int = 1800) -> None:
        self._port = folder / "DevToolsActivePort"
        assert CHROMIUM is not None
        self._process = subprocess.Popen(
            [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
             "--remote-debugging-port=0", f"--user-data-dir={folder}", f"--window-size={width},{height}",
             "about:blank"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self._number, self._open = 0, ExitStack()

    def __enter__(self) -> Browser:
        wait_for(self._port.exists)
        port, path = self._port.read_text().split()
        self._socket = self._open.enter_context(connect(f"ws://127.0.0.1:{port}{path}", max_size=None))
        self._session: str | None = None
        [target] = [one for one in self.send("Target.getTargets")["targetInfos"] if one["type"] == "page"]
        self._session = self.send("Target.attachToTarget", targetId=target["targetId"], flatten=True)["sessionId"]
        return self

    def __exit__(self, *error: object) -> None:
        self._open.close()
        self._process.terminate()
        self._process.wait()

    def send(self, method: str, **params: Any) -> Any:
        """A command of the DevTools protocol, and its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        self._socket.send(json.dumps(message | ({"sessionId": self._session} if self._session else {})))
        while True:
            answer = json.loads(self._socket.recv(timeout=60))
            if answer.get("id") == self._number:
                return answer["result"]

    def open(self, url: str) -> None:
        """Go to a page."""
        self.send("Page.navigate", url=url)

    def evaluate(self, script: str) -> Any:
        """The value of an expression of JavaScript."""
        return self.send("Runtime.evaluate", expression=script, returnByValue=True)["result"].get("value")

    def text(self) -> str:
        """All text that is seen, that of charts included."""
        return str(self.evaluate(_TEXTS))

    def wait_for(self, *texts: str) -> str:
        """Wait until all these texts are seen; return all text."""
        wait_for(lambda: all(text in self.text() for text in texts), lambda: f"{texts} in {self.text()!r}")
        return self.text()

    def click(self, text: str) -> None:
        """Click on the tab or button with a text."""
        found = f"[...document.querySelectorAll('[role=tab], button')].find(e => e.innerText.includes({text!r}))"
        self.evaluate(f"{found}.click()")

    def picture(self) -> bytes:
        """The window as PNG."""
        return base64.b64decode(self.send("Page.captureScreenshot", format="png")["data"])


def wait_for(condition: Callable[[], bool], what: Callable[[], str] = str, seconds: float = 60) -> None:
    """Wait until a condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, what()
        time.sleep(_POLL_SECONDS)
