"""A real browser before a real server: what the tests of the page share."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples" / "photos"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
PHONE: dict[str, Any] = {"viewport": {"width": 360, "height": 740}, "is_mobile": True, "has_touch": True}
DESKTOP: dict[str, Any] = {"viewport": {"width": 1280, "height": 800}}
_WAIT_MS = 60_000
_FLAGS = ("--no-sandbox", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")


@contextmanager
def serving(data: Path, *options: str) -> Iterator[str]:
    """`qprompt-edge serve` on a free port of the loopback address; its address. It is ended as systemd would."""
    command = [sys.executable, "-m", "qprompt_edge", "serve", "--port", "0", "--data", str(data), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ) as server:
        try:
            assert server.stdout is not None
            yield json.loads(server.stdout.readline())["url"]
        finally:
            server.terminate()
            assert server.wait(10) == 0


@contextmanager
def chromium() -> Iterator[Any]:
    """Chromium with a camera that shows a test picture; skips the test where there is none."""
    api = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: pip install playwright"
    )
    if CHROMIUM is None:
        pytest.skip("chromium is not installed: apt-get install chromium")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=[*_FLAGS])
        yield browser
        browser.close()


class Watched:
    """A page in a browser, and all that should not happen on it: errors, and requests to other hosts."""

    def __init__(self, browser: Any, url: str, **context: Any) -> None:
        self.context = browser.new_context(**context)
        self.page = self.context.new_page()
        self.page.set_default_timeout(_WAIT_MS)
        self.url = url
        self.errors: list[str] = []
        self.elsewhere: list[str] = []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", self._note)
        self.page.on("request", self._look)
        self.page.goto(url)

    def _note(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.errors.append(f"{message.text} ({message.location.get('url')})")

    def _look(self, request: Any) -> None:
        if not request.url.startswith((self.url, "blob:" + self.url, "data:")):
            self.elsewhere.append(request.url)

    def close(self) -> None:
        """Close it, and fail if anything happened that should not."""
        self.context.close()
        assert self.errors == []
        assert self.elsewhere == []


def photos_of(label: str, start: int, stop: int) -> list[str]:
    """Example photos of a class."""
    return [str(path) for path in sorted((EXAMPLES / label).glob("*.jpg"))[start:stop]]
