"""Data sets of an experiment: found by name or folder, and encoded once for all jobs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qprompt_edge.data.feature_cache import FeatureCache, feature_file
from qprompt_edge.data.features import Examples, encode_photos, feature_identity
from qprompt_edge.data.folders import look_at
from qprompt_edge.data.photos import LabelledPhotos, drop_unreadable, find_photos
from qprompt_edge.data.same_photos import same_content
from qprompt_edge.data.splits import take_shots
from qprompt_edge.evaluation.zero_shot import PHOTO_TEMPLATE
from qprompt_edge.reporter import Reporter
from qprompt_edge.reproduction.datasets import DATA_SETS, read_dataset
from qprompt_edge.reproduction.jobs import ALL, BASE, BASE_OF_ALL, NEW, NEW_OF_ALL
from qprompt_edge.reproduction.protocols import base_and_new
from qprompt_runtime.arrays import Array
from qprompt_runtime.backbone import Backbone
from qprompt_runtime.errors import PhotosError
from qprompt_runtime.prompt_file import ClassName
from qprompt_runtime.text import counted, printable

Draw = tuple[int, int]
"""Photos of each class, and the seed by which they are drawn."""

_NAME = re.compile(r"[\w-][\w. -]{0,63}")  # files are named after it


@dataclass(frozen=True)
class ExperimentSet:
    """A data set.

    Attributes:
        name: In tables.
        template: Hand-written prompt; `{}` stands for the class name.
        classes: The C classes.
        pool: Photos to draw from for training; none in sets for testing only.
        test: Photos to judge by; None takes those of the pool that were not drawn.
        unreadable: Positions in the pool of photos that are passed over, and why. What is drawn depends on no
            others: draws are the same, whichever were asked for before.
        published: Whether the classes are a published set's, two of which may have the same words ("crane").
    """

    name: str
    template: str
    classes: tuple[ClassName, ...]
    pool: LabelledPhotos
    test: LabelledPhotos | None
    unreadable: Mapping[int, str] = field(default_factory=dict)
    published: bool = False

    def _taken(self, draw: Draw) -> NDArray[np.int64]:
        return take_shots(self.pool.labels, *draw, without=self.unreadable)

    def drawn(self, draw: Draw) -> LabelledPhotos:
        """The photos to train on, of all classes.

        Base and new classes are separated afterwards, as CoOp does.
        """
        return self.pool.select(self._taken(draw))

    def judged(self, draw: Draw | None) -> LabelledPhotos:
        """The photos to judge by, where training used `draw`; None: where it used another set."""
        if self.test is not None:
            return self.test
        passed = [*self.unreadable, *([] if draw is None else self._taken(draw))]
        return self.pool.select(np.setdiff1d(np.arange(len(self.pool.paths)), passed))

    def part(self, photos: LabelledPhotos, part: str) -> tuple[LabelledPhotos, tuple[ClassName, ...]]:
        """Those of the given photos that belong to a part (see `jobs`), labelled from 0.

        Returned with the classes that they are judged among.
        """
        if part == ALL:
            return photos, self.classes
        middle = (len(self.classes) + 1) // 2
        if part in (BASE_OF_ALL, NEW_OF_ALL):
            known = photos.labels < middle
            return photos.select(np.flatnonzero(known if part == BASE_OF_ALL else ~known)), self.classes
        base, new = base_and_new(photos)
        return {BASE: (base, self.classes[:middle]), NEW: (new, self.classes[middle:])}[part]


@dataclass(frozen=True)
class EncodedSet:
    """A data set with the features of every photo that the jobs need.

    Attributes:
        photos: The data set.
        rows: Row of each photo in `features`.
        features: float32 [N,E], rows of length 1.
    """

    photos: ExperimentSet
    rows: Mapping[Path, int]
    features: Array

    def part(self, photos: LabelledPhotos, part: str) -> Examples:
        """Some of the set's photos that belong to a part of its classes.

        Args:
            photos: Drawn or judged photos of this set.
            part: One of those in `jobs`.

        Returns:
            The photos, labelled from 0, in one view.
        """
        photos, classes = self.photos.part(photos, part)
        chosen = np.array([self.rows[path] for path in photos.paths], np.int64)
        return Examples(classes, photos.paths, photos.labels, self.features[chosen][:, None])


def find_sets(specifications: Sequence[str], data: Path | None) -> dict[str, ExperimentSet]:
    """Find data sets.

    Args:
        specifications: Names in `datasets.DATA_SETS`, or `NAME=FOLDER`: a folder with a sub-folder for each
            class, or with `train` and `test`, which have such sub-folders each.
        data: The folder that holds the named sets' own folders.

    Returns:
        By name, in the order given.

    Raises:
        PhotosError: A set is unknown, missing, or named twice, or a name is not fit for a file.
    """
    found: dict[str, ExperimentSet] = {}
    known = {source.name for source in DATA_SETS}
    for text in specifications:
        name, _, folder = text.partition("=")
        if folder:
            if not _NAME.fullmatch(name):
                raise PhotosError(
                    f"{printable(text)}: the name of a data set has 1 to 64 letters, digits, spaces, '.', "
                    "'-' or '_', and begins with neither '.' nor a space"
                )
            chosen = _own_folder(name, Path(folder))
        elif name in known and data is not None:
            chosen = _published(name, data)
        elif name in known:
            raise PhotosError(
                f"data set {name!r} needs --data DIR, the folder that holds the sets' own folders"
            )
        else:
            raise PhotosError(
                f"unknown data set {printable(name)}; known are {', '.join(sorted(known))}; for a folder of "
                "your own write NAME=FOLDER"
            )
        if name in found:
            raise PhotosError(f"data set {printable(name)} is named twice")
        found[name] = chosen
    return found


def _published(name: str, data: Path) -> ExperimentSet:
    dataset = read_dataset(name, data)
    classes = tuple(map(ClassName, dataset.test.classes, dataset.class_names))
    return ExperimentSet(name, dataset.template, classes, dataset.train, dataset.test, published=True)


def _own_folder(name: str, folder: Path) -> ExperimentSet:
    """A folder of class folders, or one that holds `train` and `test`."""
    parts = folder / "train", folder / "test"
    test = None
    if all(look_at(part).is_folder for part in parts):
        pool, test = (find_photos(part) for part in parts)
        if pool.classes != test.classes:
            odd = sorted(set(pool.classes) ^ set(test.classes))[0]
            raise PhotosError(f"{printable(folder)}: class {printable(odd)} is in only one of train and test")
    else:
        pool = find_photos(folder)
    return ExperimentSet(name, PHOTO_TEMPLATE, tuple(map(ClassName.from_label, pool.classes)), pool, test)


def encode_set(
    photos: ExperimentSet, draws: Iterable[Draw], backbone: Backbone, cache: Path, reporter: Reporter
) -> EncodedSet:
    """Encode what is drawn and judged; photos that cannot be read leave the set before anything is drawn.

    Args:
        photos: The data set.
        draws: Every draw that training will make from it.
        backbone: The frozen model.
        cache: Folder to keep features in; sets share them.
        reporter: Told how far it is, and what was left out.

    Raises:
        PhotosError: A class is left without a readable photo.
    """
    draws, stage = tuple(draws), f"encoding {photos.name}"
    identity = feature_identity(backbone, 0, 1)
    kept = FeatureCache(feature_file(cache, identity), identity)
    while True:
        paths = list(dict.fromkeys(_needed(photos, draws)))
        encoded = encode_photos(
            backbone,
            paths,
            cache=kept,
            progress=lambda done, total: reporter.stage(stage, done, total),
        )
        if not encoded.failures:
            if not photos.published:
                _note_same(photos.name, paths, encoded.keys, reporter)
            rows = {path: row for row, path in enumerate(paths)}
            return EncodedSet(photos, rows, encoded.features[:, 0])
        failures = {paths[i]: why for i, why in encoded.failures.items()}
        for path, why in failures.items():
            reporter.note(f"left out {printable(path)}: {why}")
        test = None if photos.test is None else drop_unreadable(photos.test, _among(photos.test, failures))
        unreadable = {**photos.unreadable, **_among(photos.pool, failures)}
        photos = replace(photos, unreadable=unreadable, test=test)
        drop_unreadable(photos.pool, unreadable)  # no class without a photo


def _note_same(name: str, paths: Sequence[Path], keys: NDArray[np.uint8], reporter: Reporter) -> None:
    """Say that photos are there more than once: one may be drawn, and its twin judged by."""
    twins = same_content(keys, range(len(paths)))
    if twins:
        first, second = (printable(paths[i]) for i in twins[0][:2])
        reporter.note(
            f"data set {name} has {counted(len(twins), 'photo')} more than once, such as {first} and "
            f"{second}; if one copy is trained on and the other is tested on, results are too good"
        )


def _needed(photos: ExperimentSet, draws: Sequence[Draw]) -> Iterable[Path]:
    for draw in draws:
        yield from photos.drawn(draw).paths
    yield from photos.judged(None).paths


def _among(photos: LabelledPhotos, failures: Mapping[Path, str]) -> dict[int, str]:
    """Failures by position in `photos`."""
    return {i: failures[path] for i, path in enumerate(photos.paths) if path in failures}
