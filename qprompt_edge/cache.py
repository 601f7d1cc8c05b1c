"""Where this tool keeps what it can compute again."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """The user's cache for this tool: `QPE_CACHE`, or a folder under the user's cache home."""
    named = os.environ.get("QPE_CACHE")
    if named:
        return Path(named)
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "qprompt-edge"
