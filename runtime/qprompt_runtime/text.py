"""Text as it is shown to people."""

from __future__ import annotations

import os


def printable(text: str | os.PathLike[str]) -> str:
    r"""A path or a name as one printable line: line breaks and the like become `\n` and so on."""
    text = os.fspath(text)
    return text if text.isprintable() else repr(text)[1:-1]
