"""Counts the answers of the loop, and tells once a minute how the prompts fare, on a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from qprompt_edge.watching.answers import Answer, Sink
from qprompt_edge.watching.frames import Frame
from qprompt_edge.watching.health import Health, Report, Version
from qprompt_edge.watching.prometheus import BEGIN, exposition
from qprompt_runtime.errors import OutputError
from qprompt_runtime.files import check_writable, is_file, write_atomic
from qprompt_runtime.text import printable

_EVERY = 60.0
_LAST_SECONDS = 2.0


class HealthSink(Sink):
    """Counts answers, and tells.

    Args:
        source: The source's name.
        versions: Which prompts answer now, by name.
        tellers: Called with what is known at the start, every minute, and at the end; on another thread.
        every: Seconds between two calls.
    """

    def __init__(
        self,
        source: str,
        versions: Callable[[], Mapping[str, Version]],
        tellers: Sequence[Callable[[Report], None]],
        every: float = _EVERY,
    ) -> None:
        self._source, self._versions, self._tellers, self._every = source, versions, tellers, every
        self._health = Health()
        self._here = True
        self._frames = self._unread = 0
        self._last: tuple[float, str] | None = None
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="health", daemon=True)

    def ready(self, prompts: Mapping[str, tuple[str, ...]], regions: tuple[str, ...], source: str) -> None:
        """Count anew for prompts that are new; the first time, begin to tell."""
        for name, version in self._versions().items():
            self._health.take_up(name, version)
        if self._thread.ident is None:
            self._thread.start()

    def answer(self, answer: Answer, frame: Frame) -> None:
        """Count an answer."""
        if (frame.time, frame.source) != self._last:  # of one frame come many answers
            self._last = frame.time, frame.source
            self._frames += 1
        self._health.answered(
            answer.prompt, answer.time, answer.probability, answer.none_of_these, answer.score
        )

    def skipped(self, frame: Frame, reason: str) -> None:
        """Count a frame that could not be read."""
        self._unread += 1

    def present(self, here: bool, reason: str) -> None:
        """Note whether the source is there."""
        self._here = here

    def close(self) -> None:
        """Tell a last time."""
        self._ending.set()
        if self._thread.ident is not None:
            self._thread.join(_LAST_SECONDS)

    def _run(self) -> None:
        self._tell()
        while not self._ending.wait(self._every):
            self._tell()
        self._tell()

    def _tell(self) -> None:
        report = Report(
            self._source,
            not self._ending.is_set(),
            self._here,
            self._frames,
            self._unread,
            self._health.prompts(),
        )
        for teller in self._tellers:
            teller(report)


def check_metrics_file(path: Path) -> None:
    """Refuse to write metrics over anything else.

    Raises:
        OutputError: Another file stands there, or none can be written.
    """
    check_writable(path)
    if not is_file(path):
        return
    try:
        with path.open("rb") as file:
            begin = file.read(len(BEGIN))
    except OSError as error:
        raise OutputError(
            f"{printable(path)} exists and cannot be read ({error.strerror}); choose another file for --metrics"
        ) from error
    if begin and begin != BEGIN.encode():
        raise OutputError(
            f"{printable(path)} exists and holds no metrics of qprompt-edge; choose another file for --metrics, "
            "or remove it"
        )


def metrics_file(path: Path, version: str, note: Callable[[str], None]) -> Callable[[Report], None]:
    """What writes a report as a file for Prometheus; that it fails is said once, and that it works again.

    Args:
        path: The file; node_exporter's textfile collector reads those that end in `.prom`.
        version: Of this program.
        note: Prints a line.
    """
    failing = False

    def write(report: Report) -> None:
        nonlocal failing
        try:
            write_atomic(path, exposition(report, version).encode("utf-8", "replace"))
        except OutputError as error:
            if not failing:
                note(f"{error}; trying again")
            failing = True
        else:
            if failing:
                note(f"{path} is written again")
            failing = False

    return write
