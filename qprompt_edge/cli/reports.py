"""Writing a report: where it may stand, and its file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from qprompt_runtime.errors import OutputError
from qprompt_runtime.files import check_writable, is_file, write_atomic
from qprompt_runtime.text import printable

_STARTS = (b"<!doctype html", b"<html")
_READ = 64


def check_report(path: Path, prompt: Path) -> None:
    """Find out before hours of work whether a report can be written, and refuse to write over what is none.

    Args:
        path: Where the report shall stand.
        prompt: The prompt file.

    Raises:
        OutputError: `path` is the prompt file, is a file that holds no HTML, or cannot be written.
    """
    if path.absolute() == prompt.absolute():
        raise OutputError(f"{printable(path)} is the prompt file; choose another --report")
    check_writable(path)
    if not is_file(path):
        return
    try:
        with path.open("rb") as file:
            start = file.read(_READ)
    except OSError as error:
        raise OutputError(
            f"{printable(path)} exists and cannot be read ({error.strerror}); choose another --report"
        ) from error
    if start and not start.lower().lstrip().startswith(_STARTS):
        raise OutputError(
            f"{printable(path)} exists and is no HTML page; choose another --report, or remove the file"
        )


def write_report(path: Path, page: str, note: Callable[[str], None]) -> None:
    """Write a page, all of it or nothing, and say where it is.

    Args:
        path: Where.
        page: HTML.
        note: Prints a line.

    Raises:
        OutputError: It cannot be written.
    """
    write_atomic(path, page.encode("utf-8"))
    note(f"wrote {path}: the report, to be opened in a browser")
