"""Has a picture changed? Compared as small grey pictures.

A region is averaged to `_CELLS` x `_CELLS` grey cells, and the cell that changed most decides: the mean over
all would miss a small thing that moves, and single pixels would find the sensor's noise, which a cell of
hundreds of pixels averages away.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_CELLS = 24

Cells = NDArray[np.int16]


def grey_cells(picture: Image.Image, box: tuple[int, int, int, int]) -> Cells:
    """A region as int16 [24,24], levels 0 to 255.

    Args:
        picture: Mode RGB.
        box: Left, top, right, bottom of the region.
    """
    small = picture.resize((_CELLS, _CELLS), Image.Resampling.BOX, box, reducing_gap=1.0)
    return np.asarray(small.convert("L")).astype(np.int16)


def difference(one: Cells, other: Cells) -> int:
    """How many levels, 0 to 255, the cell has changed that changed most."""
    return int(np.abs(one - other).max())
