"""Children that do the work, timed and weighed from outside.

Everything that is measured runs in a process of its own: it starts cold, its threads are set before any
library reads them, and its peak memory is its own. The parent must stay small, since Linux starts a child's
peak at what its parent held; so no module that runs children imports torch, onnxruntime or pillow.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
_MAXRSS_UNIT = 1 if sys.platform == "darwin" else 1024  # bytes; Linux counts kilobytes
_SHOWN_STDERR = 4000


class ChildError(RuntimeError):
    """A child failed; the message holds its command and the end of what it said."""


@dataclass(frozen=True)
class Child:
    """What one child took and answered.

    Attributes:
        seconds: From before the process starts to its end.
        processor: Seconds of processor time, of all threads together.
        peak_mb: Peak resident memory, in MB of 10^6 bytes.
        answer: The last line of its output as JSON; None if it printed none.
    """

    seconds: float
    processor: float
    peak_mb: float
    answer: Any


def run_module(
    module: str,
    *arguments: object,
    threads: int = 0,
    cache: Path | None = None,
) -> Child:
    """Run `python -m module arguments` in the project's root, offline.

    Args:
        module: A module of the benchmarks, or `qprompt_edge`.
        arguments: Its arguments; they become text.
        threads: What OpenMP and OpenBLAS may use; 0 leaves it to them. Modules that take `--threads` are told
            apart.
        cache: Where `qprompt-edge` keeps its caches; by default a folder that goes with the child.

    Raises:
        ChildError: It ended with another code than 0.
    """
    return run([sys.executable, "-m", module, *map(str, arguments)], threads=threads, cache=cache)


def run(command: Sequence[str], *, threads: int = 0, cache: Path | None = None) -> Child:
    """Run a command; see `run_module`."""
    with tempfile.TemporaryDirectory(prefix="qprompt-edge-benchmark-") as folder:
        place = cache or Path(folder) / "cache"
        return _run(command, _environment(threads, place), Path(folder))


def _environment(threads: int, cache: Path) -> Mapping[str, str]:
    """The parent's environment without a network, with a cache of its own and so many threads.

    Python keeps what it compiles.
    """
    own = {"QPE_CACHE": str(cache), "HF_HUB_OFFLINE": "1", "PYTHONDONTWRITEBYTECODE": ""}
    environment = {**os.environ, **own}
    if threads:
        environment |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))
    return environment


def _run(command: Sequence[str], environment: Mapping[str, str], folder: Path) -> Child:
    out, err = folder / "stdout", folder / "stderr"
    with out.open("wb") as stdout, err.open("wb") as stderr:
        started = time.perf_counter()
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=stdout, stderr=stderr)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        said = err.read_text(encoding="utf-8", errors="replace")[-_SHOWN_STDERR:]
        raise ChildError(f"{' '.join(command)} ended with code {process.returncode}:\n{said}")
    answer = last_json(out.read_text(encoding="utf-8", errors="replace"))
    processor = usage.ru_utime + usage.ru_stime
    return Child(seconds, processor, usage.ru_maxrss * _MAXRSS_UNIT / 10**6, answer)


def last_json(text: str) -> Any:
    """The last line that is not empty, as JSON; None if there is none or it is not JSON."""
    lines = [line for line in text.splitlines() if line.strip()]
    try:
        return json.loads(lines[-1])
    except (IndexError, ValueError):
        return None
