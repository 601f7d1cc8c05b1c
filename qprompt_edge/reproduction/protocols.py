"""The paper's protocols: which photos and classes are for training, and which for testing.

The idea: a protocol is a list of jobs; everything after that is the same training and the same evaluation.
Shots are drawn from all classes first (`splits.take_shots`), then classes are halved, as in CoOp.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from qprompt_edge.data.photos import LabelledPhotos
from qprompt_edge.reproduction.jobs import ALL, BASE, BASE_OF_ALL, NEW, NEW_OF_ALL, Job, Target
from qprompt_edge.reproduction.measures import BASE_TO_NEW, FEW_SHOT, GENERALISED
from qprompt_runtime.errors import PhotosError


def base_and_new(photos: LabelledPhotos) -> tuple[LabelledPhotos, LabelledPhotos]:
    """Halve the classes into base and new.

    A prompt is tuned on the base classes and judged on both halves, each among its own names.

    Args:
        photos: Of n classes in the order of their labels. All n count, also those without a photo, so that
            the parts of a data set (train, val, test) are halved at the same class.

    Returns:
        Base, the first ceil(n/2) classes, and new, the others; both labelled from 0, photos in their old
        order. What was skipped stays with `photos`.

    Raises:
        PhotosError: There are fewer than two classes.
    """
    count = len(photos.classes)
    if count < 2:
        raise PhotosError(f"base and new classes need at least 2 classes, got {count}")
    middle = (count + 1) // 2
    return _classes(photos, 0, middle), _classes(photos, middle, count)


def base_to_new(methods: Sequence[str], sets: Sequence[str], shots: int, seeds: Sequence[int]) -> list[Job]:
    """Base-to-new generalization.

    Tuned on the first half of the classes, judged on either half among its own names.
    """
    return [
        Job(BASE_TO_NEW, method, name, BASE, shots, seed, (Target(name, BASE), Target(name, NEW)))
        for name in sets
        for method in methods
        for seed in seeds
    ]


def generalised(methods: Sequence[str], sets: Sequence[str], shots: int, seeds: Sequence[int]) -> list[Job]:
    """Generalised base-to-new.

    Tuned on the first half of the classes; both halves are judged among the names of all.
    """
    return [
        Job(
            GENERALISED,
            method,
            name,
            BASE,
            shots,
            seed,
            (Target(name, BASE_OF_ALL), Target(name, NEW_OF_ALL)),
        )
        for name in sets
        for method in methods
        for seed in seeds
    ]


def few_shot(
    methods: Sequence[str], sets: Sequence[str], shots: Sequence[int], seeds: Sequence[int]
) -> list[Job]:
    """Few-shot learning: tuned and judged on all classes.

    The paper takes 1, 2, 4, 8 and 16 photos of each.
    """
    return [
        Job(FEW_SHOT, method, name, ALL, count, seed, (Target(name),))
        for name in sets
        for method in methods
        for count in shots
        for seed in seeds
    ]


def transfer(
    protocol: str,
    methods: Sequence[str],
    source: str,
    targets: Sequence[str],
    shots: int,
    seeds: Sequence[int],
) -> list[Job]:
    """Cross-dataset transfer and domain generalization.

    Tuned on one set; judged, unchanged, on it and on others.

    Args:
        protocol: `cross-dataset` (other classes) or `domain` (the same classes, other pictures).
        methods: Names of recipes.
        source: The set that is trained on; ImageNet in the paper.
        targets: The others.
        shots: Photos of each class; 16 in the paper.
        seeds: One draw and one training each.
    """
    judged = tuple(map(Target, (source, *targets)))
    return [Job(protocol, method, source, ALL, shots, seed, judged) for method in methods for seed in seeds]


def _classes(photos: LabelledPhotos, start: int, stop: int) -> LabelledPhotos:
    """The photos of the classes from `start` up to `stop`, which are labelled from 0."""
    chosen = photos.select(np.flatnonzero((photos.labels >= start) & (photos.labels < stop)))
    return replace(chosen, labels=chosen.labels - start, classes=photos.classes[start:stop], skipped=())
