"""Progress of long work."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Reporter:
    """Receives the progress of long work. By default its functions do nothing.

    Attributes:
        stage: Called with the name of a stage, steps done, and the number of steps.
        note: Called with a line for people.
    """

    stage: Callable[[str, int, int], None] = lambda _name, _done, _total: None
    note: Callable[[str], None] = lambda _line: None
