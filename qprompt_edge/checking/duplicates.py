"""Photos that are the same, or nearly so, in one class or in several.

The idea: hashes of coarse light and dark propose pairs, and the backbone's features confirm them. Hashes
alone would do within a class; over all classes there are so many pairs that some meet by chance.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qprompt_edge.checking.findings import Duplicates
from qprompt_edge.data.splits import chains, near_rows
from qprompt_runtime.arrays import Array

LEAST_COSINE = 0.9
"""Cosine of the features of two near-identical photos at least."""


def duplicate_groups(features: Array, hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Number the groups of near-identical photos, whatever their classes.

    Args:
        features: float32 [N,E], rows of length 1.
        hashes: [N] uint64, from `splits.difference_hash`.

    Returns:
        [N] int64: the position of the first photo of each photo's group.
    """

    def confirmed() -> Iterator[NDArray[np.bool_]]:
        for index, near in enumerate(near_rows(hashes)):
            proposed = np.flatnonzero(near)
            near[proposed] = features[proposed] @ features[index] >= LEAST_COSINE
            yield near

    return chains(confirmed(), len(hashes))


def duplicates(
    groups: NDArray[np.int64],
    keys: NDArray[np.uint8],
    paths: Sequence[Path],
    labels: NDArray[np.int64],
    classes: Sequence[str],
) -> tuple[Duplicates, ...]:
    """The groups of several photos: those in several classes first, then by size.

    Args:
        groups: int64 [N], from `duplicate_groups`.
        keys: uint8 [N,16], hashes of the photos' content.
        paths: The N photos.
        labels: int64 [N].
        classes: The classes' labels.
    """
    names, counts = np.unique(groups, return_counts=True)
    found = []
    for name in names[counts > 1]:
        members = np.flatnonzero(groups == name).tolist()
        found.append(
            Duplicates(
                paths=tuple(paths[i] for i in members),
                labels=tuple(classes[labels[i]] for i in members),
                identical=bool((keys[members] == keys[members[0]]).all()),
            )
        )
    return tuple(sorted(found, key=lambda it: (not it.across_classes, -len(it.paths))))
