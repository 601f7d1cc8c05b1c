"""The task that `adapt` solves: photos are encoded once and split into training and held-out photos."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qprompt_edge.adaptation.options import SHARED, AdaptOptions
from qprompt_edge.data.csv_files import read_class_names
from qprompt_edge.data.feature_cache import FeatureCache
from qprompt_edge.data.features import Examples, encode_photos
from qprompt_edge.data.photos import LabelledPhotos, SkippedPhoto, drop_unreadable
from qprompt_edge.data.same_photos import SamePhoto, described, in_several_classes
from qprompt_edge.data.splits import near_duplicate_groups, split_holdout, take_shots
from qprompt_edge.reporter import Reporter
from qprompt_runtime.backbone import Backbone
from qprompt_runtime.errors import PhotosError
from qprompt_runtime.prompt_file import ClassName
from qprompt_runtime.text import printable
from qprompt_runtime.tokenizer import check_names


@dataclass(frozen=True)
class TaskData:
    """Encoded photos, split into those to train on and those to judge by.

    Attributes:
        train: The photos to train on, each in all of its views.
        test: The photos to judge by; none where nothing was held out.
        skipped: Files that were left out, those among the test photos that are trained on among them.
        bursts: int64 [N]; training photos that are nearly the same have the same number.
        same: Photos that are in several classes; none is in `test`.
        keys: uint8 [N,16]; content hashes of the training photos.
    """

    train: Examples
    test: Examples
    skipped: tuple[SkippedPhoto, ...]
    bursts: NDArray[np.int64]
    same: tuple[SamePhoto, ...]
    keys: NDArray[np.uint8]


def prepare(
    photos: LabelledPhotos,
    tests: LabelledPhotos | None,
    class_names: Path | None,
    backbone: Backbone,
    options: AdaptOptions,
    cache: FeatureCache,
    reporter: Reporter,
) -> TaskData:
    """Encode everything once, and split it into what is trained on and what is judged by.

    Args:
        photos: Labelled photos.
        tests: Photos to judge by; None holds some of `photos` out.
        class_names: A CSV file with words for labels, or None.
        backbone: The frozen model.
        options: Shots, hold-out, views and seed.
        cache: Where features are kept.
        reporter: Told how far it is.

    Raises:
        PhotosError: A class is left without a readable photo, test photos have a class of their own, or all
            are trained on.
        TextError: A class has no words, or two that share a context have the same.
    """
    _check_known(photos, tests)
    classes = _named(photos.classes, class_names)
    pairs = [(name.label, name.text) for name in classes]
    check_names(pairs, lambda text: backbone.tokenizer.encode(text), shared=options.contexts == SHARED)
    paths = photos.paths + (tests.paths if tests is not None else ())
    encoded = encode_photos(
        backbone,
        paths,
        views=options.views,
        seed=options.training.seed,
        cache=cache,
        max_memory=options.max_memory,
        progress=lambda done, total: reporter.stage("encoding photos", done, total),
    )
    count, seed = len(photos.paths), options.training.seed
    skipped = drop_unreadable(photos, {i: why for i, why in encoded.failures.items() if i < count}).skipped
    labels = photos.labels
    if tests is not None:
        unread = {i - count: why for i, why in encoded.failures.items() if i >= count}
        skipped += drop_unreadable(tests, unread).skipped
        trained = {label: index for index, label in enumerate(photos.classes)}
        to_trained = np.array([trained[label] for label in tests.classes], np.int64)
        labels = np.concatenate([labels, to_trained[tests.labels]])
    readable = np.array([i for i in range(len(paths)) if i not in encoded.failures], np.int64)
    train, held = readable[readable < count], readable[readable >= count]
    groups = near_duplicate_groups(encoded.hashes[train], labels[train])
    bursts = np.zeros(len(paths), np.int64)
    bursts[train] = groups
    if tests is None:
        train, held = (train[side] for side in split_holdout(labels[train], options.holdout, seed, groups))
    if options.shots is not None:
        train = train[take_shots(labels[train], options.shots, seed)]
    if tests is not None:
        held, trained_on = _without_trained(held, train, encoded.keys, paths)
        skipped += trained_on
    unsure = in_several_classes(encoded.keys, labels, readable)
    held = held[~np.isin(held, [i for group in unsure for i in group])]
    whole = Examples(classes, paths, labels, encoded.features)
    same = described(unsure, paths, labels, photos.classes)
    return TaskData(
        whole.select(train), whole.select(held), skipped, bursts[train], same, encoded.keys[train]
    )


def _named(labels: Sequence[str], class_names: Path | None) -> tuple[ClassName, ...]:
    """Labels with the words that stand for them."""
    texts = read_class_names(class_names, labels) if class_names is not None else {}
    return tuple(
        ClassName(label, texts[label]) if label in texts else ClassName.from_label(label) for label in labels
    )


def _without_trained(
    held: NDArray[np.int64], train: NDArray[np.int64], keys: NDArray[np.uint8], paths: Sequence[Path]
) -> tuple[NDArray[np.int64], tuple[SkippedPhoto, ...]]:
    """Positions to judge by without photos that are trained on, and those photos.

    Raises:
        PhotosError: None is left.
    """
    first = {keys[i].tobytes(): i for i in train[::-1]}
    twins = {int(i): paths[first[keys[i].tobytes()]] for i in held if keys[i].tobytes() in first}
    if twins and len(twins) == len(held):
        position, twin = next(iter(twins.items()))
        raise PhotosError(
            f"all {len(held)} test photos are training photos too ({printable(paths[position])} is the same "
            f"as {printable(twin)}); give other --test-images, or none: then some photos are held out"
        )
    left = np.array([i for i in held if int(i) not in twins], np.int64)
    reason = "is trained on too, so it does not count in the verdict: it is the same photo as"
    return left, tuple(SkippedPhoto(paths[i], f"{reason} {printable(twin)}") for i, twin in twins.items())


def _check_known(photos: LabelledPhotos, tests: LabelledPhotos | None) -> None:
    unknown = sorted(set(tests.classes) - set(photos.classes)) if tests is not None else []
    if unknown:
        raise PhotosError(
            f"the test photos have the class {unknown[0]!r}, which was not trained; trained are "
            f"{', '.join(map(repr, photos.classes))}"
        )
