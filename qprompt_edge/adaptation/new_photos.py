"""The photos of an update: encoded, each once, and put beside the classes that a prompt has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qprompt_edge.adaptation.tunings import keys_of
from qprompt_edge.data.csv_files import read_class_names
from qprompt_edge.data.feature_cache import FeatureCache
from qprompt_edge.data.features import encode_photos
from qprompt_edge.data.photos import LabelledPhotos, SkippedPhoto, drop_unreadable
from qprompt_edge.data.same_photos import SamePhoto, described, in_several_classes
from qprompt_edge.reporter import Reporter
from qprompt_runtime.arrays import Array
from qprompt_runtime.backbone import Backbone
from qprompt_runtime.errors import PhotosError
from qprompt_runtime.prompt_file import ClassName
from qprompt_runtime.text import printable
from qprompt_runtime.tokenizer import check_names


@dataclass(frozen=True)
class NewPhotos:
    """Photos that are new to a prompt, sorted by class and content: names and order of files change nothing.

    Attributes:
        keys: N content hashes.
        labels: int64 [N], positions among the classes.
        features: float32 [N,V,E].
        hashes: uint64 [N], difference hashes.
        repeated: Photos that were given twice, or were tuned on before.
        skipped: Files that were left out.
        same: Photos that are in several classes.
    """

    keys: tuple[bytes, ...]
    labels: NDArray[np.int64]
    features: Array
    hashes: NDArray[np.uint64]
    repeated: int
    skipped: tuple[SkippedPhoto, ...]
    same: tuple[SamePhoto, ...]


def with_new_classes(
    known: Sequence[ClassName], labels: Sequence[str], class_names: Path | None, backbone: Backbone
) -> tuple[ClassName, ...]:
    """A prompt's classes, and behind them those of the photos that it does not have.

    Args:
        known: The prompt's classes.
        labels: Those of the photos.
        class_names: A CSV file with words for labels, or None.
        backbone: Its tokenizer tells whether two classes are the same words.

    Raises:
        PhotosError: The words of a class that was tuned would change.
        TextError: A class has no words, or two have the same.
    """
    texts = {name.label: name.text for name in known}
    added = [label for label in labels if label not in texts]
    given = read_class_names(class_names, [*texts, *added]) if class_names is not None else {}
    for label, text in given.items():
        if texts.get(label, text) != text:
            raise PhotosError(
                f"class {printable(label)} was tuned with the words {printable(texts[label])!r}, not "
                f"{printable(text)!r}; leave it out of --class-names, or remove it and add it under another "
                "label"
            )
    new = (ClassName(it, given[it]) if it in given else ClassName.from_label(it) for it in added)
    classes = (*known, *new)
    check_names(
        ((it.label, it.text) for it in classes), lambda text: backbone.tokenizer.encode(text), shared=True
    )
    return classes


def encode_new(
    photos: LabelledPhotos,
    classes: Sequence[ClassName],
    old: int,
    tuned_on: Mapping[bytes, set[str]],
    backbone: Backbone,
    cache: FeatureCache,
    views: tuple[int, int],
    max_memory: float | None,
    reporter: Reporter,
) -> NewPhotos:
    """Encode photos, and leave out what was tuned on before.

    Args:
        photos: Labelled photos.
        classes: All classes, new ones behind those of the prompt.
        old: How many the prompt has.
        tuned_on: The labels that photos were tuned on with before, by content.
        backbone: The frozen model.
        cache: Where features are kept.
        views: Augmented views of each photo, and their seed.
        max_memory: Most resident memory in MB of 10^6 bytes; photos that would take more are not read.
        reporter: Told how far it is.

    Raises:
        PhotosError: A class is left without a readable photo, or a new one without a photo that is new.
    """
    encoded = encode_photos(
        backbone,
        photos.paths,
        views=views[0],
        seed=views[1],
        cache=cache,
        max_memory=max_memory,
        progress=lambda done, total: reporter.stage("encoding photos", done, total),
    )
    skipped = drop_unreadable(photos, encoded.failures).skipped
    readable = [place for place in range(len(photos.paths)) if place not in encoded.failures]
    places = {name.label: place for place, name in enumerate(classes)}
    chosen, repeated, others = _unseen(photos, keys_of(encoded.keys), readable, tuned_on)
    found = {label for label, _ in chosen}
    for label, skip in others:
        if places[label] >= old and label not in found:
            raise PhotosError(
                f"class {printable(label)} has no photo of its own: {printable(skip.path)} {skip.reason}"
            )
    ordered = sorted((places[label], key, place) for (label, key), place in chosen.items())
    rows = np.array([place for *_, place in ordered], np.int64)
    return NewPhotos(
        keys=tuple(key for _, key, _ in ordered),
        labels=np.array([label for label, *_ in ordered], np.int64),
        features=encoded.features[rows],
        hashes=encoded.hashes[rows],
        repeated=repeated,
        skipped=(*skipped, *(skip for _, skip in others)),
        same=described(
            in_several_classes(encoded.keys, photos.labels, readable),
            photos.paths,
            photos.labels,
            photos.classes,
        ),
    )


def _unseen(
    photos: LabelledPhotos,
    keys: Sequence[bytes],
    readable: Sequence[int],
    tuned_on: Mapping[bytes, set[str]],
) -> tuple[dict[tuple[str, bytes], int], int, list[tuple[str, SkippedPhoto]]]:
    """Sort out the photos that are new to their class.

    Returns where each of them lies first, how many are not new, and those that were tuned on as another
    class.
    """
    chosen: dict[tuple[str, bytes], int] = {}
    others: list[tuple[str, SkippedPhoto]] = []
    repeated = 0
    for place in readable:
        key, label = keys[place], photos.classes[photos.labels[place]]
        before = tuned_on.get(key, set())
        if label in before or (label, key) in chosen:
            repeated += 1
        elif before:
            reason = f"was tuned on before as {printable(min(before))}; remove that class, or adapt anew"
            others.append((label, SkippedPhoto(photos.paths[place], reason)))
        else:
            chosen[label, key] = place
    return chosen, repeated, others
