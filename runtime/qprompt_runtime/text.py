"""Text as it is shown to people."""

from __future__ import annotations

import os
from collections.abc import Sequence


def printable(text: str | os.PathLike[str]) -> str:
    r"""A path or a name as one printable line: line breaks and the like become `\n` and so on."""
    text = os.fspath(text)
    return text if text.isprintable() else repr(text)[1:-1]


def counted(number: float, noun: str, plural: str | None = None) -> str:
    """`1 photo`, `2 photos`; `plural` is for nouns that do not end in s."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


def percent(fraction: float) -> str:
    """A fraction as people read it."""
    return "-" if fraction != fraction else f"{100 * fraction:.1f}%"


def first_few(names: Sequence[str], shown: int = 3) -> str:
    """`a, b, c, ...`: what fits where a line must stay short; printable."""
    return printable(", ".join(names[:shown])) + (", ..." if len(names) > shown else "")
