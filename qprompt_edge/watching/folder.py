"""A folder whose files are answered as they appear, each once it has stopped changing.

A file is taken when its size and time are the same at two looks, so one still being written is left alone;
written anew, it is taken again. What lies there at the start is taken first, so nothing that came while the
power was off is missed.
"""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path

from qprompt_edge.data.folders import SIDECARS, is_systems
from qprompt_edge.watching.frames import TICK, Frame, Frames, Source, SourceLost
from qprompt_runtime.text import printable

_UNFINISHED = frozenset({".part", ".partial", ".filepart", ".crdownload", ".download", ".tmp"})
"""Endings that programs give to files that they are still writing."""

_LOOKS_APART = 2  # ticks

_State = tuple[int, int]


def folder_source(folder: Path, once: bool = False) -> Source:
    """The image files of a folder, in order of their names; not those of folders within it.

    Args:
        folder: The folder.
        once: Only what lies there now, and then end.
    """
    done: dict[str, _State] = {}  # outlives a loss: a share that comes back is not answered anew

    def frames() -> Frames:
        before = _look(folder) if once else {}
        while True:
            now = _look(folder)
            for name in done.keys() - now.keys():  # forget what was removed
                del done[name]
            fresh = {name: state for name, state in now.items() if done.get(name) != state}
            for name, state in fresh.items():
                if before.get(name) == state:
                    done[name] = state
                    path = folder / name
                    yield Frame(path, str(path))
            if once:
                return
            before = fresh
            for _ in range(_LOOKS_APART):
                yield None
                time.sleep(TICK)

    return Source(printable(folder), live=False, frames=frames)


def _look(folder: Path) -> dict[str, _State]:
    """Size and time of the files in a folder now, by name, sorted.

    Raises:
        SourceLost: It is not there, or cannot be read.
    """
    states = {}
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if is_systems(entry.name) or Path(entry.name).suffix.lower() in SIDECARS | _UNFINISHED:
                    continue
                try:
                    status = entry.stat()
                except OSError:  # removed since it was listed, or a link that leads nowhere
                    continue
                if stat.S_ISREG(status.st_mode):
                    states[entry.name] = (status.st_size, status.st_mtime_ns)
    except OSError as error:
        raise SourceLost(f"{printable(folder)}: {error.strerror or error}") from error
    return dict(sorted(states.items()))
