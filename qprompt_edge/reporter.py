"""How long work says how far it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Reporter:
    """Where long work says how far it is; every function does nothing by default.

    Attributes:
        stage: Called with a stage's name, steps done, and steps in all.
        note: Called with a line for people.
    """

    stage: Callable[[str, int, int], None] = lambda _name, _done, _total: None
    note: Callable[[str], None] = lambda _line: None
