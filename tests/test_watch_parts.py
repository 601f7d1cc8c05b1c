"""The parts of `watch`, each alone: regions, agreement, what is still, the pace, folders, lost sources."""

import os
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from watching import picture

from qprompt_edge.watching import folder, loop, steady
from qprompt_edge.watching.addresses import without_password
from qprompt_edge.watching.agreement import Agreement, parse_agreement
from qprompt_edge.watching.answers import rfc3339
from qprompt_edge.watching.folder import folder_source
from qprompt_edge.watching.frames import TICK, Frame, Frames, Source, SourceLost
from qprompt_edge.watching.loop import paced
from qprompt_edge.watching.regions import WHOLE_FRAME, Region, parse_region, parse_regions
from qprompt_edge.watching.still import difference, grey_cells
from qprompt_runtime.errors import ImageError

# ---------------------------------------------------------------------- regions


def test_a_region_is_a_rectangle_in_per_cent():
    region = parse_region("left belt=0,25,50,50")
    assert region == Region("left belt", 0, 25, 50, 50)
    assert region.box(640, 480) == (0, 120, 320, 360)
    assert region.box(64, 48) == (0, 12, 32, 36)
    assert parse_region("a=b=33.3,0,33.3,100").name == "a=b"


def test_a_region_has_at_least_a_pixel():
    assert Region("a", 99.9, 99.9, 0.1, 0.1).box(10, 10) == (9, 9, 10, 10)
    assert Region("a", 0, 0, 0.1, 0.1).box(1, 1) == (0, 0, 1, 1)


@pytest.mark.parametrize(
    "text",
    ["", "belt", "belt=", "belt=1,2,3", "belt=1,2,3,x", "=0,0,10,10", "a=0,0,0,10", "a=-1,0,10,10", "a=60,0,50,10",
     "a=0,0,nan,10", "a=0,0,10,inf"],
)  # fmt: skip
def test_what_is_no_region_is_refused(text):
    with pytest.raises(ValueError, match="expected"):
        parse_region(text)


def test_regions_have_names_of_their_own_and_the_whole_frame_is_one():
    assert parse_regions([]) == (WHOLE_FRAME,)
    with pytest.raises(ValueError, match="two regions are called 'a'"):
        parse_regions(["a=0,0,1,1", "a=1,1,1,1"])


# ---------------------------------------------------------------------- agreement


def test_a_state_changes_when_enough_of_the_last_frames_agree():
    agreement = Agreement(3, 5)
    votes = ["a", "a", "b", "a", "b", "b", None, "b", "a", "a", "a"]
    changes = [agreement.vote(vote) for vote in votes]
    assert [place for place, changed in enumerate(changes) if changed] == [3, 5, 10]
    assert agreement.state == "a"


def test_uncertain_frames_count_as_frames_and_agree_with_none():
    agreement = Agreement(2, 3)
    assert [agreement.vote(vote) for vote in ("a", None, None, "a", None, "a")] == [False] * 5 + [True]


def test_what_is_forgotten_does_not_vote_and_the_state_stays():
    agreement = Agreement(2, 3)
    agreement.vote("a")
    assert agreement.vote("a")
    agreement.vote("b")
    agreement.forget()
    assert not agreement.vote("b")
    assert agreement.state == "a"
    assert agreement.vote("b")


@pytest.mark.parametrize("text", ["", "3", "0/1", "3/2", "1/1001", "-1/2", "a/b", "1/2/3"])
def test_what_is_no_agreement_is_refused(text):
    with pytest.raises(ValueError, match="expected N/M"):
        parse_agreement(text)
    assert parse_agreement("3/5") == (3, 5)


# ---------------------------------------------------------------------- still, addresses, time


def test_a_small_thing_that_moves_is_seen_and_noise_is_not():
    rng = np.random.default_rng(1)
    belt = rng.normal(120, 6, (480, 640, 3))
    noisy = belt + rng.normal(0, 6, belt.shape)
    moved = noisy.copy()
    moved[200:230, 300:340] = 30  # under half a per cent of the frame
    whole = (0, 0, 640, 480)
    cells = [
        grey_cells(Image.fromarray(np.clip(array, 0, 255).astype(np.uint8)), whole)
        for array in (belt, noisy, moved)
    ]
    assert difference(cells[0], cells[1]) <= 2
    assert difference(cells[0], cells[2]) > 40
    corner = [grey_cells(Image.fromarray(picture((level,) * 3)), (0, 0, 8, 8)) for level in (0, 255)]
    assert difference(*corner) == 255


def test_addresses_are_shown_without_what_opens_them():
    assert without_password("rtsp://me:secret@cam:554/live?key=1#x") == "rtsp://cam:554/live"
    assert without_password("http://cam/mjpg") == "http://cam/mjpg"
    assert "secret" not in without_password("rtsp://me:secret@[cam/live")


def test_a_time_is_written_in_utc():
    assert rfc3339(0.25) == "1970-01-01T00:00:00.250Z"


# ---------------------------------------------------------------------- frames


def test_a_frame_is_decoded_once_and_when_it_is_asked_for():
    calls = []

    def take() -> np.ndarray:
        calls.append("taken")
        return picture((10, 20, 30))

    frame = Frame(take, "camera")
    assert calls == []
    assert frame.decode() is frame.decode()
    assert frame.decode().getpixel((0, 0)) == (10, 20, 30)
    assert frame.jpeg().startswith(b"\xff\xd8\xff")
    assert calls == ["taken"]


