"""What the page mends and keeps: findings of a check, versions, and the review queue."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from page import DESKTOP, PHONE, eventually, go, lay_task, open_task, photos_of, says, watched
from serving import Client

from qprompt_edge.watching.review import ReviewFrame, new_id

pytestmark = pytest.mark.flaky(reruns=1)  # a browser on a busy machine may come too late once

LABELS = ("bolt", "leaf", "tomato")


def teach(page: Any, version: int) -> None:
    """Press the button and wait for the verdict."""
    page.get_by_role("button", name="Teach it").click()
    page.get_by_role("heading", name=f"Version {version}").wait_for()


def lay_queue(data: Path, task: str, frames: list[tuple[str, str]]) -> None:
    """Frames as `watch --review` leaves them: a photo, and what it was taken for."""
    queue = data / f"{task}.review"
    queue.mkdir()
    for i, (path, said) in enumerate(frames):
        frame = ReviewFrame(
            new_id(1_700_000_000 + i, f"{i:08x}"),
            1_700_000_000 + i,
            "belt camera",
            None,
            task,
            ((said, 0.5), ("leaf", 0.4)),
        )
        shutil.copy(path, queue / f"{frame.id}.jpg")
        (queue / f"{frame.id}.json").write_text(json.dumps(frame.to_json()))


def test_findings_are_mended_with_one_click(browser: Any, server: Client) -> None:
    folder = lay_task(server.data, "Mend", LABELS, 10)
    shutil.copy(folder / "bolt" / "00.jpg", folder / "bolt" / "copy.jpg")
    (folder / "leaf" / "broken.jpg").write_bytes((folder / "leaf" / "00.jpg").read_bytes()[:500])
    with watched(browser, server.url, "the server responded with a status of 415", **DESKTOP) as page:
        open_task(page, "Mend", "check")
        page.get_by_role("button", name="Check the photos").click()
        unreadable = page.locator(".finding", has_text="1 file cannot be read")
        unreadable.get_by_role("button", name="Delete").click()
        says(page, "1 photo deleted.")
        assert not (folder / "leaf" / "broken.jpg").exists()
        copies = page.locator(".finding", has_text="nearly the same")
        copies.get_by_role("button", name="Delete").first.click()
        page.locator(".finding-photo.mended").nth(1).wait_for()
        assert len(list((folder / "bolt").iterdir())) == 10
        page.locator(".notice", has_text="1 photo deleted.").last.get_by_role("button", name="Undo").click()
        says(page, "Undone")
        assert len(list((folder / "bolt").iterdir())) == 11


def test_versions_are_kept_compared_restored_sent_and_fetched(browser: Any, server: Client) -> None:
    folder = lay_task(server.data, "Versions", LABELS, 8)
    with watched(browser, server.url, **DESKTOP) as page:
        open_task(page, "Versions", "teach")
        teach(page, 1)
        first = (server.data / "Versions.qpt").read_bytes()
        for path in photos_of("stone", 0, 8):
            (folder / "stone").mkdir(exist_ok=True)
            shutil.copy(path, folder / "stone")
        page.reload()
        page.get_by_text("Learns 4 classes from 32 photos").wait_for()
        teach(page, 2)
        assert (server.data / "Versions.qpt").read_bytes() == first  # a later one is taken into use by hand
        page.get_by_role("button", name="Use version 2").click()
        says(page, "Version 2 is in use now.")
        assert (server.data / "Versions.qpt").read_bytes() != first
        page.get_by_role("button", name="Use version 1").click()
        says(page, "Version 1 is in use now.")
        assert (server.data / "Versions.qpt").read_bytes() == first
        with page.expect_download() as download:
            page.get_by_role("link", name="Download version 1 (.qpt)").click()
        assert Path(download.value.path()).read_bytes() == first
        page.get_by_role("button", name="Compare on the same photos").click()
        page.get_by_role("heading", name=re.compile(r"Right on the same \d+ photos")).wait_for()
        page.get_by_label("Upload a .qpt").set_input_files(
            {"name": "other.qpt", "mimeType": "application/octet-stream", "buffer": first}
        )
        says(page, "Uploaded as version 1.")  # the same bytes are the same version
        with page.context.expect_page() as report:
            page.get_by_role("link", name="Report of version 1").click()
        report.value.get_by_role("heading", level=1).wait_for()


def test_frames_are_labelled_by_key_learned_and_used(browser: Any, server: Client) -> None:
    folder = lay_task(server.data, "Queue", LABELS, 8)
    frames = [*photos_of("bolt", 20, 22), *photos_of("tomato", 20, 22), *photos_of("stone", 20, 21)]
    lay_queue(server.data, "Queue", [(path, "bolt") for path in frames])
    with watched(browser, server.url, **DESKTOP) as page:
        open_task(page, "Queue", "teach")
        teach(page, 1)
        before = (server.data / "Queue.qpt").read_bytes()
        go(page, "Review")
        page.get_by_text("5 frames left").wait_for()
        page.keyboard.press("Enter")
        page.get_by_text("4 frames left").wait_for()
        page.keyboard.press("3")
        page.get_by_text("3 frames left").wait_for()
        page.keyboard.press("u")
        page.get_by_text("4 frames left").wait_for()
        page.keyboard.press("3")
        page.get_by_text("3 frames left").wait_for()
        page.keyboard.press("Delete")
        page.get_by_text("2 frames left").wait_for()
        eventually(page, lambda: len(list((server.data / "Queue.review").glob("*.jpg"))) == 2)
        photos = {label: len(list((folder / label).iterdir())) for label in LABELS}
        assert photos == {"bolt": 9, "leaf": 8, "tomato": 9}
        page.get_by_text("2 frames labelled.").wait_for()
        page.get_by_role("button", name="Update and use it").click()
        says(page, "Learned. Version 2 is in use.")
        assert (server.data / "Queue.qpt").read_bytes() != before


def test_frames_are_labelled_with_a_thumb(browser: Any, server: Client) -> None:
    folder = lay_task(server.data, "Thumb", LABELS, 2)
    lay_queue(server.data, "Thumb", [(path, "bolt") for path in photos_of("tomato", 20, 22)])
    with watched(browser, server.url, **PHONE) as page:
        open_task(page, "Thumb", "review")
        page.get_by_role("button", name="tomato").click()
        page.get_by_text("1 frame left").wait_for()
        page.get_by_role("button", name="Throw away").click()
        page.get_by_role("heading", name="Nothing to review").wait_for()
        eventually(page, lambda: not list((server.data / "Thumb.review").glob("*.jpg")))
        assert len(list((folder / "tomato").iterdir())) == 3


def test_two_browsers_see_what_the_other_does(browser: Any, server: Client) -> None:
    folder = lay_task(server.data, "Both", LABELS, 6)
    with (
        watched(browser, server.url, **DESKTOP) as one,
        watched(browser, server.url, **PHONE) as other,
    ):
        open_task(one, "Both", "photos/bolt")
        one.locator(".tile img").first.wait_for()
        open_task(other, "Both", "teach")
        one.locator(".tile").first.click()
        one.keyboard.press("Delete")
        says(one, "1 photo deleted.")
        other.get_by_text("Learns 3 classes from 17 photos").wait_for()
        teach(other, 1)
        open_task(one, "Both", "teach")
        one.get_by_role("heading", name="Version 1").wait_for()
        assert len(list((folder / "bolt").iterdir())) == 5
