"""A real browser before a real server: what the tests of the page share."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from patience import PATIENCE

EXAMPLES = Path(__file__).parent.parent / "examples" / "photos"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
PHONE: dict[str, Any] = {"viewport": {"width": 360, "height": 740}, "is_mobile": True, "has_touch": True}
DESKTOP: dict[str, Any] = {"viewport": {"width": 1280, "height": 800}}
OTHER_NAME = "belt.local"
"""A name that leads the browser to this machine: a page from there over plain http is no secure context."""
WAIT_MS = 1000 * PATIENCE
REFUSED = "the server responded with a status of 4"
"""What browsers write to the console of a request that was refused."""
_FLAGS = (
    "--no-sandbox",
    "--use-fake-device-for-media-stream=fps=5",  # drawing 20 pictures a second takes a whole core
    "--use-fake-ui-for-media-stream",
    f"--host-resolver-rules=MAP {OTHER_NAME} 127.0.0.1",
)


@contextmanager
def chromium() -> Iterator[Any]:
    """Chromium with a camera that shows a test picture; skips the test where there is none."""
    api = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install playwright")
    if CHROMIUM is None:
        pytest.skip("no chromium: apt-get install chromium")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=[*_FLAGS], timeout=WAIT_MS)
        yield browser
        browser.close()


class Watched:
    """A page in a browser, and all that should not happen on it: errors, and requests to other hosts."""

    def __init__(self, browser: Any, url: str, expected: str, **context: Any) -> None:
        self.context = browser.new_context(**context)
        self.context.set_default_timeout(WAIT_MS)
        self.page = self.context.new_page()
        self.url, self._expected = url, expected
        self.errors: list[str] = []
        self.elsewhere: list[str] = []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", self._note)
        self.page.on("request", self._look)
        self.page.on("dialog", lambda dialog: self.errors.append(f"a box of the browser: {dialog.message}"))
        self.page.goto(url)

    def _note(self, message: Any) -> None:
        known = self._expected and self._expected in message.text
        url = message.location.get("url", "")
        gone = (
            REFUSED in message.text and "/thumb?" in url
        )  # the photo was moved while its picture was under way
        if message.type in ("error", "warning") and not known and not gone:
            self.errors.append(f"{message.text} ({url})")

    def _look(self, request: Any) -> None:
        if not request.url.startswith((self.url, "blob:" + self.url, "data:")):
            self.elsewhere.append(request.url)


@contextmanager
def watched(browser: Any, url: str, expected: str = "", **context: Any) -> Iterator[Any]:
    """A page that must raise no error, but for `expected` on the console, and ask no other host."""
    watch = Watched(browser, url, expected, **context)
    try:
        yield watch.page
        assert not watch.errors, watch.errors
        assert not watch.elsewhere, watch.elsewhere
    finally:
        watch.context.close()


def photos_of(label: str, start: int, stop: int) -> list[str]:
    """Example photos of a class."""
    return [str(path) for path in sorted((EXAMPLES / label).glob("*.jpg"))[start:stop]]


def lay_task(data: Path, task: str, labels: tuple[str, ...], photos: int) -> Path:
    """Put a task's photos on the disk, as a person may do at any time; its folder."""
    for label in labels:
        (data / task / label).mkdir(parents=True)
        for path in photos_of(label, 0, photos):
            shutil.copy(path, data / task / label)
    return data / task


def open_task(page: Any, task: str, part: str = "photos") -> None:
    """Go to a part of a task, as a link from elsewhere would."""
    page.evaluate("to => { location.hash = to }", f"#/task/{task}/{part}")
    page.get_by_role("heading", level=1, name=task, exact=True).wait_for()


def go(page: Any, part: str) -> None:
    """Click one of the tabs of a task."""
    page.get_by_role("navigation").get_by_role("link", name=part).click()


def until(page: Any, condition: str, value: Any = None) -> None:
    """Wait until a JavaScript function of `value` is true; the page's policy forbids playwright's own way."""
    end = time.monotonic() + WAIT_MS / 1000
    while not page.evaluate(condition, value):
        assert time.monotonic() < end, condition
        page.wait_for_timeout(50)


def eventually(page: Any, condition: Callable[[], bool]) -> None:
    """Wait until something holds that the page shows before the device has done it."""
    end = time.monotonic() + WAIT_MS / 1000
    while not condition():
        assert time.monotonic() < end
        page.wait_for_timeout(50)


def says(page: Any, line: str) -> None:
    """Wait until a notice says so."""
    page.locator(".notice", has_text=line).first.wait_for()
