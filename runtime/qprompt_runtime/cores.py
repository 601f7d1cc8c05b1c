"""Cores and threads that this process may use, under CPU masks, containers and process limits."""

from __future__ import annotations

import contextlib
import math
import os
import threading
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

_CPUS = Path("/sys/devices/system/cpu")
_CGROUP_OF_PROCESS = Path("/proc/self/cgroup")
_CGROUPS = Path("/sys/fs/cgroup")


def usable_cores() -> int:
    """Cores that this process may use, at least 1.

    Two hardware threads of a core count once, since the second adds nothing to products of matrices. The
    affinity mask (`taskset`, a cpuset) and the processor time of a control group (`docker --cpus`) limit
    them, rounded up.
    """
    cores = len({_siblings(cpu) for cpu in _processors()})
    return max(1, min([cores, *(math.ceil(share) for share in _quotas())]))


def processors() -> int:
    """Processors that the affinity mask leaves this process; libraries start as many threads."""
    return len(_processors())


def startable_threads(wanted: int) -> int:
    """How many threads the system lets this process start, at most `wanted`.

    A limit on processes may allow none.
    """
    end = threading.Event()
    started: list[threading.Thread] = []
    with contextlib.suppress(RuntimeError):  # "can't start new thread"
        for _ in range(wanted):
            thread = threading.Thread(target=end.wait, daemon=True)
            thread.start()
            started.append(thread)
    end.set()
    for thread in started:
        thread.join()
    return len(started)


def _processors() -> set[int]:
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


def _siblings(cpu: int) -> str:
    """The hardware threads of a processor's core, as the kernel lists them.

    If the kernel does not list them: the processor itself.
    """
    try:
        return (_CPUS / f"cpu{cpu}/topology/thread_siblings_list").read_text()
    except OSError:
        return str(cpu)


def _quotas() -> Iterator[float]:
    """Limits on processor time, in cores, of this process's control groups and of those above them."""
    for folder in _control_groups():
        with contextlib.suppress(OSError, ValueError):
            quota, period = _limit(folder)
            if quota > 0 and period > 0:
                yield quota / period


def _control_groups() -> Iterator[Path]:
    """Folders of this process's groups that may limit processor time, versions 2 and 1, up to the root.

    A container sees its own group as the root; the path that it has outside leads nowhere then.
    """
    try:
        lines = _CGROUP_OF_PROCESS.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        root = _CGROUPS / "cpu" if controllers else _CGROUPS
        group = PurePosixPath(path.lstrip("/"))
        yield from (root / part for part in (group, *group.parents))


def _limit(folder: Path) -> tuple[int, int]:
    """Microseconds of processor time in a period of so many; a quota of -1 is none.

    Raises:
        OSError: The folder is no control group with such a limit.
        ValueError: There is no limit.
    """
    whole = folder / "cpu.max"
    if whole.exists():
        quota, period = whole.read_text().split()
        return int(quota), int(period)  # "max" is no number
    return int((folder / "cpu.cfs_quota_us").read_text()), int((folder / "cpu.cfs_period_us").read_text())
