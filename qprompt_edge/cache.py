"""The cache: what can be computed again.

If nothing can be written, the user is told once, and the work continues.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from qprompt_runtime.errors import OutputError
from qprompt_runtime.files import user_home

_FOLDER = "qprompt-edge"


def cache_folder(*below: str) -> Path | None:
    """The user's cache for this tool: `QPE_CACHE`, or a folder under the user's cache home.

    None for a user without a home folder.

    Args:
        below: A path within it.
    """
    named, cache_home, home = os.environ.get("QPE_CACHE"), os.environ.get("XDG_CACHE_HOME"), user_home()
    if named:
        return Path(named, *below)
    if cache_home:
        return Path(cache_home, _FOLDER, *below)
    return None if home is None else home.joinpath(".cache", _FOLDER, *below)


class Unkept:
    """Takes the error where something cannot be kept in the cache, and reports it once.

    The cache may be read-only, full, or not ours.

    Args:
        note: Prints a line.
    """

    def __init__(self, note: Callable[[str], None]) -> None:
        self._note, self._said = note, False

    def __call__(self, error: OutputError) -> None:
        """Go on without."""
        if not self._said:
            self._said = True
            self._note(
                f"{error}. The run continues, but keeps nothing for the next one (set QPE_CACHE "
                "to another folder)"
            )
