"""Stems of training photos, for methods whose image features change with the prompt and cannot be kept.

What stands before the image tower's first block sees no prompt: it is computed once for each view of a photo,
and a training step runs the blocks behind it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qprompt_runtime.arrays import Array
from qprompt_runtime.deep_backbone import DeepBackbone
from qprompt_runtime.images import augment, read_image, to_pixels

KEPT_BYTES = 64 * 10**6
"""Most memory that kept stems take. Those used last stay; others are computed again when they are needed."""
_FLOAT_BYTES = 4


class PhotoStems:
    """Computes stems as they are needed, and keeps as many as `KEPT_BYTES` hold.

    Photos go through the stem one by one, and what is kept is float32: a stem is the same to the last bit
    whether it was kept or computed again. With the backbone's `spare_memory` its stem is closed after every
    batch.

    Args:
        paths: N photos that could be read before.
        backbone: The frozen model.
        views: Augmented views of each photo beside the plain one; an epoch sees one of them all, by chance.
        seed: Of views and choices.
    """

    def __init__(self, paths: Sequence[Path], backbone: DeepBackbone, views: int, seed: int) -> None:
        self.paths, self.backbone, self.views, self.seed = paths, backbone, views, seed
        each = _FLOAT_BYTES * math.prod(backbone.stem_shape)
        self._stem = lru_cache(maxsize=max(1, KEPT_BYTES // each))(self._computed)

    def __call__(self, photos: NDArray[np.int64], epoch: int) -> Array:
        """Stems of some photos in some epoch: float32 [B,T,V], as `DeepBackbone.encode_stem` returns them.

        Raises:
            ImageError: A photo can no longer be read.
        """
        chosen = np.random.default_rng([self.seed, epoch, 1]).integers(1 + self.views, size=len(self.paths))
        stems = np.stack([self._stem(int(photo), int(chosen[photo])) for photo in photos])
        if self.backbone.spare_memory:
            self.backbone.close_stem()
        return stems

    def _computed(self, photo: int, view: int) -> Array:
        """View 0 is the plain photo."""
        transform = self.backbone.manifest.image_transform
        image = read_image(self.paths[photo], transform)
        if view == 0:
            pixels = to_pixels(image, transform)
        else:
            pixels = augment(image, transform, np.random.default_rng([self.seed, photo, view]))
        stem: Array = self.backbone.encode_stem(pixels[None])[0]
        return stem
