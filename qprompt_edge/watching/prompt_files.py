"""The files of a watch's prompts: what they are called, how they look, and what is in them."""

from __future__ import annotations

import stat
import time
from pathlib import Path

from qprompt_edge.shipping.place import RECORD, RUNNING
from qprompt_runtime.errors import PromptFileError
from qprompt_runtime.files import is_file
from qprompt_runtime.prompt_envelope import MAX_FILE_BYTES
from qprompt_runtime.text import printable

_SETTLED_NS = 2 * 10**9
"""A file that changed less than this before it was read is compared by content.

A later change may bear the same time.
"""

Look = tuple[int, int, int, int, int]


def name_of(path: Path) -> str:
    """What a prompt is called: all that were installed have the same file's name."""
    installed = path.name == RUNNING and is_file(path.parent / RECORD)
    return path.absolute().parent.name or path.stem if installed else path.stem


def look_of(path: Path) -> Look | None:
    """What tells one version of a file from another; None if there is no file."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    if not stat.S_ISREG(status.st_mode):
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def is_young(look: Look) -> bool:
    """Whether a change since may not show in how a file looks."""
    return time.time_ns() - look[4] < _SETTLED_NS


def content_of(path: Path) -> bytes:
    """A file's bytes.

    Raises:
        PromptFileError: It is no regular file, or cannot be read; the message begins with the path.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise PromptFileError(f"{printable(path)}: is not a regular file")
        with path.open("rb") as file:
            return file.read(MAX_FILE_BYTES + 1)  # one byte too many is enough to refuse it
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise PromptFileError(f"{printable(path)}: cannot be read: {reason}") from error
