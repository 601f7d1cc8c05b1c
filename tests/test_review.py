"""The review queue: what is kept, what goes, and that a reader and a writer do not disturb each other."""

import json
import os
import threading
from pathlib import Path

import numpy as np
import pytest
from patience import wait_until
from PIL import Image

from qprompt_edge.watching.review import (
    frame_path,
    label_first,
    list_frames,
    new_id,
    remove_frame,
)
from qprompt_edge.watching.review_queue import ReviewQueue, Seen
from qprompt_runtime.errors import OutputError

SPACE = "0123456789abcdef0123456789abcdef"
START = 1_800_000_000.0


def unit(seed: int) -> np.ndarray:
    row = np.random.default_rng(seed).standard_normal(64).astype(np.float32)
    return row / np.linalg.norm(row)


def seen(number: int, best: float = 0.5, second: float = 0.4, **changes: object) -> Seen:
    """A frame of a folder; each number is another scene."""
    picture = Image.fromarray(np.random.default_rng(number).integers(0, 255, (48, 64, 3), np.uint8))
    facts = {
        "picture": lambda: picture,
        "time": START + number,
        "source": "incoming",
        "region": None,
        "prompt": "belt",
        "predictions": (("stone", best), ("coal", second)),
        "none_of_these": False,
        "features": unit(number),
        "space": SPACE,
        "live": False,
    }
    return Seen(**{**facts, **changes})


