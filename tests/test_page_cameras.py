"""The cameras of the page, and what it says and does where something is missing."""

import re
from pathlib import Path
from typing import Any

import pytest
from page import (
    DESKTOP,
    OTHER_NAME,
    PHONE,
    REFUSED,
    WAIT_MS,
    eventually,
    go,
    lay_task,
    open_task,
    photos_of,
    until,
    watched,
)
from serving import Client, served

from qprompt_runtime.files import write_atomic

pytestmark = pytest.mark.flaky(reruns=1)  # a browser on a busy machine may come too late once

LABELS = ("bolt", "leaf", "tomato")


def test_the_live_camera_takes_bursts_while_something_is_held(browser: Any, server: Client) -> None:
    folder = lay_task(server.data, "Burst", LABELS, 1)
    with watched(browser, server.url, **DESKTOP) as page:
        open_task(page, "Burst")
        page.get_by_role("button", name="Live camera for bolt").first.click()
        page.get_by_text("Hold the button, or a number key, for a burst.").wait_for()
        page.get_by_role("button", name="Take a photo; hold for a burst").hover()
        page.mouse.down()
        # a camera that shows the same twice gives one photo: it is held until there are enough
        eventually(page, lambda: len(list((folder / "bolt").iterdir())) >= 4)
        page.get_by_text(re.compile(r"^([3-9]|\d\d+) taken for “bolt”$")).wait_for()
        page.mouse.up()
        page.keyboard.down("2")
        eventually(page, lambda: len(list((folder / "leaf").iterdir())) >= 3)
        page.get_by_text(re.compile(r"^([2-9]|\d\d+) taken for “leaf”$")).wait_for()
        page.keyboard.up("2")
        page.get_by_role("button", name="Close").last.click()
        page.locator(".tray").wait_for(state="hidden")
        assert len(list((folder / "tomato").iterdir())) == 1


def test_plain_http_from_elsewhere_says_why_there_is_no_live_camera(browser: Any, server: Client) -> None:
    lay_task(server.data, "Elsewhere", LABELS, 1)
    with watched(
        browser, f"http://{OTHER_NAME}:{server.port}/", "Cross-Origin-Opener-Policy", **PHONE
    ) as page:
        open_task(page, "Elsewhere")
        page.get_by_role("button", name="Live camera", exact=True).click()
        dialog = page.get_by_role("dialog")
        assert "plain http" in dialog.inner_text()
        assert "serve --tls" in dialog.inner_text()
        page.keyboard.press("Escape")
        row = page.locator(".class", has_text="leaf")
        row.get_by_label("Take photo of leaf").set_input_files(photos_of("leaf", 5, 6))
        row.get_by_text("2 of 12 photos").wait_for()


def test_live_frames_are_answered(browser: Any, server: Client) -> None:
    lay_task(server.data, "Live", LABELS, 4)
    with watched(browser, server.url, **PHONE) as page:
        open_task(page, "Live", "teach")
        page.get_by_role("button", name="Teach it", exact=True).click()
        page.get_by_role("heading", name="Version 1").wait_for()
        go(page, "Try it")
        page.get_by_role("button", name="Live camera").click()
        until(page, "() => document.querySelectorAll('.answers li').length >= 3")
        page.get_by_role("button", name="Stop").click()
        assert page.locator("video").evaluate("it => it.srcObject") is None
        assert page.locator(".answer-label").inner_text() in (*LABELS, "None of these")


def test_photos_wait_for_a_device_that_does_not_answer(browser: Any, server: Client) -> None:
    folder = lay_task(server.data, "Lost", ("bolt",), 1)
    context = browser.new_context(**DESKTOP)
    context.set_default_timeout(WAIT_MS)
    try:
        page = context.new_page()
        page.goto(server.url)
        open_task(page, "Lost")
        page.locator(".class-link").click()
        page.get_by_role("heading", level=2, name="bolt").wait_for()
        context.set_offline(True)
        page.get_by_label("Add files").set_input_files(photos_of("bolt", 1, 4))
        page.get_by_text("The device does not answer.").wait_for()
        page.get_by_text("Waiting for the device").wait_for()
        context.set_offline(False)
        page.get_by_text("The device answers again.").wait_for()
        page.get_by_role("heading", level=2, name="bolt 4").wait_for()
        assert len(list((folder / "bolt").iterdir())) == 4
    finally:
        context.close()


def test_a_photo_that_came_too_slowly_is_sent_again(browser: Any, server: Client) -> None:
    folder = lay_task(server.data, "Slow", ("bolt",), 1)
    late = iter([True])  # a phone slept while it sent the first photo

    def answer(route: Any) -> None:
        if route.request.method == "POST" and next(late, False):
            route.fulfill(status=408, json={"error": "nothing came for 20 seconds"})
        else:
            route.continue_()

    with watched(browser, server.url, REFUSED, **PHONE) as page:
        open_task(page, "Slow", "photos/bolt")
        page.route("**/classes/bolt/photos", answer)
        page.get_by_label("Add files").set_input_files(photos_of("bolt", 1, 4))
        page.get_by_role("heading", level=2, name="bolt 4").wait_for()
        assert len(list((folder / "bolt").iterdir())) == 4
        assert next(late, False) is False
        page.unroute_all(behavior="wait")


def test_a_token_is_asked_for_and_lets_one_in(browser: Any, tmp_path: Any) -> None:
    with served(tmp_path / "tasks", "--token") as locked:
        context = browser.new_context(**PHONE)
        context.set_default_timeout(WAIT_MS)
        try:
            page = context.new_page()
            page.goto(locked.url)
            page.get_by_label("Token", exact=True).fill(locked.token)
            page.keyboard.press("Enter")
            page.get_by_role("heading", name="Teach this device to tell things apart").wait_for()
            assert context.cookies()[0]["httpOnly"]
        finally:
            context.close()


def test_a_camera_of_the_device_is_answered_live(browser: Any, tmp_path: Path) -> None:
    """A folder stands for the camera, as it may for `watch`."""
    frames = tmp_path / "frames"
    frames.mkdir()
    lay_task(tmp_path / "tasks", "Device", LABELS, 4)
    with (
        served(tmp_path / "tasks", "--camera", str(frames)) as device,
        watched(browser, device.url, **DESKTOP) as page,
    ):
        open_task(page, "Device", "teach")
        page.get_by_role("button", name="Teach it", exact=True).click()
        page.get_by_role("heading", name="Version 1").wait_for()
        go(page, "Try it")
        page.get_by_role("button", name=f"Device camera {frames}").click()
        for i, path in enumerate(photos_of("leaf", 20, 24)):
            write_atomic(frames / f"{i}.jpg", Path(path).read_bytes())
        page.locator(".answers li").first.wait_for()
        page.locator(".try-stage > img").wait_for()
        page.get_by_role("button", name="Stop").click()
