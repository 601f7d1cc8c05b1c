"""The page of `serve` as a person uses it, in a real browser before a real server."""

import base64
import io
import os
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from page import (
    DESKTOP,
    PHONE,
    REFUSED,
    go,
    lay_task,
    open_task,
    photos_of,
    says,
    until,
    watched,
)
from PIL import Image
from serving import Client, ServeProcess, serve_process

pytestmark = pytest.mark.flaky(reruns=1)  # a browser on a busy machine may come too late once

LABELS = ("bolt", "leaf", "tomato")


@pytest.fixture(scope="module")
def embedded_server(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServeProcess]:
    """As users start it, with the backbone that they have."""
    with serve_process(tmp_path_factory.mktemp("served") / "tasks", backbone="small") as found:
        yield found


@pytest.fixture
def embedded(embedded_server: ServeProcess) -> ServeProcess:
    """That server without tasks, also where a test runs again."""
    embedded_server.clear()
    return embedded_server


def new_task(page: Any, name: str) -> None:
    page.get_by_label(re.compile("What is it about|New task")).fill(name)
    page.get_by_role("button", name="Start").click()
    page.get_by_role("heading", level=1, name=name, exact=True).wait_for()


def add_class(page: Any, label: str) -> None:
    page.get_by_label("Name of the class").fill(label)
    page.keyboard.press("Enter")
    page.locator(".class .label", has_text=label).wait_for()


def selected(page: Any, *places: int) -> None:
    for place in places:
        page.locator(".tile").nth(place).click()


def undo_of(page: Any, line: str) -> Any:
    """The button of a notice, which does not vanish while the mouse is on it."""
    notice = page.locator(".notice", has_text=line)
    notice.hover()
    return notice.get_by_role("button", name="Undo")


@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_from_nothing_to_a_corrected_answer(
    browser: Any, embedded: ServeProcess, size: dict[str, Any], request: pytest.FixtureRequest
) -> None:
    """Nothing, three classes, 12 photos each, adapt, an answer, correct it, learn that, another answer."""
    with watched(browser, embedded.url, **size) as page:
        new_task(page, f"Belt {request.node.callspec.id}")
        for label in LABELS:
            add_class(page, label)
        for label in LABELS:
            row = page.locator(".class", has_text=label)
            if size is PHONE:  # one at a time, as its camera gives them
                for photo in photos_of(label, 0, 12):
                    row.get_by_label(f"Take photo of {label}").set_input_files(photo)
            else:
                row.get_by_role("link").click()
                page.get_by_role("heading", level=2, name=label).wait_for()
                page.get_by_label("Add files").set_input_files(photos_of(label, 0, 12))
            row.get_by_text("12 photos", exact=True).wait_for(state="attached")
        page.get_by_role("link", name="Teach it").click()
        page.get_by_role("button", name="Teach it", exact=True).click()
        page.get_by_role("heading", name="Version 1").wait_for()
        assert re.search(r"Of 6 photos .* \d are recognised", page.locator(".verdict").inner_text())
        assert page.get_by_role("region", name="What is taken for what").locator("tbody tr").count() == 3
        assert page.locator(".version").count() == 1

        go(page, "Try it")
        page.get_by_label("Choose a photo").set_input_files(photos_of("tomato", 20, 21))
        page.locator(".answer:not(.waiting)").wait_for()
        page.get_by_role("button", name="tomato").click()
        page.get_by_role("button", name="Learn it now").click()
        says(page, "Learned. Version 2 is in use.")
        page.get_by_label("Choose a photo").set_input_files(photos_of("bolt", 20, 21))
        until(page, "() => document.querySelectorAll('.answers li').length === 2")
        assert page.locator(".answer-label").inner_text() in (*LABELS, "None of these")


@pytest.mark.parametrize(
    ("task", "hostile"), [("Markup", "<img src=x onerror=alert(1)>"), ("Signs", "50% ?a=b&c #'\"\\ ü")]
)
def test_names_are_shown_as_text(browser: Any, server: Client, task: str, hostile: str) -> None:
    folder = lay_task(server.data, task, ("bolt",), 2)
    (folder / "bolt").rename(folder / hostile)
    with watched(browser, server.url, REFUSED, **DESKTOP) as page:
        open_task(page, task)
        page.locator(".tile img").first.wait_for()
        assert page.locator(".class .label").inner_text() == hostile
        assert page.locator(".tile .tag").first.inner_text() == hostile
        page.locator(".class-link").click()
        page.get_by_role("heading", level=2, name=hostile).wait_for()
        assert page.locator("img[src='x']").count() == 0
        page.get_by_role("link", name="qprompt-edge").click()
        page.get_by_label(re.compile("What is it about|New task")).fill(hostile)
        page.get_by_role("button", name="Start").click()
        page.locator(".notice.bad").wait_for()  # no name for a folder; the device's words say so


