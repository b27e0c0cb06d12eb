"""A headless Chromium for tests, driven through a pipe in its own protocol: pointer, keys, what it complains of."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

FLAGS = """--headless --no-sandbox --disable-gpu --disable-dev-shm-usage --disable-background-networking --disable-sync
--disable-component-update --no-first-run --no-default-browser-check --mute-audio --remote-debugging-pipe"""

LAUNCH = """
import fcntl, os, sys
ends = [fcntl.fcntl(int(end), fcntl.F_DUPFD_CLOEXEC, 10) for end in sys.argv[1:3]]
os.dup2(ends[0], 3)
os.dup2(ends[1], 4)
os.execv(sys.argv[3], sys.argv[3:])
"""
"""The browser listens on descriptor 3 and speaks on descriptor 4, wherever the pipes lie here."""


def find_browser() -> str:
    """Where Chromium is; the test is skipped where there is none."""
    found = [shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome")]
    path = next(filter(None, found), None)
    if path is None:
        pytest.skip("no chromium is installed")
    return path


@contextmanager
def opened_browser(folder: Path) -> Iterator[Page]:
    """A page in a browser of its own, whose profile lies in `folder`; the browser ends with the block."""
    there, back = os.pipe(), os.pipe()
    command = [find_browser(), *FLAGS.split(), f"--user-data-dir={folder / 'profile'}", "about:blank"]
    launch = [sys.executable, "-ISc", LAUNCH, str(there[0]), str(back[1]), *command]
    process = subprocess.Popen(
        launch,
        pass_fds=(there[0], back[1]),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(there[0])
    os.close(back[1])
    page = None
    try:
        yield (page := Page(there[1], back[0], folder))
    finally:
        if page is not None:
            with suppress(RuntimeError, TimeoutError, OSError):
                page.session = None
                page.call("Browser.close")
        os.close(there[1])
        os.close(back[0])
        try:
            with suppress(subprocess.TimeoutExpired):
                process.wait(10)
        finally:
            process.kill()
            process.wait()


class Page:
    """One page: what can be done with it, and what it has said so far."""

    def __init__(self, there: int, back: int, folder: Path) -> None:
        self.there, self.back, self.folder = there, back, folder
        self.buffer, self.number, self.session = b"", 0, None
        self.complaints: list[str] = []
        self.requests: list[str] = []
        targets = self.call("Target.getTargets")["targetInfos"]
        target = next(info["targetId"] for info in targets if info["type"] == "page")
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network", "Performance"):
            self.call(f"{domain}.enable")
        self.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder))

    # ------------------------------------------------------------------------------------------------- the protocol

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Ask the browser for something and wait for its answer; what else it says meanwhile is noted."""
        self.number += 1
        message: dict[str, Any] = {"id": self.number, "method": method, "params": params}
        if self.session is not None:
            message["sessionId"] = self.session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self.there, data) :]
        end = time.monotonic() + 300
        while True:
            answer = self.receive(end)
            if answer.get("id") == self.number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return answer["result"]

    def receive(self, end: float) -> dict[str, Any]:
        """The next message, after taking note of it."""
        while b"\0" not in self.buffer:
            if not select.select([self.back], [], [], max(0.0, end - time.monotonic()))[0]:
                raise TimeoutError("the browser does not answer")
            part = os.read(self.back, 1 << 20)
            if not part:
                raise RuntimeError("the browser has ended")
            self.buffer += part
        line, _, self.buffer = self.buffer.partition(b"\0")
        message = json.loads(line)
        self.note(message.get("method", ""), message.get("params", {}))
        return message

    def note(self, method: str, params: dict[str, Any]) -> None:
        """Errors and warnings go to `complaints`, whatever is asked of a network or a disk to `requests`."""
        if method == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.complaints.append(details.get("exception", {}).get("description") or details["text"])
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            self.complaints.append(" ".join(str(arg.get("value", arg.get("description"))) for arg in params["args"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.complaints.append(params["entry"]["text"])
        elif method == "Network.requestWillBeSent":
            url = params["request"]["url"]
            if not url.startswith(("data:", "blob:")):
                self.requests.append(url)

    # --------------------------------------------------------------------------------------------------- what one does

    def open(self, path: Path) -> None:
        """Load a file, until its `load` event."""
        self.call("Page.navigate", url=path.as_uri())
        self.wait("document.readyState === 'complete' && location.protocol === 'file:'")

    def run(self, expression: str) -> Any:
        """The value of a JavaScript expression; a promise is awaited."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in result:
            details = result["exceptionDetails"]
            raise RuntimeError(details.get("exception", {}).get("description") or details["text"])
        return result["result"].get("value")

    def wait(self, expression: str, seconds: float = 300.0) -> None:
        """Wait until an expression is true."""
        end = time.monotonic() + seconds
        while not self.run(f"Boolean({expression})"):
            if time.monotonic() > end:
                raise TimeoutError(f"still not so after {seconds} s: {expression}; complaints: {self.complaints}")
            time.sleep(0.02)

    def seconds(self) -> float:
        """Processor time of the page's process so far, its workers included."""
        metrics = self.call("Performance.getMetrics")["metrics"]
        return next(one["value"] for one in metrics if one["name"] == "ProcessTime")

    def window(self, width: int, height: int, dark: bool = False, touch: bool = False) -> None:
        """The size of the window, whether the system is dark, whether it is a telephone."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=touch)
        self.call("Emulation.setTouchEmulationEnabled", enabled=touch)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def place(self, selector: str, x: float, y: float) -> tuple[float, float]:
        """A point of an element, at fractions of its width and height, in the window; scrolled to, if need be."""
        box = self.run(
            f"(() => {{ const e = document.querySelector({selector!r}); e.scrollIntoView({{block: 'center', behavior: "
            "'instant'}); const b = e.getBoundingClientRect(); return [b.x, b.y, b.width, b.height]; })()"
        )
        return box[0] + x * box[2], box[1] + y * box[3]

    def drag(self, selector: str, points: list[tuple[float, float]]) -> None:
        """Press the pointer on the first of some points of an element, move over the others, let go."""
        places = [self.place(selector, *point) for point in points]
        self.mouse("mousePressed", places[0])
        for place in places[1:]:
            self.mouse("mouseMoved", place)
        self.mouse("mouseReleased", places[-1])

    def hover(self, selector: str, x: float = 0.5, y: float = 0.5) -> None:
        """Move the pointer onto an element."""
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=(at := self.place(selector, x, y))[0], y=at[1])

    def click(self, selector: str) -> None:
        """Click the middle of an element."""
        self.drag(selector, [(0.5, 0.5)])

    def mouse(self, kind: str, place: tuple[float, float]) -> None:
        options = {"button": "left", "buttons": int(kind != "mouseReleased"), "clickCount": 1}
        self.call("Input.dispatchMouseEvent", type=kind, x=place[0], y=place[1], **options)

    def key(self, *names: str) -> None:
        """Press keys one after the other: "Tab", "ArrowLeft", "Enter", or a character."""
        codes = {"Tab": 9, "Enter": 13, " ": 32, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40}
        for name in names:
            text = {"Enter": "\r"}.get(name, name if len(name) == 1 else "")
            code = codes.get(name, ord(name[0].upper()))
            key = {"key": name, "code": name, "windowsVirtualKeyCode": code}
            self.call("Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", text=text, **key)
            self.call("Input.dispatchKeyEvent", type="keyUp", **key)

    def give_file(self, selector: str, path: Path) -> None:
        """Choose a file in a file input."""
        node = self.call("DOM.getDocument")["root"]["nodeId"]
        found = self.call("DOM.querySelector", nodeId=node, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=found, files=[str(path)])

    def saved(self, name: str, seconds: float = 300.0) -> bytes:
        """What the page has saved under a name."""
        end = time.monotonic() + seconds
        while not (self.folder / name).is_file():
            if time.monotonic() > end:
                raise TimeoutError(f"{name} was not saved; complaints: {self.complaints}")
            self.run("new Promise(done => setTimeout(done, 20))")
        return (self.folder / name).read_bytes()

    def picture(self, path: Path, whole: bool = False) -> None:
        """A screenshot, for people."""
        shot = self.call(
            "Page.captureScreenshot", captureBeyondViewport=whole, **({"clip": self.extent()} if whole else {})
        )
        path.write_bytes(base64.b64decode(shot["data"]))

    def extent(self) -> dict[str, float]:
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        return {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
