"""Photos to a task: encoded once, split into what is trained on and what is judged by."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from qprompt_edge.adaptation.options import AdaptOptions
from qprompt_edge.data.csv_files import read_class_names
from qprompt_edge.data.features import Examples, FeatureCache, encode_photos
from qprompt_edge.data.photos import LabelledPhotos, SkippedPhoto, drop_unreadable
from qprompt_edge.data.splits import near_duplicate_groups, split_holdout, take_shots
from qprompt_edge.reporter import Reporter
from qprompt_runtime.backbone import Backbone
from qprompt_runtime.errors import PhotosError
from qprompt_runtime.prompt_file import ClassName


@dataclass(frozen=True)
class TaskData:
    """Encoded photos, split into those to train on and those to judge by.

    Attributes:
        train: The photos to train on, each in all of its views.
        test: The photos to judge by; none where nothing was held out.
        skipped: Files that were left out.
    """

    train: Examples
    test: Examples
    skipped: tuple[SkippedPhoto, ...]


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
        PhotosError: A class is left without a readable photo, or test photos have a class of their own.
    """
    texts = read_class_names(class_names, photos.classes) if class_names is not None else {}
    _check_known(photos, tests)
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
        to_trained = np.array([photos.classes.index(label) for label in tests.classes], np.int64)
        labels = np.concatenate([labels, to_trained[tests.labels]])
    readable = np.setdiff1d(np.arange(len(paths)), list(encoded.failures))
    train, held = readable[readable < count], readable[readable >= count]
    if tests is None:
        groups = near_duplicate_groups(encoded.hashes[train], labels[train])
        train, held = (train[side] for side in split_holdout(labels[train], options.holdout, seed, groups))
    if options.shots is not None:
        train = train[take_shots(labels[train], options.shots, seed)]
    classes = tuple(
        ClassName(label, texts[label]) if label in texts else ClassName.from_label(label)
        for label in photos.classes
    )
    whole = Examples(classes, paths, labels, encoded.features)
    return TaskData(whole.select(train), whole.select(held), skipped)


def _check_known(photos: LabelledPhotos, tests: LabelledPhotos | None) -> None:
    unknown = sorted(set(tests.classes) - set(photos.classes)) if tests is not None else []
    if unknown:
        raise PhotosError(
            f"the test photos have the class {unknown[0]!r}, which was not trained; trained are "
            f"{', '.join(map(repr, photos.classes))}"
        )
