"""Text as it is shown to people."""

from __future__ import annotations

import os


def printable(text: str | os.PathLike[str]) -> str:
    r"""A path or a name as one printable line: line breaks and the like become `\n` and so on."""
    text = os.fspath(text)
    return text if text.isprintable() else repr(text)[1:-1]


def counted(number: int, noun: str) -> str:
    """`1 photo`, `2 photos`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def percent(fraction: float) -> str:
    """A fraction as people read it."""
    return "-" if fraction != fraction else f"{100 * fraction:.1f}%"
