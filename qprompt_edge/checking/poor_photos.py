"""Blurred, dark and blown-out photos.

The idea: a photo is listed if it is poor by itself and also poor compared with the others. What all photos of
a set or of a class have in common is no fault of a single photo: drawings on white, soft old pictures, a
camera at night.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qprompt_edge.checking.findings import PoorPhoto
from qprompt_edge.data.photo_quality import Quality

_Figures = NDArray[np.float64]

_DARK = 0.15
"""Grey level, 0 to 1, that the brightest twentieth of a dark photo does not reach."""
_PALE = 0.2
"""Distance from white that the darkest twentieth of a blown-out photo does not reach."""
_UNUSUAL = 0.5
"""And at most this share of what is usual in the set: of its brightness, or of its distance from white."""
_SOFT = 1 / 3
"""Share of the usual sharpness that a blurred photo does not reach; measured in `docs/check.md`."""
_ENOUGH = 10  # photos of a class that say what is usual in it


def poor_photos(
    quality: Sequence[Quality], paths: Sequence[Path], labels: NDArray[np.int64], classes: Sequence[str]
) -> tuple[tuple[PoorPhoto, ...], tuple[PoorPhoto, ...], tuple[PoorPhoto, ...]]:
    """Blurred, dark and blown-out photos, in this order, each the worst first.

    Args:
        quality: Of the N photos.
        paths: The photos.
        labels: int64 [N].
        classes: The classes' labels.
    """
    if not quality:
        return (), (), ()
    sharpness = np.array([it.sharpness for it in quality], np.float64)
    brightest = np.array([it.brightest for it in quality], np.float64)
    darkness = np.array([1 - it.darkest for it in quality], np.float64)

    def low(figures: _Figures, limits: _Figures, shown: Callable[[float], float]) -> tuple[PoorPhoto, ...]:
        return tuple(
            PoorPhoto(paths[i], classes[labels[i]], shown(float(figures[i])), shown(float(limits[i])))
            for i in np.argsort(figures - limits, kind="stable")
            if figures[i] < limits[i]
        )

    dark = low(brightest, np.minimum(_DARK, _UNUSUAL * _usual(brightest, labels)), lambda figure: figure)
    pale = low(darkness, np.minimum(_PALE, _UNUSUAL * _usual(darkness, labels)), lambda figure: 1 - figure)
    soft = low(sharpness, _SOFT * _usual(sharpness, labels), lambda figure: figure)
    explained = {
        it.path for it in (*dark, *pale)
    }  # where there is hardly any light and dark, there are no sharp edges
    return tuple(it for it in soft if it.path not in explained), dark, pale


def _usual(figures: _Figures, labels: NDArray[np.int64]) -> _Figures:
    """What is usual for each photo: the median of all photos.

    The median of its class takes its place if that is lower and the class has enough photos.

    Args:
        figures: [N].
        labels: [N].
    """
    usual = np.full(len(figures), np.median(figures))
    for label in np.unique(labels):
        members = labels == label
        if members.sum() >= _ENOUGH:
            usual[members] = min(usual[members][0], np.median(figures[members]))
    return usual