def test_a_frame_that_cannot_be_read_names_its_source():
    with pytest.raises(ImageError, match=r"^front door: is not an image$"):
        Frame(b"no image", "front door").decode()


class Clock:
    """Stands for `time`: sleeping is what makes it go on."""

    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    for module in (loop, steady, folder):
        monkeypatch.setattr(module, "time", made)
    return made


def camera(clock: Clock, count: int, rate: float) -> Frames:
    for number in range(count):
        clock.now += 1 / rate
        yield Frame(picture((0, 0, 0)), f"{number}")


def test_frames_of_a_camera_that_come_too_early_are_dropped(clock: Clock):
    taken = [frame.source for frame in paced(camera(clock, 30, 16.0), 4.0, live=True) if frame]
    assert taken == ["0", "4", "8", "12", "16", "20", "24", "28"]
    assert clock.slept == []


def test_the_loop_gets_its_turn_while_frames_are_dropped(clock: Clock):
    assert len(list(paced(camera(clock, 30, 16.0), 0.001, live=True))) == 30


def test_files_wait_for_their_turn_and_the_loop_does_not(clock: Clock):
    times = []
    for frame in paced(camera(clock, 3, 1000.0), 0.5, live=False):
        times.append((clock.now, frame is not None))
    taken = [now for now, there in times if there]
    assert np.diff(taken) == pytest.approx([2.0, 2.0], abs=0.01)
    assert max(np.diff([now for now, _ in times])) <= TICK + 0.01


# ---------------------------------------------------------------------- folders


def listed(frames: Frames, clock: Clock, ticks: int) -> list[str]:
    """Names of the frames that come within so many ticks."""
    names, until = [], clock.now + ticks * TICK
    for frame in frames:
        if frame is None and clock.now >= until:
            return names
        if frame is not None:
            names.append(Path(frame.source).name)
    return names


def test_a_file_is_taken_once_when_it_has_stopped_changing(tmp_path: Path, clock: Clock):
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(b"be")
    with closing(folder_source(tmp_path).frames()) as found:
        assert listed(found, clock, 1) == []
        photo.write_bytes(b"before")  # still growing
        assert listed(found, clock, 1) == []
        assert listed(found, clock, 10) == ["photo.jpg"]
        os.utime(photo, (1, 1))  # written anew
        assert listed(found, clock, 10) == ["photo.jpg"]
        photo.unlink()
        (tmp_path / "b.jpg").touch()
        (tmp_path / "a.png").touch()
        assert listed(found, clock, 10) == ["a.png", "b.jpg"]
        photo.write_bytes(b"before")
        assert listed(found, clock, 10) == ["photo.jpg"]


def test_what_is_no_photo_or_unfinished_is_left_alone(tmp_path: Path):
    for name in ("b.jpg", "a", ".hidden.jpg", "notes.txt", "c.jpg.part", "Thumbs.db", "d.tmp"):
        (tmp_path / name).write_bytes(b"something")
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "nowhere.jpg").symlink_to("gone")
    names = [Path(frame.source).name for frame in folder_source(tmp_path, once=True).frames() if frame]
    assert names == ["a", "b.jpg"]


def test_a_folder_that_goes_and_comes_back_is_not_answered_anew(tmp_path: Path, clock: Clock):
    share, away = tmp_path / "share", tmp_path / "away"
    share.mkdir()
    (share / "old.jpg").touch()
    told = []
    with closing(steady.steady(folder_source(share), lambda *what: told.append(what))) as found:
        assert listed(found, clock, 10) == ["old.jpg"]
        share.rename(away)
        assert listed(found, clock, 40) == []
        away.rename(share)
        (share / "new.jpg").touch()
        assert listed(found, clock, 100) == ["new.jpg"]
    assert told == [(False, f"{share}: No such file or directory"), (True, "")]


# ---------------------------------------------------------------------- sources that are lost


def flaky(lives: list[int], opened: list[float], clock: Clock) -> Source:
    """A camera that gives so many frames at each opening and is then lost; it ends after the last."""

    def frames() -> Frames:
        opened.append(clock.now)
        for _ in range(lives.pop(0)):
            yield Frame(picture((0, 0, 0)), "camera")
        if lives:
            raise SourceLost("camera: no such device")

    return Source("camera", True, frames)


def test_a_camera_is_opened_again_after_longer_and_longer_waits(clock: Clock):
    told, opened = [], []
    source = flaky([1, 0, 0, 0, 0, 0, 0, 1, 1], opened, clock)
    taken = [frame for frame in steady.steady(source, lambda *what: told.append(what)) if frame]
    assert len(taken) == 3
    waits = [1, 2, 4, 8, 16, 30, 30, 1]  # a frame makes the next wait short again
    assert np.diff(opened) == pytest.approx(waits)
    lost = (False, "camera: no such device")
    assert told == [lost, (True, ""), lost, (True, "")]


def test_the_loop_gets_its_turn_while_a_camera_is_lost(clock: Clock):
    source = flaky([0, 0, 1], [], clock)
    turns = [(clock.now, frame) for frame in steady.steady(source, lambda *_what: None)]
    assert len(turns) == 1 + (1 + 2) / TICK
