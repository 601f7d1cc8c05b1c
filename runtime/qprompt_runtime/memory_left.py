"""Free memory, according to the system and the limits of this process."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator
from pathlib import Path

_MEMINFO = Path("/proc/meminfo")
_GROUPS = Path("/proc/self/cgroup")
_GROUP_ROOT = Path("/sys/fs/cgroup")


def memory_left() -> int | None:
    """Bytes that can be allocated before the system swaps or ends the process.

    None where the system doesn't say (macOS). The least of what the machine has available and what the
    control groups above this process leave (a container, `MemoryMax=` of a service). Cached files count as
    free: the system drops them first.
    """
    give_back()
    left = list(_group_left())
    with contextlib.suppress(OSError, ValueError, IndexError):
        line = _MEMINFO.read_text().partition("MemAvailable:")[2]
        left.append(1024 * int(line.split()[0]))
    return max(0, min(left)) if left else None


def give_back() -> None:
    """Have the C library return freed memory to the system, which it keeps otherwise, for each thread apart.

    Without it, a tower that is no longer needed stays resident beside the next one, and three photos of 70
    megapixels, one after the other, took 785 MB instead of 504 MB.
    """
    with contextlib.suppress(
        OSError, AttributeError
    ):  # musl and macOS have no such function, and don't need it
        ctypes.CDLL(None).malloc_trim(0)


def _group_left() -> Iterator[int]:
    """What each control group with a limit leaves, of version 1 or 2.

    Goes from the process's own group up to the root.
    """
    try:
        lines = _GROUPS.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, name = line.split(":", 2)
        if controllers not in ("", "memory"):
            continue
        root, limit, used, prefix = (
            (_GROUP_ROOT / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_")
            if controllers
            else (_GROUP_ROOT, "memory.max", "memory.current", "")
        )
        own = root / name.lstrip("/")
        for folder in (own, *own.parents[: len(own.relative_to(root).parts)]):
            with contextlib.suppress(OSError, ValueError):  # no such group here, or "max": no limit
                most = int((folder / limit).read_text())
                statistics = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
                cached = sum(
                    int(statistics.get(f"{prefix}{kind}_file", 0)) for kind in ("active", "inactive")
                )
                yield most - int((folder / used).read_text()) + cached
