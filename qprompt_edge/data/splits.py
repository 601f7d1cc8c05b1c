"""The split into training photos and held-out photos.

The idea: a verdict is honest only if no photo was trained on whose twin is tested on. Cameras take bursts, so
photos are hashed by their coarse light and dark (`difference_hash`), near-identical ones are grouped, and a
group stays on one side of the split. Every choice is a function of a seed and of the photos' order, which is
that of their paths.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from itertools import islice

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from qprompt_runtime.arrays import distinct
from qprompt_runtime.errors import PhotosError

MAX_DISTANCE = 6
"""Bits of 64 in which the hashes of two near-identical photos differ at most.

Measured on Caltech-101, PACS and 60 photographs: re-compressed, halved or darkened copies lie within it in
99% of cases, copies shifted by 1% of the width in 83% to 95%; of pairs of different photos of one class 0.1%
(Caltech-101, true duplicates included), 0.01% (PACS photo) and none of 1770 do.
"""

MAX_SHARE = 0.25
"""And at most this share of the bits that are set in either hash.

Drawings on white have few bits set, so even different ones are near in bits: of PACS sketch pairs 3.8%
without this bound, 1.6% with it; photographs hardly change.
"""

MIN_PHOTOS_FOR_HOLDOUT = 4
_CHUNK = 256


def difference_hash(image: Image.Image) -> int:
    """Hash a photo so that near-identical photos get near-identical hashes (dHash, N. Krawetz 2013).

    Args:
        image: Any mode that pillow turns into grey levels; full size or reduced.

    Returns:
        64 bits: whether each cell of a 9 x 8 thumbnail is darker than its right neighbour, row by row, the
        first in the highest bit.
    """
    grey = np.asarray(image.convert("L").resize((9, 8), Image.Resampling.BOX), dtype=np.int16)
    return int.from_bytes(np.packbits(grey[:, 1:] > grey[:, :-1]).tobytes(), "big")


def near_duplicate_groups(hashes: NDArray[np.uint64], labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number the groups of near-identical photos.

    Args:
        hashes: [N] uint64, from `difference_hash`.
        labels: [N] int64; photos of different classes are never grouped.

    Returns:
        [N] int64: the position of the first photo of each photo's group. Groups are chains: neighbours are
        near, the ends of a long burst need not be. A camera that never moves sees the same background in
        every photo: an object of less than about 0.4 of the picture's height there leaves a class as one
        group.
    """
    groups = np.arange(len(hashes), dtype=np.int64)
    for label in distinct(labels):
        members = np.flatnonzero(labels == label)
        groups[members] = members[chains(near_rows(hashes[members]), len(members))]
    return groups


def near_rows(hashes: NDArray[np.uint64]) -> Iterator[NDArray[np.bool_]]:
    """For each photo, which photos are near-identical to it by their hashes alone: N rows of bool [N].

    Rows are computed in blocks, so that memory does not grow with N squared.

    Args:
        hashes: [N] uint64, from `difference_hash`.
    """
    bits = np.unpackbits(np.asarray(hashes, dtype=">u8").view(np.uint8).reshape(-1, 8), axis=1)
    ones = bits.astype(np.float32)
    count = ones.sum(axis=1)
    for start in range(0, len(bits), _CHUNK):
        rows = slice(start, start + _CHUNK)
        both = ones[rows] @ ones.T  # exact: small whole numbers
        total = count[rows, None] + count[None, :]
        yield from total - 2 * both <= np.minimum(MAX_DISTANCE, MAX_SHARE * (total - both))


def chains(near: Iterable[NDArray[np.bool_]], count: int) -> NDArray[np.int64]:
    """Join what is near: [N] int64, the position of the first photo of each one's chain.

    Args:
        near: N rows of bool [N], as `near_rows` has them.
        count: N.
    """
    first = np.arange(count, dtype=np.int64)
    for index, row in enumerate(near):
        met = distinct(first[:index][row[:index]])
        if len(met) > 0:
            first[index] = met[0]
        if len(met) > 1:  # this photo links chains that were apart
            first[np.isin(first, met)] = met[0]
    return first


def take_shots(
    labels: NDArray[np.int64], shots: int, seed: int, without: Container[int] = ()
) -> NDArray[np.int64]:
    """Choose photos of each class at random, as few-shot protocols do.

    Args:
        labels: [N] int64 class of each photo.
        shots: How many of each class; a class with fewer keeps all.
        seed: 0 or more.
        without: Positions that are never chosen; the next ones take their places, and nothing else changes.

    Returns:
        Sorted positions of the chosen photos, int64.

    Raises:
        PhotosError: `shots` is less than 1.
    """
    if shots < 1:
        raise PhotosError(f"shots must be at least 1, got {shots}")
    rng = np.random.default_rng(seed)
    chosen: list[int] = []
    for label in distinct(labels):
        order = rng.permutation(np.flatnonzero(labels == label)).tolist()
        chosen += islice((i for i in order if i not in without), shots)
    return np.array(sorted(chosen), np.int64)


def split_holdout(
    labels: NDArray[np.int64], fraction: float, seed: int, groups: NDArray[np.int64] | None = None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Keep some photos of each class away from training.

    Of a class with n photos, round(fraction * n) are held out (halves to the even number): at least one from
    4 photos on, none below, and never all. A group goes to one side as a whole: groups are drawn in random
    order and taken while they fit; where none fits, the smallest is taken if it is at most half of the class.
    A class that has fewer than 4 photos, a single group, or only groups that large has no photo in the
    hold-out, which the caller sees from the labels there and tells the user.

    Args:
        labels: [N] int64 class of each photo.
        fraction: Share to hold out, 0 (none) to less than 1.
        seed: 0 or more.
        groups: [N] int64 from `near_duplicate_groups`; None takes every photo for itself.

    Returns:
        Sorted positions to train on and to hold out, both int64, together all N.

    Raises:
        PhotosError: `fraction` is out of range.
    """
    if not 0 <= fraction < 1:
        raise PhotosError(f"the hold-out must be a fraction from 0 to less than 1, got {fraction}")
    if groups is None:
        groups = np.arange(len(labels), dtype=np.int64)
    rng = np.random.default_rng(seed)
    held = np.zeros(len(labels), dtype=bool)
    for label in distinct(labels):
        members = np.flatnonzero(labels == label)
        names, sizes = np.unique(groups[members], return_counts=True)
        order = rng.permutation(len(names))
        if fraction == 0 or len(members) < MIN_PHOTOS_FOR_HOLDOUT or len(names) < 2:
            continue
        room = min(max(1, round(fraction * len(members))), len(members) - 1)
        taken = _fitting(sizes[order], room)
        if not taken and 2 * sizes.min() <= len(members):
            taken = [int(np.argmin(sizes[order]))]
        held[members[np.isin(groups[members], names[order[taken]])]] = True
    return np.flatnonzero(~held), np.flatnonzero(held)


def _fitting(sizes: NDArray[np.int64], room: int) -> list[int]:
    """Positions of the sizes that fit into `room` one after another."""
    taken = []
    for position, size in enumerate(sizes.tolist()):
        if size <= room:
            taken.append(position)
            room -= size
    return taken
