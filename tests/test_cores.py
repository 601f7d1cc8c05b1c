"""What a process may use: cores under a mask or a quota, threads where they are limited."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import TINY_FOLDER
from other_machines import STRACE, needs_strace, qprompt_edge
from scenes import write_photos

from qprompt_runtime import cores, providers
from qprompt_runtime.errors import ProviderError

NO_THREADS = (*STRACE, "-e", "inject=clone3,clone:error=EAGAIN")


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of control groups, and a machine of eight cores."""
    monkeypatch.setattr(cores, "_CGROUP_OF_PROCESS", tmp_path / "cgroup")
    monkeypatch.setattr(cores, "_CGROUPS", tmp_path / "groups")
    monkeypatch.setattr(cores, "_CPUS", tmp_path / "cpus")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _process: set(range(8)), raising=False)
    (tmp_path / "cgroup").write_text("0::/\n")
    return tmp_path


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_every_core_without_a_limit(groups: Path) -> None:
    assert cores.usable_cores() == 8
    write(groups / "groups" / "cpu.max", "max 100000\n")
    assert cores.usable_cores() == 8


def test_hardware_threads_of_a_core_count_once(groups: Path) -> None:
    for cpu in range(8):
        write(
            groups / "cpus" / f"cpu{cpu}" / "topology" / "thread_siblings_list", f"{cpu % 4},{cpu % 4 + 4}\n"
        )
    assert cores.usable_cores() == 4


@pytest.mark.parametrize(
    ("cgroup", "folder", "quota", "expected"),
    [
        ("0::/", "", "200000 100000", 2),  # a container sees its group as the root
        ("0::/docker/abc", "docker/abc", "150000 100000", 2),  # one core and a half
        ("0::/a/b", "a", "50000 100000", 1),  # a group above
        ("0::/../other", "", "300000 100000", 3),
        ("4:memory:/x\n3:cpu,cpuacct:/docker/abc", "cpu/docker/abc", "250000 100000", 3),
        ("3:cpu:/docker/abc", "cpu", "100000 100000", 1),  # version 1 in a container
        ("3:cpu:/", "cpu", "-1 100000", 8),
        ("4:memory:/x", "", "100000 100000", 8),  # another controller's line
        ("0::/", "", "nonsense", 8),
    ],
)
def test_a_quota_limits_cores(groups: Path, cgroup: str, folder: str, quota: str, expected: int) -> None:
    (groups / "cgroup").write_text(cgroup + "\n")
    place = groups / "groups" / folder
    if folder.startswith("cpu"):
        write(place / "cpu.cfs_quota_us", quota.split()[0])
        write(place / "cpu.cfs_period_us", quota.split()[1])
    else:
        write(place / "cpu.max", quota)
    assert cores.usable_cores() == expected


def test_a_system_without_masks_or_groups(groups: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    (groups / "cgroup").unlink()
    assert cores.usable_cores() == 1


@pytest.mark.skipif(shutil.which("taskset") is None, reason="taskset is missing here")
def test_under_a_mask_a_session_has_as_many_threads_and_stays_on_its_cores() -> None:
    code = (
        "import os; from qprompt_runtime.backbone import Backbone\n"
        f"Backbone.load({str(TINY_FOLDER)!r}).open_image_tower()\n"
        "print({len(os.sched_getaffinity(int(task))) for task in os.listdir('/proc/self/task')})"
    )
    core = str(min(os.sched_getaffinity(0)))
    done = subprocess.run(
        ["taskset", "-c", core, sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("{1}\n", "")


def test_no_thread_is_pinned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pinning is what fails aloud in a container; onnxruntime does it where it is not told how many."""
    monkeypatch.setattr(providers, "usable_cores", lambda: 2)
    tasks = Path("/proc/self/task")
    before = set(tasks.iterdir())
    mask = os.sched_getaffinity(0)
    session = providers.open_session(TINY_FOLDER / "image.onnx", "CPUExecutionProvider", 0, prepack=False)
    assert [os.sched_getaffinity(int(task.name)) for task in set(tasks.iterdir()) - before] == [mask]
    del session


def test_as_many_threads_as_may_start(monkeypatch: pytest.MonkeyPatch) -> None:
    assert cores.startable_threads(3) == 3
    monkeypatch.setattr(providers, "usable_cores", lambda: 4)
    monkeypatch.setattr(providers, "startable_threads", lambda wanted: min(wanted, 2))
    assert providers._startable(0) == 1
    assert providers._startable(1) == 1
    assert providers._startable(3) == 3
    with pytest.raises(
        ProviderError, match=r"refuses to start 5 threads, it allows 3 now .*; take --threads 1"
    ):
        providers._startable(5)


def test_threads_that_others_take_in_the_meantime_cost_speed_only(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, asked = providers._session, []

    def scarce(path: Path, provider: str, threads: int, *options: bool) -> object:
        asked.append(threads)
        if threads > 1:
            raise RuntimeError("env.cc:327 pthread_create failed, error code: 11")
        return plain(path, provider, threads, *options)

    monkeypatch.setattr(providers, "usable_cores", lambda: 2)
    monkeypatch.setattr(providers, "_session", scarce)
    path = TINY_FOLDER / "image.onnx"
    providers.open_session(path, "CPUExecutionProvider", 0, prepack=False)
    assert asked == [2, 1]
    with pytest.raises(ProviderError, match=r"CPUExecutionProvider did not start: .* pthread_create"):
        providers.open_session(path, "CPUExecutionProvider", 2, prepack=False)


@needs_strace
@pytest.mark.parametrize("threads", [0, 1])
def test_where_no_thread_may_start_one_is_enough(tmp_path: Path, threads: int) -> None:
    photos, prompt = write_photos(tmp_path / "photos", count=4), tmp_path / "made.qpt"
    quick = ("--backbone", TINY_FOLDER, "--threads", threads, "--json")
    for words in (("adapt", photos, "--out", prompt, "--epochs", 1), ("predict", photos, "--prompt", prompt)):
        done = qprompt_edge(*words, *quick, before=NO_THREADS)
        assert done.returncode == 0, done.stderr
        assert b"pthread_create" not in done.stderr
    if threads == 0:
        done = qprompt_edge("bench", "--threads", 64, "--json", before=NO_THREADS)
        assert done.returncode == 1
        assert b"refuses to start 64 threads, it allows 1 now" in done.stdout
