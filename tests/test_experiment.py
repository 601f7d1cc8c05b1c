"""An experiment runs each job once, wherever it runs.

It continues where it was stopped, however it was stopped.
"""

import errno
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from small_experiments import QUICK, experiment, facts, first_setup, write_alike

from qprompt_edge.reporter import Reporter
from qprompt_edge.reproduction.executors import WorkerSetup, run_here
from qprompt_edge.reproduction.experiment import needs_deep
from qprompt_edge.reproduction.store import Store
from qprompt_runtime.errors import ImageError, OutputError, QPromptError, WorkDirError
from qprompt_runtime.prompt_file import ClassName

JOBS = len(QUICK) * 2


class Stopped(Exception):
    """Stands for whatever stops a run between two jobs."""


def stop_after(jobs: int) -> Reporter:
    def stage(name: str, done: int, _total: int) -> None:
        if (name, done) == ("jobs", jobs):
            raise Stopped

    return Reporter(stage=stage)


def when_done(jobs: int, action: Callable[[], object]) -> Reporter:
    """A reporter that does something when that many jobs are done."""
    return Reporter(stage=lambda name, done, _total: (name, done) == ("jobs", jobs) and action())


def files(out: Path) -> set[str]:
    return {path.name for path in (out / "jobs").glob("*")}


