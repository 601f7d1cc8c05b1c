"""The paper's protocols: which photos and classes are trained on, and which are judged by.

The idea: a protocol is a function from labelled photos to labelled photos; everything after that is the same training
and the same evaluation. Shots are drawn from all classes first (`splits.take_shots`), then classes are halved, as in CoOp.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from qprompt_edge.photos import LabelledPhotos
from qprompt_runtime.errors import PhotosError


def base_and_new(photos: LabelledPhotos) -> tuple[LabelledPhotos, LabelledPhotos]:
    """Halve the classes: a prompt is tuned on the base classes and judged on both halves, each among its own names.

    Args:
        photos: Of n classes in the order of their labels. All n count, also those without a photo, so that the
            parts of a data set (train, val, test) are halved at the same class.

    Returns:
        Base, the first ceil(n/2) classes, and new, the others; both labelled from 0, photos in their old order.
        What was skipped stays with `photos`.

    Raises:
        PhotosError: There are fewer than two classes.
    """
    count = len(photos.classes)
    if count < 2:
        raise PhotosError(f"base and new classes need at least 2 classes, got {count}")
    middle = (count + 1) // 2
    return _classes(photos, 0, middle), _classes(photos, middle, count)


def _classes(photos: LabelledPhotos, start: int, stop: int) -> LabelledPhotos:
    """The photos of the classes from `start` up to `stop`, which are labelled from 0."""
    chosen = photos.select(np.flatnonzero((photos.labels >= start) & (photos.labels < stop)))
    return replace(chosen, labels=chosen.labels - start, classes=photos.classes[start:stop], skipped=())
