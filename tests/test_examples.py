"""The example photos are what their script renders; the folder watcher answers, skips, retries and ends."""

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from qprompt_edge.data.splits import difference_hash, near_duplicate_groups
from qprompt_runtime import Prediction
from qprompt_runtime.errors import ImageError

EXAMPLES = Path(__file__).parent.parent / "examples"
PHOTOS = EXAMPLES / "photos"


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(EXAMPLES))  # as Python does for a script
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(EXAMPLES))
    return module


make_photos = script("make_photos")
watch_folder = script("watch_folder")


class FakeClassifier:
    """Calls everything a bolt, but refuses files that do not say "good"."""

    def predict(self, path: Path) -> Prediction:
        if path.read_bytes() != b"good":
            raise ImageError(f"{path}: not an image")
        return Prediction(("bolt",), (0.875,))


def test_photos_are_complete_and_small():
    files = sorted(path for path in PHOTOS.rglob("*") if path.is_file())
    names = [f"{name}/{n:02d}.jpg" for name in make_photos.CLASSES for n in range(make_photos.PER_CLASS)]
    assert [path.relative_to(PHOTOS).as_posix() for path in files] == sorted(names)
    assert len(make_photos.CLASSES) >= 6
    assert make_photos.PER_CLASS >= 24
    assert sum(path.stat().st_size for path in files) < 2_000_000


@pytest.mark.parametrize("name", make_photos.CLASSES)
def test_photos_are_what_the_script_renders(name, tmp_path):
    """Encoders and sines differ a little between versions and processors, pictures do not."""
    number = 3 * list(make_photos.CLASSES).index(name)
    path = tmp_path / "photo.jpg"
    make_photos.render(name, number).save(path, quality=make_photos.QUALITY)
    with Image.open(path) as again, Image.open(PHOTOS / name / f"{number:02d}.jpg") as kept:
        assert again.size == kept.size == (make_photos.SIDE, make_photos.SIDE)
        gap = np.abs(np.asarray(again, dtype=float) - np.asarray(kept, dtype=float))
    assert gap.mean() < 2, f"mean difference {gap.mean():.3f}, largest {gap.max():.0f}"


def test_no_photo_repeats_another():
    hashes, labels = [], []
    for label, name in enumerate(make_photos.CLASSES):
        for path in sorted((PHOTOS / name).iterdir()):
            with Image.open(path) as image:
                hashes.append(difference_hash(image))
            labels.append(label)
    groups = near_duplicate_groups(np.array(hashes, dtype=np.uint64), np.array(labels, dtype=np.int64))
    assert len(np.unique(groups)) == len(hashes)


def test_watch_reports_a_label_or_a_reason(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"good")
    (tmp_path / "b.jpg").write_bytes(b"bad")
    predict = FakeClassifier().predict
    assert watch_folder.report(tmp_path / "a.jpg", predict).split("  ")[1:] == ["a.jpg", "bolt", "0.875"]
    for name in ("b.jpg", "gone.jpg"):
        line = watch_folder.report(tmp_path / name, predict)
        assert f"  {name}  skipped: " in line
        assert line.isprintable()


def test_watch_once_takes_the_images_that_are_there(tmp_path):
    for name in ("b.jpg", "a.PNG", "notes.txt", "c.jpg.part"):
        (tmp_path / name).write_bytes(b"good")
    (tmp_path / "folder.jpg").mkdir()
    found = watch_folder.new_files(tmp_path, interval=60, once=True)
    assert [path.name for path in found] == ["a.PNG", "b.jpg"]


def test_watch_waits_for_a_file_to_settle_and_takes_it_once(tmp_path, monkeypatch):
    """Each sleep of the loop is a tick, at which the folder changes as listed."""
    photo = tmp_path / "photo.jpg"
    ticks = iter(
        [
            lambda: photo.write_bytes(b"go"),
            lambda: photo.write_bytes(b"good"),  # still growing: not yet
            lambda: None,  # settled: now
            lambda: None,  # not again
            lambda: (photo.write_bytes(b"new"), os.utime(photo, (1, 1))),  # rewritten: not yet
            lambda: None,  # now
            photo.unlink,
        ]
    )
    seen = []

    def sleep(seconds):
        assert seconds == 0.25
        seen.append("tick")
        tick = next(ticks, None)
        if tick is None:
            raise KeyboardInterrupt
        tick()

    monkeypatch.setattr(watch_folder.time, "sleep", sleep)
    with pytest.raises(KeyboardInterrupt):
        seen.extend(path.read_bytes() for path in watch_folder.new_files(tmp_path, 0.25))
    taken = [(seen[:place].count("tick"), what) for place, what in enumerate(seen) if what != "tick"]
    assert taken == [(3, b"good"), (6, b"new")]


def test_watch_says_in_one_line_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setattr(
        sys, "argv", ["watch", "--prompt", str(tmp_path / "no.qpt"), "--folder", str(tmp_path)]
    )
    with pytest.raises(SystemExit, match=r"^error: .*no\.qpt"):
        watch_folder.main()


def test_watch_ends_quietly_on_interrupt(tmp_path, monkeypatch, capsys):
    (tmp_path / "a.jpg").write_bytes(b"good")

    def interrupt(seconds):
        monkeypatch.setattr(watch_folder.time, "sleep", stop)

    def stop(seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr(watch_folder.PromptClassifier, "load", lambda path: FakeClassifier())
    monkeypatch.setattr(watch_folder.time, "sleep", interrupt)
    monkeypatch.setattr(sys, "argv", ["watch", "--prompt", "p.qpt", "--folder", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        watch_folder.main()
    assert ended.value.code == 130
    printed = capsys.readouterr()
    assert "a.jpg  bolt  0.875" in printed.out
    assert printed.err == ""