def test_photos_are_moved_and_deleted_by_key_and_that_is_undone(browser: Any, server: Client) -> None:
    folder = lay_task(server.data, "Keys", LABELS, 6)
    with watched(browser, server.url, **DESKTOP) as page:
        open_task(page, "Keys")
        page.keyboard.press("1")
        page.get_by_role("heading", level=2, name="bolt 6").wait_for()
        selected(page, 0, 2)
        page.keyboard.press("3")
        says(page, "2 photos moved to “tomato”.")
        assert len(list((folder / "tomato").iterdir())) == 8
        page.get_by_role("heading", level=2, name="bolt 4").wait_for()
        page.keyboard.press("Control+z")
        page.get_by_role("heading", level=2, name="bolt 6").wait_for()
        assert len(list((folder / "tomato").iterdir())) == 6
        page.locator(".tile").first.click()
        page.keyboard.press("Control+a")
        page.locator(".selection strong", has_text=re.compile("^6 selected$")).wait_for()
        page.keyboard.press("Delete")
        undo = undo_of(page, "6 photos deleted.")
        assert list((folder / "bolt").iterdir()) == []
        page.locator(".tile").first.wait_for(state="detached")
        undo.click()
        page.get_by_role("heading", level=2, name="bolt 6").wait_for()
        assert len(list((folder / "bolt").iterdir())) == 6


def test_a_class_and_a_task_come_back(browser: Any, server: Client) -> None:
    folder = lay_task(server.data, "Gone", LABELS, 2)
    with watched(browser, server.url, **DESKTOP) as page:
        open_task(page, "Gone")
        page.get_by_role("button", name="More for leaf").click()
        page.get_by_role("button", name="Rename").click()
        page.get_by_role("dialog").get_by_role("textbox").fill("blatt")
        page.keyboard.press("Enter")
        page.get_by_role("heading", level=2, name="blatt").wait_for()
        page.get_by_role("button", name="More for blatt").click()
        page.get_by_role("dialog").get_by_role("button", name="Delete").click()
        undo = undo_of(page, "Class “blatt” and its 2 photos deleted.")
        assert not (folder / "blatt").exists()
        undo.click()
        page.locator(".class", has_text="blatt").wait_for()
        assert len(list((folder / "blatt").iterdir())) == 2
        page.get_by_role("link", name="All tasks").click()
        page.get_by_role("button", name="More for Gone").click()
        page.get_by_role("dialog").get_by_role("button", name="Delete").click()
        undo = undo_of(page, "Task “Gone” deleted.")
        assert not folder.exists()
        undo.click()
        page.get_by_role("link", name="Gone").wait_for()
        assert (folder / "bolt").is_dir()


def test_five_thousand_photos_are_a_few_tiles(browser: Any, server: Client) -> None:
    photos = [Path(path).read_bytes() for path in photos_of("stone", 0, 10)]
    folder = server.data / "Many" / "stone"
    folder.mkdir(parents=True)
    for i in range(5000):
        (folder / f"{i:04}.jpg").write_bytes(photos[i % 10])
    with watched(browser, server.url, **DESKTOP) as page:
        open_task(page, "Many")
        page.locator(".tile img").first.wait_for()
        assert page.locator(".tile").first.get_attribute("aria-setsize") == "5000"
        for share in (0.5, 1):
            page.evaluate("share => scrollTo(0, share * document.body.scrollHeight)", share)
            until(
                page,
                "share => [...document.querySelectorAll('.tile')].some(it => it.ariaPosInSet >= 5000 * share - 50)",
                share,
            )
            until(page, "() => [...document.querySelectorAll('.tile')].every(it => it.querySelector('img'))")
            assert page.locator(".tile").count() < 150
            assert page.evaluate("document.querySelectorAll('*').length") < 1500
        page.keyboard.press("Control+a")
        page.get_by_text("5,000 selected").first.wait_for()
        assert page.locator(".tile").count() < 150


def test_what_is_left_out_is_said_with_its_reason(browser: Any, server: Client, tmp_path: Path) -> None:
    lay_task(server.data, "Bad files", ("bolt",), 1)
    (tmp_path / "broken.jpg").write_bytes(Path(photos_of("bolt", 2, 3)[0]).read_bytes()[:700])
    (tmp_path / "notes.txt").write_text("no photo")
    with watched(browser, server.url, REFUSED, **DESKTOP) as page:
        open_task(page, "Bad files")
        files = [*photos_of("bolt", 1, 2), str(tmp_path / "broken.jpg"), str(tmp_path / "notes.txt")]
        page.get_by_label("Add files").set_input_files(files)
        page.get_by_role("dialog").get_by_role("button", name="bolt").click()
        says(page, "1 photo added. 2 files left out.")
        page.get_by_role("button", name="Which, and why").click()
        reasons = page.locator(".reasons").inner_text()
        assert "notes.txt\nnot a photo" in reasons
        assert re.search(r"broken\.jpg\n\S+", reasons)
        page.get_by_role("button", name="Close").last.click()
        page.locator(".tile").nth(1).wait_for()


