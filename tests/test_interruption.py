"""A run that dies at any moment leaves no broken file, and ends in the same bytes when it is resumed."""

import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import TINY_FOLDER
from patience import PATIENCE, wait_until
from scenes import write_photos

from qprompt_edge import adapt
from qprompt_runtime import files
from qprompt_runtime.errors import OutputError
from qprompt_runtime.prompt_file import read_prompt_file

KILLS = 12
OPTIONS: dict[str, Any] = {"epochs": 3, "threads": 1, "backbone": TINY_FOLDER, "holdout": 0}


class Died(BaseException):
    """Stands for the end of the process: nothing but the test catches it."""


class Faults:
    """Counts the moments before, within and after each write, before and after its rename; dies at one.

    A sync adds no moment: a process that dies leaves the same behind before and after it.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, die_at: int | None) -> None:
        self.moments, self.die_at, self.dead = 0, die_at, False
        fdopen, replace, unlink = os.fdopen, Path.replace, Path.unlink
        outer = self

        class Writer:
            """A file that writes in two halves, with a moment between them."""

            def __init__(self, handle: int, mode: str) -> None:
                self.file = fdopen(handle, mode)

            def __enter__(self) -> "Writer":
                return self

            def __exit__(self, *_details: object) -> None:
                self.file.close()

            def write(self, data: bytes) -> None:
                outer.moment()
                self.file.write(data[: len(data) // 2])
                self.file.flush()
                outer.moment()
                self.file.write(data[len(data) // 2 :])

            def __getattr__(self, name: str) -> object:
                return getattr(self.file, name)

        monkeypatch.setattr(files.os, "fdopen", Writer)
        monkeypatch.setattr(Path, "replace", self.around(replace))
        # a dead process tidies nothing up
        monkeypatch.setattr(
            Path, "unlink", lambda path, **options: None if self.dead else unlink(path, **options)
        )

    def moment(self) -> None:
        self.moments += 1
        if self.moments == self.die_at:
            self.dead = True
            raise Died

    def around(self, call: Callable[..., object]) -> Callable[..., object]:
        def wrapped(*arguments: object) -> object:
            self.moment()
            result = call(*arguments)
            self.moment()
            return result

        return wrapped


def test_death_at_every_write_and_rename(tmp_path, monkeypatch):
    photos = write_photos(tmp_path / "photos", count=3)
    options = {**OPTIONS, "epochs": 2}
    out = tmp_path / "prompt.qpt"
    monkeypatch.setattr("qprompt_edge.adaptation.adapt._CHECKPOINT_SECONDS", 0)
    monkeypatch.setattr("qprompt_edge.data.features._SAVE_SECONDS", np.inf)  # each run writes as often
    adapt(photos, **options).save(tmp_path / "whole.qpt")
    whole = (tmp_path / "whole.qpt").read_bytes()

    def run(folder: Path, die_at: int | None) -> Faults:
        with monkeypatch.context() as patch:
            patch.setenv("QPE_CACHE", str(folder))
            faults = Faults(patch, die_at)
            try:
                adapt(photos, **options, work_dir=folder / "work", resume=True).save(out)
            except Died:
                assert die_at is not None
            return faults

    moments = run(tmp_path / "count", None).moments
    assert moments >= 7 * 4  # task, three checkpoints, two files of the cache, the prompt
    for die_at in range(1, moments + 1):
        out.write_bytes(b"what stood there before")
        folder = tmp_path / str(die_at)
        assert run(folder, die_at).dead, die_at
        assert out.read_bytes() in (b"what stood there before", whole), die_at
        run(folder, None)
        assert out.read_bytes() == whole, die_at


def test_a_full_disk_loses_nothing(tmp_path, monkeypatch):
    photos = write_photos(tmp_path / "photos", count=3)
    out = tmp_path / "prompt.qpt"
    out.write_bytes(b"old")
    result = adapt(photos, **OPTIONS, work_dir=tmp_path / "work")
    with monkeypatch.context() as patch:
        patch.setattr(
            files.os, "fsync", lambda _file: (_ for _ in ()).throw(OSError(28, "No space left on device"))
        )
        with pytest.raises(OutputError, match="No space left on device"):
            result.save(out)
    assert out.read_bytes() == b"old"
    assert not list(tmp_path.glob(".prompt*"))
    again = adapt(photos, **OPTIONS, work_dir=tmp_path / "work", resume=True)
    assert again.prompt == result.prompt


PAUSED = """
import sys, time
from pathlib import Path
from qprompt_edge.adaptation import adapt
from qprompt_edge.cli import main
plain, steps = adapt.check_limit, []

def pausing(*arguments):
    plain(*arguments)
    if arguments[1] == "a training step":
        steps.append(1)
        if len(steps) == {step}:
            Path({there!r}).touch()
            time.sleep(600)

adapt.check_limit = pausing
main(sys.argv[1:])
"""
"""The command line, which waits after a step until it is interrupted, however fast the machine is."""


def start_adapt(
    photos: Path, out: Path, work: Path, *more: object, python: tuple[str, ...] = ("-m", "qprompt_edge")
) -> subprocess.Popen[str]:
    paths = ("--images", photos, "--out", out, "--work-dir", work, "--backbone", TINY_FOLDER)
    arguments = (*paths, "--threads", 1, *more)
    command = [sys.executable, *python, "adapt", *map(str, arguments)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def test_interrupt_keeps_a_checkpoint_and_says_how_to_go_on(tmp_path):
    photos = write_photos(tmp_path / "photos")
    out, work = tmp_path / "prompt.qpt", tmp_path / "work"
    there = tmp_path / "there"
    code = PAUSED.format(step=300, there=str(there))
    process = start_adapt(photos, out, work, "--epochs", 1000, python=("-c", code))
    wait_until(lambda: there.exists() or process.poll() is not None)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130, errors
    assert "--resume" in errors
    assert "Traceback" not in errors
    assert int(np.load(work / "checkpoint.npz")["step"]) == 300
    assert not out.exists()
    resumed = start_adapt(photos, out, work, "--epochs", 1000, "--resume")
    _, errors = resumed.communicate(timeout=2 * PATIENCE)
    assert resumed.returncode == 0, errors
    assert "resuming at step 300" in errors
    assert out.read_bytes() == adapt(photos, epochs=1000, threads=1, backbone=TINY_FOLDER).prompt.to_bytes()


@pytest.mark.slow
def test_killed_at_random_moments(tmp_path):
    photos = write_photos(tmp_path / "photos")
    out, work = tmp_path / "prompt.qpt", tmp_path / "work"
    epochs = 4000
    whole = adapt(photos, epochs=epochs, threads=1, backbone=TINY_FOLDER).prompt.to_bytes()
    rng = random.Random(0)
    kills = 0
    while kills < KILLS:
        process = start_adapt(photos, out, work, "--epochs", epochs, "--resume")
        try:
            _, errors = process.communicate(timeout=rng.uniform(0.1, 4))
            assert process.returncode == 0, errors
            assert out.read_bytes() == whole
            for path in (out, work / "checkpoint.npz"):  # it got through: begin again
                path.unlink()
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            kills += 1
            if out.exists():
                read_prompt_file(out)
    process = start_adapt(photos, out, work, "--epochs", epochs, "--resume")
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert out.read_bytes() == whole
