"""Which keys a prompt file may have, and what stands under the optional ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qprompt_runtime.errors import PromptFileError
from qprompt_runtime.prompt_envelope import require

MAX_PHOTOS = 2**31
EXTRA_KEYS = range(17, 23)
"""Optional keys that this version does not know: it keeps what a file says there."""


def check_keys(version: int, fields: dict[Any, Any]) -> None:
    """All keys that are needed are there, and no unknown critical ones; raises a `PromptFileError` if not."""
    needed = set(range(1, 7))
    known, span, there = {*needed, 7}, "the keys 0 to 8", "the keys 0 to 6 and 8"
    if version > 1:
        critical = sorted(key for key in fields if type(key) is int and 8 <= key <= 15)
        if critical:
            raise PromptFileError(
                f"the file has the critical key {critical[0]}, which this version does not know and which may change "
                "answers; update qprompt-edge"
            )
        known, span, there = {*known, 16, *EXTRA_KEYS}, "the keys 0 to 23", "the keys 0 to 6 and 23"
    unknown = [key for key in fields if type(key) is not int or key not in known]
    require(not unknown, "a key of the file", unknown, f"{span} only")
    missing = sorted(needed - set(fields))
    require(not missing, "a key of the file", f"missing: {missing}", there)


def check_photos(photos: tuple[int, ...], classes: int) -> None:
    """The photos of each class are counted, or of none; raises a `PromptFileError` if not."""
    good = len(photos) in (0, classes)
    require(good, "the count of the photos' numbers", len(photos), f"one a class ({classes}), or none")
    good = all(type(count) is int and 0 <= count <= MAX_PHOTOS for count in photos)
    require(good, "the list of photos a class", photos[:8], f"whole numbers of 0 to {MAX_PHOTOS}")


def check_extras(extras: Mapping[int, bytes]) -> None:
    """Extras have optional keys and bytes; raises a `PromptFileError` if not."""
    for key, value in extras.items():
        good = type(key) is int and key in EXTRA_KEYS and type(value) is bytes
        require(good, "an extra", f"{key!r} with {type(value).__name__}", "a key of 17 to 22 with bytes")
