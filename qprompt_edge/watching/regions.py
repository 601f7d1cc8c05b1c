"""Regions of interest: named rectangles in per cent of the frame, so that they hold at every resolution."""

from __future__ import annotations

import math
from dataclasses import dataclass

from qprompt_edge.watching.answers import WHOLE


@dataclass(frozen=True)
class Region:
    """A rectangle of a frame.

    Attributes:
        name: As answers name it.
        left, top, width, height: In per cent of the frame's width and height, 0 to 100.
    """

    name: str
    left: float
    top: float
    width: float
    height: float

    def box(self, width: int, height: int) -> tuple[int, int, int, int]:
        """Left, top, right and bottom in pixels of a frame of this size; at least one pixel."""
        left = min(math.floor(self.left * width / 100), width - 1)
        top = min(math.floor(self.top * height / 100), height - 1)
        right = max(left + 1, min(width, round((self.left + self.width) * width / 100)))
        bottom = max(top + 1, min(height, round((self.top + self.height) * height / 100)))
        return left, top, right, bottom


WHOLE_FRAME = Region(WHOLE, 0, 0, 100, 100)


def parse_region(text: str) -> Region:
    """Read `NAME=LEFT,TOP,WIDTH,HEIGHT`.

    Raises:
        ValueError: Says what came and what was expected.
    """
    name, _, numbers = text.rpartition("=")
    try:
        left, top, width, height = (float(number) for number in numbers.split(","))
    except ValueError:
        raise ValueError(
            f"{text!r}: expected NAME=LEFT,TOP,WIDTH,HEIGHT in per cent, such as belt=25,0,50,100"
        ) from None
    inside = left >= 0 and top >= 0 and left + width <= 100 and top + height <= 100
    if not (name.strip() and inside and width > 0 and height > 0):
        raise ValueError(
            f"{text!r}: expected a name, and a rectangle within the frame: left + width and top + height are at most 100"
        )
    return Region(name.strip(), left, top, width, height)


def parse_regions(texts: list[str]) -> tuple[Region, ...]:
    """Read several; the whole frame if there are none.

    Raises:
        ValueError: One is not as `parse_region` expects it, or two have the same name.
    """
    regions = tuple(parse_region(text) for text in texts)
    names = [region.name for region in regions]
    if doubled := next((name for name in names if names.count(name) > 1), None):
        raise ValueError(f"two regions are called {doubled!r}; give each its own name")
    return regions or (WHOLE_FRAME,)
