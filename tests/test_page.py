"""The page of `serve` as a person uses it, in a real browser before a real server."""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from page import DESKTOP, EXAMPLES, PHONE, Watched, chromium, photos_of, serving

LABELS = ("bolt", "leaf", "tomato")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(tmp_path_factory.mktemp("served") / "tasks") as address:
        yield address


@contextmanager
def watched(browser: Any, url: str, **context: Any) -> Iterator[Any]:
    """A page that must raise no error and ask no other host."""
    watch = Watched(browser, url, **context)
    yield watch.page
    watch.close()


def new_task(page: Any, name: str) -> None:
    page.get_by_label(re.compile("What is it about|New task")).fill(name)
    page.get_by_role("button", name="Start").click()
    page.get_by_role("heading", level=1, name=name, exact=True).wait_for()


def add_class(page: Any, label: str) -> None:
    page.get_by_label("Name of the class").fill(label)
    page.keyboard.press("Enter")
    page.locator(".class .label", has_text=label).first.wait_for()


def tab(page: Any, name: str) -> None:
    page.get_by_role("navigation").get_by_role("link", name=re.compile(f"^{name}")).click()


@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_from_nothing_to_a_corrected_answer(
    browser: Any, url: str, size: dict[str, Any], request: Any
) -> None:
    phone = size is PHONE
    with watched(browser, url, **size) as page:
        new_task(page, f"Belt {request.node.callspec.id}")
        for label in LABELS:
            add_class(page, label)
        for label in LABELS:
            row = page.locator(".class", has_text=label)
            if phone:
                for photo in photos_of(label, 0, 12):
                    row.get_by_label(f"Take photo of {label}").set_input_files(photo)
            else:
                row.get_by_role("link").click()
                page.get_by_role("heading", level=2, name=label).wait_for()
                page.get_by_label("Add files").set_input_files(photos_of(label, 0, 12))
            row.get_by_text("12 photos", exact=True).wait_for()
        page.get_by_role("link", name="Teach it").click()
        page.get_by_role("button", name="Teach it", exact=True).click()
        page.get_by_role("heading", name="Version 1").wait_for()
        assert re.search(r"It gets \d of 6 right", page.locator(".verdict").inner_text())
        assert page.locator(".version").count() == 1

        tab(page, "Try it")
        page.get_by_label("Choose a photo").set_input_files(photos_of("tomato", 20, 21))
        page.locator(".answer:not(.waiting)").wait_for()
        page.get_by_role("button", name="leaf").click()  # a person says that it is a leaf
        page.get_by_role("button", name="Learn it now").click()
        page.get_by_text("Learned. Version 2 is in use.").wait_for()
        page.get_by_label("Choose a photo").set_input_files(photos_of("bolt", 20, 21))
        page.wait_for_function("document.querySelectorAll('.answers li').length === 2")
        assert page.locator(".answer-label").inner_text() in (*LABELS, "None of these")