def test_a_photo_that_is_broken_on_the_disk_is_shown_as_such_and_asked_for_once(
    browser: Any, server: Client
) -> None:
    folder = lay_task(server.data, "Broken", ("bolt",), 3)
    (folder / "bolt" / "broken.jpg").write_bytes(b"no photo")
    with watched(browser, server.url, REFUSED, **DESKTOP) as page:
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        open_task(page, "Broken")
        broken = page.locator(".tile.broken")
        broken.wait_for()
        for _ in range(5):
            page.evaluate("() => window.dispatchEvent(new Event('scroll'))")
            page.wait_for_timeout(150)
        assert broken.locator("svg").count() == 1
        assert sum("broken.jpg/thumb" in url for url in asked) == 1


def test_a_zip_brings_its_classes(browser: Any, server: Client, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "belt.zip", "w") as archive:
        for label in LABELS:
            for path in photos_of(label, 0, 3):
                archive.write(path, f"{label}/{Path(path).name}")
    with watched(browser, server.url, **DESKTOP) as page:
        new_task(page, "Zip")
        page.get_by_label("Add files").set_input_files(tmp_path / "belt.zip")
        page.get_by_role("heading", level=2, name="All photos 9").wait_for()
        assert page.locator(".class .label").all_inner_texts() == list(LABELS)


def test_a_folder_brings_its_classes(browser: Any, server: Client, tmp_path: Path) -> None:
    photos = lay_task(tmp_path, "photos", LABELS, 2)
    (photos / ".hidden").mkdir()
    (photos / ".hidden" / "x.jpg").write_bytes(b"nothing")
    with watched(browser, server.url, **DESKTOP) as page:
        new_task(page, "Folder")
        page.get_by_label("Add a folder").set_input_files(photos)
        page.get_by_role("heading", level=2, name="All photos 6").wait_for()
        assert page.locator(".class .label").all_inner_texts() == list(LABELS)


def test_dropped_photos_go_to_the_class_that_is_shown(browser: Any, server: Client) -> None:
    folder = lay_task(server.data, "Drop", LABELS, 1)
    data = base64.b64encode(Path(photos_of("leaf", 3, 4)[0]).read_bytes()).decode()
    with watched(browser, server.url, **DESKTOP) as page:
        open_task(page, "Drop", "photos/leaf")
        page.get_by_role("heading", level=2, name="leaf").wait_for()
        drop = """async data => {
            const bytes = Uint8Array.from(atob(data), it => it.charCodeAt(0));
            const dataTransfer = new DataTransfer();
            dataTransfer.items.add(new File([bytes], 'dropped.jpg', {type: 'image/jpeg'}));
            for (const kind of ['dragover', 'drop']) document.body.dispatchEvent(new DragEvent(kind, {dataTransfer, bubbles: true, cancelable: true}));
        }"""
        page.evaluate(drop, data)
        page.get_by_role("heading", level=2, name="leaf 2").wait_for()
        assert len(list((folder / "leaf").iterdir())) == 2


def test_teaching_is_stopped_and_goes_on(browser: Any, server: Client) -> None:
    folder = lay_task(server.data, "Stopped", LABELS[:2], 1)
    for label, colour in zip(LABELS, ("red", "blue"), strict=False):
        png = io.BytesIO()  # small on the disk, and slow to decode: there is time to stop it, twice
        Image.new("RGB", (4000, 3000), colour).save(png, "PNG")
        for i in range(300):  # each is another file to the cache, also where the test runs again
            (folder / label / f"{i}.png").write_bytes(png.getvalue() + os.urandom(8))
    with watched(browser, server.url, **PHONE) as page:
        open_task(page, "Stopped", "teach")
        page.get_by_role("button", name="Teach it", exact=True).click()
        page.get_by_role("button", name="Cancel").click()
        says(page, "Stopped. What was learned so far is kept.")
        assert page.locator(".version").count() == 0
        page.get_by_role("button", name="Go on where it stopped").click()
        page.get_by_text("encoding photos", exact=True).wait_for()
        page.get_by_role("button", name="Cancel").click()
        page.get_by_role("button", name="Go on where it stopped").wait_for()
