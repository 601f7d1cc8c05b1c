"""How sharp and how bright photos are, measured when they are decoded, and kept beside their features.

The idea: a photo is measured at the size at which the model sees it. What a model cannot see, such as grain
that shrinking takes away, counts neither as sharpness nor as a fault. What blurring changes little was
blurred before (Crété et al., "The blur effect", SPIE 2007). The figures lie in a cache of their own, found by
the photo's content as features are, so whoever wants them decodes a photo once.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np
import PIL
from PIL import Image, ImageFilter

from qprompt_edge.cache import cache_folder
from qprompt_edge.data.feature_cache import Entry, FeatureCache, feature_file
from qprompt_runtime.errors import OutputError
from qprompt_runtime.images import MAX_ASPECT, ImageTransform

_VERSION = 1
_EXTREME = 0.05  # the share of pixels beyond `darkest` and `brightest`
_BLUR = 1 / 112  # standard deviation, in short sides: 2 pixels of 224
_ROUNDING = 0.5  # what rounding to whole grey levels may add to a variance


@dataclass(frozen=True)
class Quality:
    """What can be said of a photo without knowing what it shows.

    Attributes:
        sharpness: Natural logarithm of the factor by which blurring the photo lowers the energy of its edges;
            0 or a little more for a photo that is blurred already, 1 to 2 for a sharp one.
        darkest: Grey level, 0 to 1, that a twentieth of the pixels does not reach.
        brightest: Grey level that a twentieth of the pixels exceeds.
    """

    sharpness: float
    darkest: float
    brightest: float


def measure(image: Image.Image, side: int) -> Quality:
    """Measure a photo with its short side brought to a number of pixels.

    Args:
        image: Any mode that pillow turns into grey levels.
        side: Pixels, at least 3.
    """
    short = min(image.size)
    size = (
        max(side, min(round(image.width * side / short), side * MAX_ASPECT)),
        max(side, min(round(image.height * side / short), side * MAX_ASPECT)),
    )
    # small first: a grey copy of a large photo would take memory that no limit counts
    grey = image.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0).convert("L")
    low, high = np.quantile(np.asarray(grey), [_EXTREME, 1 - _EXTREME]) / 255
    blurred = grey.filter(ImageFilter.GaussianBlur(side * _BLUR))
    return Quality(math.log(_edges(grey) / _edges(blurred)), float(low), float(high))


def _edges(grey: Image.Image) -> float:
    """Variance of the differences of neighbouring pixels, of grey levels from 0 to 255; never 0."""
    levels = np.asarray(grey, np.float32)
    return float(np.diff(levels, axis=0).var() + np.diff(levels, axis=1).var()) + _ROUNDING


class QualityCache:
    """The quality of photos by content, in the user's cache.

    `get` may be called from several threads, the rest from one.

    Args:
        transform: How the model wants its images; it decides at which size photos are decoded and measured.
        folder: Folder of the cache; None keeps nothing on disk.
        unkept: Takes the error where the file cannot be written; None raises it.
    """

    def __init__(
        self,
        transform: ImageTransform,
        folder: Path | None,
        unkept: Callable[[OutputError], None] | None = None,
    ) -> None:
        self.side = min(transform.size)
        facts = {"quality": _VERSION, "pixels": repr(transform), "pillow": PIL.__version__}
        identity = json.dumps(facts, sort_keys=True)
        self._figures = FeatureCache(folder and feature_file(folder, identity), identity, unkept)

    @classmethod
    def of_user(
        cls, transform: ImageTransform, unkept: Callable[[OutputError], None] | None = None
    ) -> QualityCache:
        """The cache in the user's folder, if there is one."""
        return cls(transform, cache_folder("features"), unkept)

    def get(self, key: bytes) -> Quality | None:
        """What is known of a photo of this content hash."""
        entry = self._figures.get(key)
        return None if entry is None else Quality(*map(float, entry.features[0]))

    def measure(self, image: Image.Image) -> Quality:
        """Measure a photo, with the precision in which it will be kept."""
        return Quality(*map(float, np.array(astuple(measure(image, self.side)), np.float32)))

    def put(self, key: bytes, quality: Quality) -> None:
        """Add a photo; `save` writes it."""
        self._figures.put(key, Entry(np.array([astuple(quality)], np.float32), 0))

    def save(self) -> None:
        """Add what is new to the file.

        Raises:
            OutputError: It cannot be written, and there is no `unkept`.
        """
        self._figures.save()
