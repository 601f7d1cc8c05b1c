"""Training photos as pixels, for methods whose image features change with the prompt and cannot be kept."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qprompt_runtime.arrays import Array
from qprompt_runtime.images import ImageTransform, augment, read_image, to_pixels

_KEPT_BYTES = 64 * 10**6


class PhotoPixels:
    """Reads photos as they are needed; the last ones that fit 64 MB stay in memory.

    Args:
        paths: N photos that could be read before.
        transform: The backbone's preprocessing.
        views: Augmented views of each photo beside the plain one; an epoch sees one of them all, by chance.
        seed: Of views and choices.
    """

    def __init__(self, paths: Sequence[Path], transform: ImageTransform, views: int, seed: int) -> None:
        self.paths, self.transform, self.views, self.seed = paths, transform, views, seed
        each = 4 * 3 * transform.size[0] * transform.size[1]
        self._read = lru_cache(maxsize=max(1, _KEPT_BYTES // each))(self._view)

    def __call__(self, photos: NDArray[np.int64], epoch: int) -> Array:
        """Pixels of some photos in some epoch: float32 [B,3,H,W].

        Raises:
            ImageError: A photo can no longer be read.
        """
        chosen = np.random.default_rng([self.seed, epoch, 1]).integers(1 + self.views, size=len(self.paths))
        return np.stack([self._read(int(photo), int(chosen[photo])) for photo in photos])

    def _view(self, photo: int, view: int) -> Array:
        """View 0 is the plain photo."""
        image = read_image(self.paths[photo], self.transform)
        if view == 0:
            return to_pixels(image, self.transform)
        return augment(image, self.transform, np.random.default_rng([self.seed, photo, view]))
