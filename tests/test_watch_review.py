"""`watch --review`: from the loop to the folder, with regions and pictures as they were looked at."""

import io
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from command_line import Result, assert_refused
from patience import PATIENCE
from PIL import Image

from qprompt_edge.watching.answers import WHOLE, Answer
from qprompt_edge.watching.frames import Frame
from qprompt_edge.watching.regions import WHOLE_FRAME, Region
from qprompt_edge.watching.review import frame_path, list_frames
from qprompt_edge.watching.review_queue import ReviewQueue, Seen
from qprompt_edge.watching.review_sink import ReviewSink
from qprompt_runtime.errors import OutputError

LEFT = Region("left", 0, 0, 50, 100)
Run = Callable[..., Result]


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits at the end is written, however slow the machine is."""
    monkeypatch.setattr("qprompt_edge.watching.review_sink._LAST_SECONDS", PATIENCE)


def answer(number: int = 1, best: float = 0.5, region: str = WHOLE, refused: bool | None = False) -> Answer:
    row = np.random.default_rng(number).standard_normal(64).astype(np.float32)
    predictions = (("stone", best), ("coal", 1 - best))
    features = row / np.linalg.norm(row)
    return Answer(
        1e9 + number, "cam", region, "belt", "stone", best, refused, None, False, predictions, features
    )


def picture(width: int = 640, height: int = 480) -> Image.Image:
    halves = Image.new("RGB", (width, height), (200, 0, 0))
    halves.paste((0, 0, 200), (width // 2, 0, width, height))
    return halves


def make(
    folder: Path, regions: tuple[Region, ...] = (WHOLE_FRAME,), live: bool = False
) -> tuple[ReviewSink, list[str]]:
    notes: list[str] = []
    return ReviewSink(ReviewQueue(folder), regions, lambda: "ab" * 16, live, notes.append), notes


def test_unsure_and_refused_frames_are_kept_and_others_not(tmp_path: Path) -> None:
    sink, notes = make(tmp_path)
    sink.answer(answer(1), Frame(picture(), "cam"))
    sink.answer(answer(2, best=0.9), Frame(picture(), "cam"))
    sink.answer(answer(3, best=0.9, refused=True), Frame(picture(), "cam"))
    sink.close()
    assert [(frame.reason, frame.region, frame.space) for frame in list_frames(tmp_path)] == [
        ("unsure", None, "ab" * 16),
        ("none of these", None, "ab" * 16),
    ]
    assert notes == []


def test_a_region_is_kept_as_it_was_looked_at(tmp_path: Path) -> None:
    sink, _ = make(tmp_path, (LEFT,))
    sink.answer(answer(region="left"), Frame(picture(), "cam"))
    sink.close()
    (frame,) = list_frames(tmp_path)
    path = frame_path(tmp_path, frame.id)
    assert path is not None
    with Image.open(path) as kept:
        assert kept.size == (320, 480)
        assert kept.getpixel((300, 200))[0] > 150
    assert frame.region == "left"


def test_a_large_photo_is_kept_sharper_than_the_backbone_saw_it(tmp_path: Path) -> None:
    stream = io.BytesIO()
    picture(4000, 3000).save(stream, "JPEG")
    frame = Frame(stream.getvalue(), "cam")
    frame._decoded = picture(300, 225)
    sink, _ = make(tmp_path)
    sink.answer(answer(), frame)
    sink.close()
    path = frame_path(tmp_path, list_frames(tmp_path)[0].id)
    assert path is not None
    with Image.open(path) as kept:
        assert kept.size == (1280, 960)


def test_a_photo_that_is_gone_is_kept_as_the_backbone_saw_it(tmp_path: Path) -> None:
    frame = Frame(tmp_path / "gone.jpg", "gone.jpg")
    frame._decoded = picture(300, 225)
    sink, notes = make(tmp_path / "queue")
    sink.answer(answer(), frame)
    sink.close()
    assert len(list_frames(tmp_path / "queue")) == 1
    assert notes == []


def test_a_full_disk_is_said_once_and_the_loop_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink, notes = make(tmp_path)

    def full(_path: Path, _data: bytes) -> None:
        raise OutputError("cannot write the frame: No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("qprompt_edge.watching.review.write_atomic", full)
        for number in range(3):
            sink.answer(answer(number), Frame(picture(), "cam"))
        sink.close()
    assert notes == ["not kept for review: cannot write the frame: No space left on device"]


def test_a_camera_never_waits_for_the_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    going, offered = threading.Event(), []

    def slow(_self: ReviewQueue, seen: Seen) -> bool:
        offered.append(seen)
        return going.wait(PATIENCE)

    monkeypatch.setattr(ReviewQueue, "offer", slow)
    sink, _ = make(tmp_path, live=True)
    for number in range(100):
        sink.answer(answer(number), Frame(picture(), "cam"))
    going.set()
    sink.close()
    assert 4 <= len(offered) <= 6


def test_the_command_keeps_what_a_prompt_is_unsure_of(
    run: Run, photos: Path, prompt: Path, tmp_path: Path
) -> None:
    folder = next(path for path in sorted(photos.iterdir()) if path.is_dir())
    result = run(
        "watch",
        folder,
        "--once",
        "--prompt",
        prompt,
        "--review",
        tmp_path / "queue",
        "--review-count",
        2,
        "--json",
    )
    assert result.code == 0, result.err
    unsure = [
        row
        for row in result.rows
        if row["predictions"][0]["probability"] - row["predictions"][1]["probability"] < 0.5
    ]
    frames = list_frames(tmp_path / "queue")
    assert unsure
    assert 1 <= len(frames) <= 2
    assert {frame.source for frame in frames} <= {row["source"] for row in unsure}
    assert all(frame.prompt == "made" and frame.features is not None for frame in frames)
    assert not (tmp_path / "queue.review").exists()


def test_nothing_is_kept_unless_it_is_asked_for(run: Run, photos: Path, prompt: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    folder = next(path for path in sorted(photos.iterdir()) if path.is_dir())
    assert run("watch", folder, "--once", "--prompt", prompt).code == 0
    assert sorted(tmp_path.rglob("*")) == before


def test_a_folder_that_cannot_be_written_is_refused_at_once(
    run: Run, photos: Path, prompt: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"")
    arguments = ("watch", photos, "--once", "--prompt", prompt, "--json")
    assert_refused(run(*arguments, "--review", tmp_path / "file" / "queue"), "cannot write", "queue")