@pytest.fixture(scope="module")
def alike(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_alike(tmp_path_factory.mktemp("experiment") / "photos")


@pytest.fixture(scope="module")
def whole(alike: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the experiment gives when nothing stops it."""
    found = facts(experiment(alike).run(tmp_path_factory.mktemp("whole")).outcomes())
    assert len(found) == JOBS
    return found


# ---------------------------------------------------------------------- going on


@pytest.mark.parametrize("jobs", [0, 1, JOBS - 1, JOBS])
def test_a_run_that_was_stopped_goes_on_and_ends_alike(
    alike: Path, tmp_path: Path, whole: dict[str, Any], jobs: int
) -> None:
    with pytest.raises(Stopped):
        experiment(alike).run(tmp_path, reporter=stop_after(jobs))
    done = files(tmp_path)
    assert len(done) == jobs
    assert done <= {f"{job}.json" for job in whole}
    notes: list[str] = []
    store = experiment(alike).run(tmp_path, reporter=Reporter(note=notes.append))
    assert notes == ([f"{jobs} of {JOBS} jobs are done already"] if jobs else [])
    assert facts(store.outcomes()) == whole


def test_only_jobs_without_a_file_run_again(alike: Path, tmp_path: Path, whole: dict[str, Any]) -> None:
    experiment(alike).run(tmp_path)
    paths = sorted((tmp_path / "jobs").iterdir())
    for path in paths[::3]:
        path.unlink()
    kept = {path: path.stat().st_mtime_ns for path in paths if path.exists()}
    stages: list[tuple[str, int, int]] = []
    store = experiment(alike).run(tmp_path, reporter=Reporter(stage=lambda *stage: stages.append(stage)))
    assert facts(store.outcomes()) == whole
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert [stage for stage in stages if stage[0] == "jobs"] == [
        ("jobs", n, JOBS) for n in range(len(kept), JOBS + 1)
    ]


def test_a_finished_experiment_encodes_and_runs_nothing(
    alike: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment(alike).run(tmp_path)
    monkeypatch.setattr("qprompt_edge.reproduction.experiment.encode_set", None)
    monkeypatch.setattr(WorkerSetup, "open", None)
    for processes, ray in ((1, None), (2, None), (1, "127.0.0.1:1")):
        experiment(alike).run(tmp_path, processes=processes, ray=ray)


def test_further_jobs_and_sets_join_an_experiment(alike: Path, tmp_path: Path) -> None:
    small = experiment(alike, ["zero-shot"], [1])
    first = facts(small.run(tmp_path).outcomes())
    more = experiment(alike, ["zero-shot", "probe"], [1, 2])
    (odd,) = more.sets.values()
    more = replace(
        more,
        sets={
            **more.sets,
            "other": replace(odd, name="other", classes=tuple(map(ClassName.from_label, "abcd"))),
        },
    )
    store = more.run(tmp_path)
    assert len(store.outcomes()) == 4
    assert first.items() <= facts(store.outcomes()).items()
    assert {"data set odd", "data set other"} <= store.facts.keys()
    assert {"data set odd", "data set other"} <= small.run(tmp_path).facts.keys()


def test_a_moved_folder_is_still_the_same_data_set(alike: Path, tmp_path: Path) -> None:
    experiment(alike, ["zero-shot"], [1]).run(tmp_path / "out")
    moved = write_alike(tmp_path / "elsewhere")
    store = experiment(moved, ["zero-shot"], [1, 2]).run(tmp_path / "out")
    assert len(store.outcomes()) == 2


# ---------------------------------------------------------------------- several processes


def test_two_processes_give_what_one_gives(alike: Path, tmp_path: Path, whole: dict[str, Any]) -> None:
    assert facts(experiment(alike).run(tmp_path, processes=2).outcomes()) == whole
    assert multiprocessing.active_children() == []


def test_a_worker_that_dies_is_an_error_and_what_is_done_is_kept(alike: Path, tmp_path: Path) -> None:
    def kill() -> None:
        victim = multiprocessing.active_children()[0].pid
        assert victim is not None
        os.kill(victim, signal.SIGKILL)

    running = experiment(
        alike, ["zero-shot", "coop", "qcoop-1"], [1], epochs=20_000
    )  # minutes, but the first
    with pytest.raises(QPromptError, match=r"^a worker ended without an answer.*finished jobs are kept$"):
        running.run(tmp_path, processes=2, reporter=when_done(1, kill))
    assert multiprocessing.active_children() == []
    assert 1 <= len(files(tmp_path)) < len(running.jobs)


def test_workers_end_at_once_when_nobody_waits_for_more_outcomes(alike: Path, tmp_path: Path) -> None:
    running = experiment(alike, ["zero-shot", "coop", "qcoop-1"], [1], epochs=20_000)  # minutes
    outcomes = run_here(first_setup(running, tmp_path / "features"), running.jobs, 2)
    assert next(outcomes).job.method == "zero-shot"
    assert len(multiprocessing.active_children()) == 2
    began = time.monotonic()
    outcomes.close()
    assert time.monotonic() - began < 60
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("refused", ["semaphores", "threads"])
def test_a_machine_that_starts_no_workers_runs_one_job_after_the_other(
    refused: str, alike: Path, whole: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_semaphore(*_arguments: object, **_named: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    if refused == "semaphores":  # as with a /dev/shm that cannot be written
        monkeypatch.setattr("multiprocessing.synchronize.SemLock.__init__", no_semaphore)
    else:
        monkeypatch.setattr("qprompt_edge.reproduction.executors.startable_threads", lambda _wanted: 0)
    notes: list[str] = []
    reporter = Reporter(stage=lambda *_arguments: None, note=notes.append)
    assert facts(experiment(alike).run(tmp_path, processes=2, reporter=reporter).outcomes()) == whole
    reason = (
        "Read-only file system" if refused == "semaphores" else "too few processes or threads are allowed"
    )
    assert notes == [f"jobs run one after the other: this machine starts no workers ({reason})"]


def interrupt_workers() -> None:
    """Wait for workers, and interrupt them while they start."""
    while not multiprocessing.active_children():
        time.sleep(0.01)
    time.sleep(0.2)  # they import now
    for child in multiprocessing.active_children():
        assert child.pid is not None
        os.kill(child.pid, signal.SIGINT)


def test_a_worker_that_is_interrupted_while_it_starts_says_nothing(
    alike: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Ctrl-C reaches workers too, and Python would print where it was, once for each of them."""
    running = experiment(alike, ["coop", "qcoop-1"], [1], epochs=20_000)  # none is done by then
    setup = first_setup(running, tmp_path / "features")
    thread = threading.Thread(target=interrupt_workers)
    thread.start()
    with pytest.raises(QPromptError, match=r"^a worker ended without an answer"):
        list(run_here(setup, running.jobs, 2))
    thread.join()
    assert capfd.readouterr().err == ""


def test_workers_ignore_interrupts_where_their_parent_does(alike: Path, tmp_path: Path) -> None:
    """As under nohup, or in the background of a script whose user presses Ctrl-C."""
    running = experiment(alike, QUICK, [1])
    setup = first_setup(running, tmp_path / "features")
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        thread = threading.Thread(target=interrupt_workers)
        thread.start()
        assert len(list(run_here(setup, running.jobs, 2))) == len(running.jobs)
        thread.join()
    finally:
        signal.signal(signal.SIGINT, before)


def test_an_outcome_that_cannot_be_kept_ends_the_run(
    alike: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[bool] = []

    def outcomes(setup: WorkerSetup, jobs: Any, processes: int) -> Any:
        try:
            yield from run_here(setup, jobs, processes)
        finally:
            closed.append(True)

    def full(_store: Store, _outcome: object) -> None:
        raise OutputError("disk full")

    monkeypatch.setattr("qprompt_edge.reproduction.experiment.run_here", outcomes)
    monkeypatch.setattr(Store, "put", full)
    with pytest.raises(OutputError, match=r"^disk full$") as caught:
        experiment(alike).run(tmp_path)
    assert closed == [True]  # while the error, and with it the frame, is still held
    assert caught.value is not None


def test_a_photo_that_was_damaged_since_the_first_jobs(tmp_path: Path) -> None:
    """The same folder of results would hold outcomes on two lists of photos, which cannot be compared."""
    folder, out = write_alike(tmp_path / "photos"), tmp_path / "out"
    experiment(folder, ["zero-shot"], [1]).run(out)
    photo = folder / "sand" / "00.png"
    content = photo.read_bytes()
    photo.write_bytes(content[:40])
    with pytest.raises(
        WorkDirError, match=r"another list of readable photos of data set odd .*another --out"
    ):
        experiment(folder, ["coop"], [1]).run(out)
    photo.write_bytes(content)
    assert len(experiment(folder, ["zero-shot", "coop"], [1]).run(out).outcomes()) == 2


@pytest.mark.parametrize("processes", [1, 2])
def test_a_job_that_fails_is_an_error_and_what_is_done_is_kept(tmp_path: Path, processes: int) -> None:
    """A photo goes while jobs run that read photos; the run goes on when it is back."""
    folder = write_alike(tmp_path / "photos", count=4)
    methods = ["qmaple-1", "qmaple-2", "qmaple-4", "maple-folded"]
    assert needs_deep(methods)
    photo = folder / "sand" / "00.png"
    content = photo.read_bytes()
    deep = experiment(folder, methods, [1], epochs=1)
    with pytest.raises(ImageError, match=r"00\.png: .*[Nn]o such file"):
        deep.run(tmp_path / "out", processes=processes, reporter=when_done(1, photo.unlink))
    assert multiprocessing.active_children() == []
    done = files(tmp_path / "out")
    assert 1 <= len(done) < 4
    photo.write_bytes(content)
    store = deep.run(tmp_path / "out")
    assert sorted(outcome.job.method for outcome in store.outcomes()) == sorted(methods)
