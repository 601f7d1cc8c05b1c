"""Photos to a task: encoded once, split into what is trained on and what is judged by."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qprompt_edge.adaptation.options import AdaptOptions
from qprompt_edge.data.csv_files import read_class_names
from qprompt_edge.data.features import EncodedPhotos, FeatureCache, encode_photos
from qprompt_edge.data.photos import LabelledPhotos, SkippedPhoto, drop_unreadable
from qprompt_edge.data.splits import near_duplicate_groups, split_holdout, take_shots
from qprompt_edge.reporter import Reporter
from qprompt_edge.tuning.methods import TrainingSet
from qprompt_runtime.arrays import Array
from qprompt_runtime.backbone import Backbone
from qprompt_runtime.errors import PhotosError
from qprompt_runtime.prompt_file import ClassName


@dataclass(frozen=True)
class TaskData:
    """Encoded photos, split into those to train on and those to judge by.

    Attributes:
        train: The photos to train on.
        test_paths: M photos to judge by; M is 0 where nothing was held out.
        test_features: float32 [M,E].
        test_labels: int64 [M].
        skipped: Files that were left out.
    """

    train: TrainingSet
    test_paths: tuple[Path, ...]
    test_features: Array
    test_labels: NDArray[np.int64]
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
        progress=lambda done, total: reporter.stage("encoding photos", done, total),
    )
    count = len(photos.paths)
    kept = np.array([i for i in range(count) if i not in encoded.failures], np.int64)
    readable = drop_unreadable(photos, {i: why for i, why in encoded.failures.items() if i < count})
    skipped = readable.skipped
    features, hashes = encoded.features[kept], encoded.hashes[kept]
    if tests is None:
        groups = near_duplicate_groups(hashes, readable.labels)
        train, held = split_holdout(readable.labels, options.holdout, options.training.seed, groups)
        test_paths = tuple(readable.paths[i] for i in held)
        test_features, test_labels = features[held, 0], readable.labels[held]
    else:
        train = np.arange(len(readable.paths))
        readable_tests, test_features, test_labels = _test_set(photos.classes, tests, encoded, count)
        test_paths = readable_tests.paths
        skipped += readable_tests.skipped
    if options.shots is not None:
        train = train[take_shots(readable.labels[train], options.shots, options.training.seed)]
    classes = tuple(
        ClassName(label, texts[label]) if label in texts else ClassName.from_label(label)
        for label in photos.classes
    )
    paths = tuple(readable.paths[i] for i in train)
    chosen = TrainingSet(classes, paths, readable.labels[train], features[train])
    return TaskData(chosen, test_paths, test_features, test_labels, skipped)


def _check_known(photos: LabelledPhotos, tests: LabelledPhotos | None) -> None:
    unknown = sorted(set(tests.classes) - set(photos.classes)) if tests is not None else []
    if unknown:
        raise PhotosError(
            f"the test photos have the class {unknown[0]!r}, which was not trained; trained are "
            f"{', '.join(map(repr, photos.classes))}"
        )


def _test_set(
    classes: tuple[str, ...], tests: LabelledPhotos, encoded: EncodedPhotos, start_at: int
) -> tuple[LabelledPhotos, Array, NDArray[np.int64]]:
    """The readable test photos with their features, and their labels as trained."""
    failures = {i - start_at: why for i, why in encoded.failures.items() if i >= start_at}
    readable = drop_unreadable(tests, failures)
    kept = np.array([i for i in range(len(tests.paths)) if i not in failures], np.int64)
    to_trained = np.array([classes.index(label) for label in tests.classes], np.int64)
    return readable, encoded.features[start_at + kept, 0], to_trained[readable.labels]
