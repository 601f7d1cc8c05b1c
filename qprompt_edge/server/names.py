"""Names that clients send, of tasks, classes and photos: none leads out of the folder that it is meant for.

The idea: a name is checked by what it may be, never cleaned, and a path is followed part by part without
going through links, so that what is served or moved lies where its name says.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from qprompt_edge.data.csv_files import composed
from qprompt_edge.data.folders import is_systems
from qprompt_edge.server.refusal import Refusal
from qprompt_runtime.text import printable

_TASK = re.compile(r"[\w-](?:[\w -]{0,58}[\w-])?")
_LABEL_BYTES = 200
_NAME_BYTES = 255
FROM_ARCHIVE = "-"
"""In place of a class's label: an archive's own folders are the classes."""


def task_name(name: str) -> str:
    """A task's name in composed form.

    Raises:
        Refusal: It cannot be one.
    """
    name = composed(name)
    if not _TASK.fullmatch(name) or len(os.fsencode(name)) > _LABEL_BYTES or is_systems(name):
        raise Refusal(
            422,
            f"{printable(name)[:80]!r} cannot be a task's name; expected 1 to 60 letters, digits, spaces, - and _, "
            "with no space at either end",
        )
    return name


def label_name(label: str) -> str:
    """A class's label in composed form; it is also its folder's name.

    Raises:
        Refusal: It cannot be one.
    """
    label = composed(label)
    reason = None
    if not label or label != label.strip() or not label.isprintable() or "/" in label:
        reason = "expected printable text with no / and no space at either end"
    elif label.startswith(".") or is_systems(label) or label == FROM_ARCHIVE:
        reason = "folders of this name are passed over; take another"
    elif len(label.encode()) > _LABEL_BYTES:
        reason = f"expected at most {_LABEL_BYTES} bytes"
    if reason is not None:
        raise Refusal(422, f"{printable(label)[:80]!r} cannot be a class: {reason}")
    return label


def inside(folder: Path, relative: str) -> Path:
    """The path of an existing file below a folder, reached through no link.

    Args:
        folder: Where to begin.
        relative: Parts with `/` between them.

    Raises:
        Refusal: There is no such file.
    """
    parts = relative.split("/")
    missing = Refusal(404, f"there is no photo {printable(relative)[:200]!r}")
    if any(not part or part.startswith(".") or "\0" in part for part in parts):
        raise missing
    path = folder
    try:
        for place, part in enumerate(parts, 1):
            if len(os.fsencode(part)) > _NAME_BYTES:
                raise missing
            path = path / part
            mode = path.lstat().st_mode
            if not (stat.S_ISREG(mode) if place == len(parts) else stat.S_ISDIR(mode)):
                raise missing
    except (OSError, ValueError):
        raise missing from None
    return path