class Clock:
    """Seconds that a test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def times(folder: Path) -> list[int]:
    return [round(frame.time - START) for frame in list_frames(folder)]


def test_unsure_frames_are_kept_with_all_that_is_known_of_them(tmp_path: Path) -> None:
    queue = ReviewQueue(tmp_path / "belt.review")
    assert queue.offer(seen(1, region="left"))
    (frame,) = list_frames(tmp_path / "belt.review")
    assert (frame.source, frame.region, frame.prompt, frame.space) == ("incoming", "left", "belt", SPACE)
    assert frame.predictions == (("stone", 0.5), ("coal", 0.4))
    assert frame.margin == pytest.approx(0.1)
    assert frame.none_of_these is False
    assert frame.reason == "unsure"
    assert frame.time == START + 1
    assert frame.features is not None
    assert float(frame.features @ unit(1)) == pytest.approx(1, abs=1e-4)
    path = frame_path(tmp_path / "belt.review", frame.id)
    assert path is not None
    with Image.open(path) as picture:
        assert (picture.format, picture.size) == ("JPEG", (64, 48))
    raw = json.loads((tmp_path / "belt.review" / f"{frame.id}.json").read_text(encoding="utf-8"))
    assert raw["predictions"] == [
        {"label": "stone", "probability": 0.5},
        {"label": "coal", "probability": 0.4},
    ]
    assert raw["time"] == "2027-01-15T08:00:01.000Z"
    assert frame.id.startswith("20270115T080001000Z-")


def test_sure_frames_are_not_kept_unless_they_look_like_no_class(tmp_path: Path) -> None:
    queue = ReviewQueue(tmp_path)
    assert not queue.offer(seen(1, 0.9, 0.1))
    assert queue.offer(seen(2, 0.9, 0.1, none_of_these=True))
    assert not queue.offer(seen(3, predictions=(("stone", 1.0),)))
    assert [(frame.reason, frame.none_of_these) for frame in list_frames(tmp_path)] == [
        ("none of these", True)
    ]


def test_nearly_the_same_scene_is_kept_once_even_after_it_was_removed(tmp_path: Path) -> None:
    queue = ReviewQueue(tmp_path)
    near = unit(1) + 0.05 * unit(2)
    near /= np.linalg.norm(near)
    assert queue.offer(seen(1))
    assert not queue.offer(seen(2, features=near))
    assert remove_frame(tmp_path, list_frames(tmp_path)[0].id)
    assert not queue.offer(seen(3, features=near))
    assert queue.offer(seen(4, features=near, prompt="other")), "another prompt is unsure of it for itself"


def test_scenes_are_known_again_in_the_next_process(tmp_path: Path) -> None:
    ReviewQueue(tmp_path).offer(seen(1))
    assert not ReviewQueue(tmp_path).offer(seen(2, features=unit(1)))


def test_of_the_older_half_the_surest_goes(tmp_path: Path) -> None:
    queue = ReviewQueue(tmp_path, most_frames=4)
    for number, best in enumerate((0.45, 0.8, 0.5, 0.85, 0.5, 0.5)):
        assert queue.offer(seen(number, best, 0.4))
    assert times(tmp_path) == [0, 3, 4, 5], (
        "1 was the surest of 0 and 1, then 2 of 0 and 2; 3 was among the newer"
    )


def test_of_equals_the_oldest_goes(tmp_path: Path) -> None:
    queue = ReviewQueue(tmp_path, most_frames=3)
    for number in range(7):
        assert queue.offer(seen(number))
    assert times(tmp_path) == [4, 5, 6]


def test_megabytes_are_capped(tmp_path: Path) -> None:
    queue = ReviewQueue(tmp_path, most_megabytes=0.05)
    for number in range(30):
        queue.offer(seen(number))
        assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 50_000
    assert times(tmp_path)[-1] == 29
    assert len(times(tmp_path)) > 3


def test_a_frame_that_never_fits_is_not_kept(tmp_path: Path) -> None:
    assert not ReviewQueue(tmp_path, most_megabytes=0.001).offer(seen(1))
    assert list_frames(tmp_path) == []


def test_a_camera_adds_one_a_second_and_one_a_minute_when_full(tmp_path: Path) -> None:
    clock = Clock()
    queue = ReviewQueue(tmp_path, most_frames=2, clock=clock)
    kept = []
    for number, now in enumerate((0.0, 0.5, 1.0, 2.0, 60.9, 61.0)):
        clock.now = 100 + now
        kept.append(queue.offer(seen(number, live=True)))
    assert kept == [True, False, True, False, False, True]
    clock.now = 161.5
    assert queue.offer(seen(9, live=True, source="another camera"))


def test_clocks_that_jump_do_no_harm(tmp_path: Path) -> None:
    queue = ReviewQueue(tmp_path, most_frames=3)
    for number, when in enumerate((0.0, START, START - 86400, 1e9, START + 1)):
        assert queue.offer(seen(number, time=when))
    assert len(list_frames(tmp_path)) == 3


def test_large_frames_are_kept_smaller(tmp_path: Path) -> None:
    ReviewQueue(tmp_path).offer(seen(1, picture=lambda: Image.new("RGB", (2560, 1440))))
    path = frame_path(tmp_path, list_frames(tmp_path)[0].id)
    assert path is not None
    with Image.open(path) as picture:
        assert picture.size == (1280, 720)


def test_a_disk_that_refuses_is_said_and_the_next_frame_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = ReviewQueue(tmp_path)

    def full(path: Path, _data: bytes) -> None:
        raise OutputError(f"cannot write {path}: No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("qprompt_edge.watching.review.write_atomic", full)
        with pytest.raises(OutputError, match="No space left"):
            queue.offer(seen(1))
    assert list_frames(tmp_path) == []
    assert queue.offer(seen(1)), "it was not kept, so it is no known scene"


def test_damaged_and_foreign_files_are_passed_over(tmp_path: Path) -> None:
    queue = ReviewQueue(tmp_path)
    for number in range(8):
        queue.offer(seen(number))
    ids = [frame.id for frame in list_frames(tmp_path)]
    texts = [(tmp_path / f"{name}.json").read_text(encoding="utf-8") for name in ids]
    (tmp_path / f"{ids[0]}.json").write_text(texts[0][:50], encoding="utf-8")
    (tmp_path / f"{ids[1]}.json").write_bytes(b"\xff\xfe")
    (tmp_path / f"{ids[2]}.json").write_text("[" * 100_000, encoding="utf-8")
    (tmp_path / f"{ids[3]}.json").write_text(
        texts[3].replace('"version": 1', '"version": 2'), encoding="utf-8"
    )
    (tmp_path / f"{ids[4]}.json").write_text(texts[4].replace("0.5", "NaN"), encoding="utf-8")
    (tmp_path / f"{ids[5]}.jpg").unlink()
    (tmp_path / "holiday.jpg").write_bytes(b"mine")
    (tmp_path / "holiday.json").write_text("{}", encoding="utf-8")
    assert times(tmp_path) == [6, 7]
    queue = ReviewQueue(tmp_path, most_frames=3)
    assert queue.offer(seen(20))
    assert (tmp_path / "holiday.jpg").is_file()
    assert times(tmp_path) == [6, 7, 20], "damaged frames go like others"


def test_what_a_killed_writer_left_is_removed_once_it_is_old(tmp_path: Path) -> None:
    ReviewQueue(tmp_path).offer(seen(1))
    kept = {path.name for path in tmp_path.iterdir()}
    alone, partial = f"{new_id(START, '12345678')}.jpg", ".20270115T080001000Z-12345678.json.x1.part"
    for name in (alone, partial):
        (tmp_path / name).write_bytes(b"half")
    ReviewQueue(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == kept | {alone, partial}
    for name in (alone, partial):
        os.utime(tmp_path / name, (0, 0))
    ReviewQueue(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == kept


@pytest.mark.parametrize(
    "name", ["../x", "20270115T080001000Z-1234567g", "", "a" * 300, "20270115T080001000Z-12345678\n"]
)
def test_no_name_leads_out_of_the_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / "x.jpg").write_bytes(b"secret")
    folder = tmp_path / "queue"
    folder.mkdir()
    assert frame_path(folder, name) is None
    assert not remove_frame(folder, name)
    assert (tmp_path / "x.jpg").exists()


def test_a_link_is_no_picture(tmp_path: Path) -> None:
    ReviewQueue(tmp_path / "queue").offer(seen(1))
    frame = list_frames(tmp_path / "queue")[0]
    path = frame_path(tmp_path / "queue", frame.id)
    assert path is not None
    path.unlink()
    (tmp_path / "secret").write_bytes(b"secret")
    path.symlink_to(tmp_path / "secret")
    assert frame_path(tmp_path / "queue", frame.id) is None
    assert list_frames(tmp_path / "queue") == []


def test_a_missing_folder_is_an_empty_queue(tmp_path: Path) -> None:
    assert list_frames(tmp_path / "none") == []
    assert not remove_frame(tmp_path / "none", new_id(START, "12345678"))


def test_readers_and_a_writer_at_the_same_time(tmp_path: Path) -> None:
    queue = ReviewQueue(tmp_path, most_frames=20)
    done, removed, errors = threading.Event(), [], []

    def read() -> None:
        try:
            while not done.is_set():
                for frame in list_frames(tmp_path):
                    assert frame.prompt == "belt"
                    if round(frame.time) % 3 == 0 and remove_frame(tmp_path, frame.id):
                        removed.append(frame.id)
        except BaseException as error:
            errors.append(error)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for number in range(60):
        assert queue.offer(seen(number))
        assert len(list_frames(tmp_path)) <= 20
    wait_until(
        lambda: removed or errors
    )  # one of those that are left, on a machine with little time for readers
    done.set()
    for reader in readers:
        reader.join()
    assert errors == []
    assert removed
    assert len(removed) == len(set(removed)), "each frame is removed by one of them"
    assert {path.suffix for path in tmp_path.iterdir()} == {".jpg", ".json"}


def test_label_first_puts_unsure_and_unlike_frames_first_and_others_last(tmp_path: Path) -> None:
    queue = ReviewQueue(tmp_path)
    twin = unit(2) + 0.6 * unit(30)
    twin /= np.linalg.norm(twin)
    for number, best, features in (
        (1, 0.45, unit(1)),
        (2, 0.45, unit(2)),
        (3, 0.45, twin),
        (4, 0.85, unit(4)),
    ):
        assert queue.offer(seen(number, best, 0.4, features=features))
    assert queue.offer(seen(5, space="elsewhere"))
    ranked = label_first(list_frames(tmp_path), unit(1)[None], SPACE)
    order = [round(frame.time - START) for frame in ranked]
    assert sorted(order) == [1, 2, 3, 4, 5]
    assert order[0] in (2, 3)
    assert order.index(4) < order.index(1), "1 is known already"
    assert order[-1] == 5
    assert [frame.id for frame in label_first(list_frames(tmp_path), np.zeros((0, 64), np.float32), SPACE)]
    assert label_first([], unit(1)[None], SPACE) == []


def test_label_first_prefers_classes_that_are_short_of_photos(tmp_path: Path) -> None:
    queue = ReviewQueue(tmp_path)
    for number, labels in enumerate(
        (("stone", "coal"), ("glass", "coal"), ("stone", "coal"), ("glass", "coal"))
    ):
        assert queue.offer(seen(number, predictions=((labels[0], 0.5), (labels[1], 0.4))))
    frames = list_frames(tmp_path)
    known = unit(50)[None]
    first = label_first(frames, known, SPACE, {"stone": 40, "coal": 40, "glass": 2})[:2]
    assert [frame.predictions[0][0] for frame in first] == ["glass", "glass"]
    first = label_first(frames, known, SPACE, {"stone": 2, "coal": 40, "glass": 40})[:2]
    assert [frame.predictions[0][0] for frame in first] == ["stone", "stone"]
