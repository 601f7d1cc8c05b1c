"""Duplicate photos: in two classes, or in both training and test photos.

The idea: a photo is the same if its file has the same bytes. Near-identical ones are the business of
`splits`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_SHOWN = 10


@dataclass(frozen=True)
class SamePhoto:
    """One photo in several classes; at most one of its labels is right.

    Attributes:
        paths: Where it lies.
        labels: Its label at each place.
    """

    paths: tuple[Path, ...]
    labels: tuple[str, ...]

    def to_json(self) -> dict[str, list[str]]:
        """As JSON can hold it."""
        return {"paths": list(map(str, self.paths)), "labels": list(self.labels)}


def same_lines(same: Sequence[SamePhoto], end: str = "") -> list[str]:
    """Photos that are in several classes, the first few of them, as lines for people."""
    lines = [
        f"the same photo is in the classes {', '.join(sorted(set(photo.labels)))}: "
        f"{', '.join(map(str, photo.paths[:_SHOWN]))}{end}"
        for photo in same[:_SHOWN]
    ]
    if len(same) > _SHOWN:
        lines.append(f"... and {len(same) - _SHOWN} more photos in several classes; --json lists all")
    return lines


def same_content(keys: NDArray[np.uint8], positions: Iterable[int]) -> list[list[int]]:
    """Positions with the same content, where there are several.

    Args:
        keys: [N,16], from `EncodedPhotos`.
        positions: Those of photos that could be read.
    """
    groups: dict[bytes, list[int]] = {}
    for position in positions:
        groups.setdefault(keys[position].tobytes(), []).append(int(position))
    return [group for group in groups.values() if len(group) > 1]


def in_several_classes(
    keys: NDArray[np.uint8], labels: NDArray[np.int64], positions: Iterable[int]
) -> list[list[int]]:
    """As `same_content`, only those with several labels.

    Args:
        keys: [N,16].
        labels: [N].
        positions: Those of photos that could be read.
    """
    return [group for group in same_content(keys, positions) if len({int(labels[i]) for i in group}) > 1]


def described(
    groups: Iterable[Sequence[int]], paths: Sequence[Path], labels: NDArray[np.int64], classes: Sequence[str]
) -> tuple[SamePhoto, ...]:
    """Groups of positions as paths and labels."""
    return tuple(
        SamePhoto(tuple(paths[i] for i in group), tuple(classes[labels[i]] for i in group))
        for group in groups
    )
