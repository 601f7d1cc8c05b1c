"""Photos that an export looks at: to compare with torch, and to fix the scales of an int8 image tower."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from qprompt_runtime.arrays import Array
from qprompt_runtime.errors import BundleError, ImageError
from qprompt_runtime.images import ImageTransform, load_pixels

PARITY_PHOTOS = 32
"""Most photos that are compared with torch."""
CALIBRATION_PHOTOS = 64
"""Most photos that fix scales."""
_LEAST = 16


def parity_pixels(folder: Path, transform: ImageTransform) -> Array:
    """The first photos of a folder, at most `PARITY_PHOTOS`: float32 [N,3,H,W].

    Raises:
        BundleError: The folder has no readable photo.
    """
    found = list(islice(_readable(_files(folder), transform), PARITY_PHOTOS))
    if not found:
        raise BundleError(f"--parity-images {folder} holds no readable photo")
    return np.stack(found)


def calibration_pixels(folder: Path, transform: ImageTransform) -> tuple[Array, Array]:
    """Photos to fix scales with, and every third to compare with torch, which fixes none.

    They are spread over the folder, whose sub-folders may be classes.

    Returns:
        float32 [N,3,H,W] with N at most `CALIBRATION_PHOTOS`, and [M,3,H,W] with M at most `PARITY_PHOTOS`.

    Raises:
        BundleError: The folder has too few readable photos.
    """
    files, wanted = _files(folder), CALIBRATION_PHOTOS + PARITY_PHOTOS
    step = max(1, len(files) // wanted)
    spread = (path for start in range(step) for path in files[start::step])
    found = list(islice(_readable(spread, transform), wanted))
    if len(found) < _LEAST:
        raise BundleError(
            f"--quantize-with {folder} holds {len(found)} readable photos; give at least {_LEAST}, better "
            f"{wanted}, of the kind that will be encoded"
        )
    rest = [photo for place, photo in enumerate(found) if place % 3]
    return np.stack(rest), np.stack(found[::3])


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _readable(paths: Iterable[Path], transform: ImageTransform) -> Iterator[Array]:
    """Pixels [3,H,W] of those that are photos."""
    for path in paths:
        try:
            yield load_pixels(path, transform)
        except ImageError:
            continue
