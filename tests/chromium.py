"""A headless Chromium, driven by its own protocol: what a page shows, as a person would see it."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote
from urllib.request import Request, urlopen

from tornado.ioloop import IOLoop
from tornado.websocket import WebSocketClientConnection, websocket_connect

NAMES = ("chromium", "chromium-browser", "google-chrome")
#: All text of a page, that of Bokeh's shadow trees too.
TEXT = """(() => {
    const found = [];
    const walk = (node) => {
        if (["STYLE", "SCRIPT"].includes(node.tagName)) return;
        if (node.nodeType === Node.TEXT_NODE) found.push(node.textContent);
        if (node.shadowRoot) node.shadowRoot.childNodes.forEach(walk);
        node.childNodes.forEach(walk);
    };
    walk(document.body);
    return found.join(" ").replace(/\\s+/g, " ");
})()"""


def installed() -> str | None:
    """Return Chromium's path, None if there is none."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Page:
    """An open page.

    Parameters
    ----------
    url : str
        What the browser's protocol calls it by.
    """

    def __init__(self, url: str) -> None:
        self._loop = IOLoop(make_current=False)
        self._connection: WebSocketClientConnection = self._loop.run_sync(lambda: websocket_connect(url))
        self._n = 0

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """Return the browser's answer to a command."""
        self._n += 1

        async def asked() -> dict[str, Any]:
            await self._connection.write_message(
                json.dumps({"id": self._n, "method": method, "params": params})
            )
            while True:
                answer = json.loads(await self._connection.read_message() or "null")
                assert answer, "Chromium is gone"
                if answer.get("id") == self._n:
                    return answer["result"]

        return self._loop.run_sync(asked, timeout=60)

    def text(self) -> str:
        """Return what the page shows now."""
        return self.ask("Runtime.evaluate", expression=TEXT)["result"].get("value", "")

    def wait_for(self, part: str, *, seconds: float = 60) -> str:
        """Return what the page shows as soon as that has a part in it."""
        end = time.monotonic() + seconds
        while part not in (text := self.text()):
            assert time.monotonic() < end, f"no {part!r} in {text!r}"
            time.sleep(0.1)  # between two looks at the page
        return text

    def close(self) -> None:
        """Leave the page."""

        async def leave() -> None:
            self._connection.close()

        self._loop.run_sync(leave)
        self._loop.close()


@contextmanager
def browsing(path: str, folder: Path):
    """Run the Chromium at `path`; yield what opens a page."""
    process = subprocess.Popen(
        [
            path,
            *(
                "--headless=new",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--no-first-run",
            ),
            *("--remote-debugging-port=0", f"--user-data-dir={folder}", "about:blank"),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    pages: list[Page] = []
    try:
        told = folder / "DevToolsActivePort"
        end = time.monotonic() + 60
        while not told.exists() or "\n" not in told.read_text():
            assert time.monotonic() < end, "Chromium doesn't start"
            time.sleep(0.05)  # between two looks for its file
        port = told.read_text().splitlines()[0]

        def visit(url: str) -> Page:
            request = Request(f"http://127.0.0.1:{port}/json/new?{quote(url)}", method="PUT")
            with urlopen(request) as answer:
                pages.append(Page(json.loads(answer.read())["webSocketDebuggerUrl"]))
            return pages[-1]

        yield visit
    finally:
        process.terminate()
        process.wait(30)
        for page in pages:
            page.close()
