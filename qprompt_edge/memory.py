"""Memory as the system counts it: the peak resident set of this process, and a limit on it."""

from __future__ import annotations

import resource
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from qprompt_runtime.errors import ImageError, MemoryLimitError
from qprompt_runtime.memory_left import give_back

if TYPE_CHECKING:  # pictures are checked where no model is loaded
    from qprompt_runtime.backbone import Backbone

_MEGABYTE = 10**6
_MAXRSS_UNIT = 1 if sys.platform == "darwin" else 1024  # bytes: getrusage(2) counts kilobytes on Linux
_SHARE = 0.6  # of what is left may go to activations; the rest covers buffers that are not counted


def peak_rss_mb() -> float:
    """Peak resident memory of this process so far, in MB of 10^6 bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _MAXRSS_UNIT / _MEGABYTE


def rss_mb() -> float:
    """Resident memory of this process now, in MB of 10^6 bytes; where only the peak is known, the peak."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return peak_rss_mb()
    return pages * resource.getpagesize() / _MEGABYTE


def check_photo(limit_mb: float | None, needed: int) -> None:
    """Refuse a photo whose decoding would take the process beyond what it may need.

    Args:
        limit_mb: The limit, or None for no limit.
        needed: Bytes that decoding takes.

    Raises:
        ImageError: Says how much it takes and how much is left.
    """
    if limit_mb is None:
        return
    give_back()
    left = limit_mb - rss_mb()
    if needed / _MEGABYTE > left:
        raise ImageError(
            f"takes {needed / _MEGABYTE:.0f} MB of memory to decode, but --max-memory leaves only "
            f"{max(0, left):.0f} MB; shrink it first, or allow more"
        )


def check_limit(limit_mb: float | None, doing: str) -> None:
    """Stop if the process has already needed more than it may.

    Args:
        limit_mb: The limit, or None for no limit.
        doing: What was done so far, for the message.

    Raises:
        MemoryLimitError: Names the need and the limit.
    """
    peak = peak_rss_mb()
    if limit_mb is not None and peak > limit_mb:
        raise MemoryLimitError(
            f"{doing} took {peak:.0f} MB, --max-memory allows {limit_mb:.0f}; allow more, or take a smaller "
            "backbone"
        )


def fit_activations(backbone: Backbone, limit_mb: float | None, *, tuning: bool, deep: bool = False) -> None:
    """Load the text tower in the way that takes least memory, and limit its activations.

    They use what the limit leaves, in chunks of classes.

    Args:
        backbone: The backbone.
        limit_mb: The limit, or None for no limit.
        tuning: Whether gradients will be asked for, or features only.
        deep: Whether deep prompts will be tuned.

    Raises:
        MemoryLimitError: Nothing is left.
    """
    if limit_mb is None:
        return
    backbone.spare_memory = True
    if tuning and deep:
        from qprompt_runtime.deep_backbone import require_deep

        require_deep(backbone).open_for_deep_tuning()
    elif tuning:
        backbone.open_for_tuning()
    else:
        backbone.open_for_classes()
    check_limit(limit_mb, "loading the backbone")
    left = int((limit_mb - peak_rss_mb()) * _SHARE * _MEGABYTE)
    backbone.activation_bytes = min(backbone.activation_bytes, left)
