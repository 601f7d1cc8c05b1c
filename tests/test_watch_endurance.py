"""`watch` stays as it is: answers, new prompts and lost cameras leave no objects, files or threads behind.

`benchmarks.watching` does the same many times over, and looks at the memory of the process.
"""

import gc
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import TINY_FOLDER
from patience import PATIENCE
from watching import BLUE, GREEN, RED, Remembered, frames, picture, write_prompt

from qprompt_edge.watching import latest
from qprompt_edge.watching.answers import Answer, Sink
from qprompt_edge.watching.deliveries import Deliveries
from qprompt_edge.watching.frames import Frame, SourceLost
from qprompt_edge.watching.latest import latest_source
from qprompt_edge.watching.loop import Rules, Watch
from qprompt_edge.watching.prompts import Prompts
from qprompt_edge.watching.steady import steady
from qprompt_runtime.backbone import Backbone

_NOISE = 40  # objects that come and go by themselves


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return Backbone.load(TINY_FOLDER, threads=1)


@pytest.fixture
def file(backbone: Backbone, tmp_path: Path) -> Path:
    return write_prompt(tmp_path / "walls.qpt", backbone)


Left = tuple[int, set[str], set[threading.Thread]]


def left() -> Left:
    """Objects, open files and threads of this process."""
    gc.collect()
    return len(gc.get_objects()), set(os.listdir("/proc/self/fd")), set(threading.enumerate())  # noqa: PTH208


def assert_nothing_left(before: Left, noise: int = _NOISE) -> None:
    """Nothing that was not there before; what other tests left may end meanwhile."""
    objects, files, threads = left()
    assert objects - before[0] < noise
    assert files <= before[1]
    assert threads <= before[2]


class Counted(Sink):
    """Writes each answer as JSON where nobody reads it."""

    count = 0

    def answer(self, answer: Answer, frame: Frame) -> None:
        json.dumps(answer.as_dict())
        self.count += 1


def test_answers_leave_nothing_behind(backbone: Backbone, file: Path):
    counted = Counted()
    taken = Deliveries("receiver", lambda _answer: None, pytest.fail)
    watch = Watch(
        Prompts([file], backbone), Rules(agree=(2, 3), still=1), [counted, taken], "camera", pytest.fail
    )
    pictures = [picture(colour) for colour in (RED, RED, BLUE, GREEN)]
    watch.run(frames(*pictures * 10), lambda: True)
    before = left()
    watch.run(frames(*pictures * 250), lambda: True)
    assert_nothing_left(before)
    taken.close()
    assert counted.count >= 750


def test_new_prompts_leave_nothing_behind_and_none_is_missed(backbone: Backbone, file: Path):
    told, notes = Remembered(), list[str]()
    watch = Watch(Prompts([file], backbone), Rules(), [told], "camera", notes.append)
    session, before = backbone._image_tower.session, None
    for version in range(30):
        if version == 10:
            told.announced.clear(), told.answers.clear(), notes.clear()
            before = left()
        write_prompt(file, backbone, (f"red {version}", "blue", *("green",)[: version % 2]))
        watch.run(frames(picture(RED)), lambda: True)
    assert [answer.label for answer in told.answers] == [f"red {version}" for version in range(10, 30)]
    assert len(notes) == len(told.announced) == 20
    told.announced.clear(), told.answers.clear(), notes.clear()
    assert before is not None
    assert_nothing_left(before)
    assert backbone._image_tower.session is session
    assert "_text_session" not in vars(backbone)


def test_lost_cameras_leave_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(latest, "_CLOSING_SECONDS", PATIENCE)
    device = tmp_path / "device"
    device.write_bytes(b"frames")

    def read() -> Iterator[Frame]:
        with device.open("rb"):
            yield Frame(picture(RED), "camera")
            raise SourceLost("camera: unplugged")

    told: list[bool] = []
    found = steady(latest_source("camera", read), lambda here, _reason: told.append(here), 0.0001, 0.0001)
    before = None
    for _ in found:
        if len(told) > 20 and before is None:
            before = left()
            gc.disable()  # a frame is a megabyte or more: it must go at once, not when garbage is collected
        if len(told) >= 400:
            break
    frames_left = sum(isinstance(kept, Frame) for kept in gc.get_objects())
    gc.enable()
    found.close()
    assert frames_left <= 3
    assert told == [False, True] * 200
    assert before is not None
    assert_nothing_left(before, _NOISE + len(told))
