"""Labelled photos for the benchmarks of `check`: found, encoded once, kept in the user's cache."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qprompt_edge.cache import cache_folder
from qprompt_edge.checking.duplicates import duplicate_groups
from qprompt_edge.data.feature_cache import FeatureCache, feature_file
from qprompt_edge.data.features import encode_photos, feature_identity
from qprompt_edge.data.photos import LabelledPhotos, find_photos
from qprompt_runtime.arrays import Array
from qprompt_runtime.backbone import Backbone
from qprompt_runtime.bundle import DEFAULT_BACKBONE


@dataclass(frozen=True)
class Encoded:
    """Readable photos with their features.

    Attributes:
        photos: The N photos.
        features: float32 [N,E].
        groups: int64 [N]; photos that are nearly the same have the same number.
    """

    photos: LabelledPhotos
    features: Array
    groups: NDArray[np.int64]


def encoded(folder: Path, backbone: Backbone) -> Encoded:
    """Find and encode the photos of a folder with one sub-folder per class."""
    found = find_photos(folder)
    identity, cache = feature_identity(backbone, 0, 1), cache_folder("features")
    kept = FeatureCache(cache and feature_file(cache, identity), identity)
    photos = encode_photos(backbone, found.paths, cache=kept)
    rows = np.array([i for i in range(len(found.paths)) if i not in photos.failures], np.int64)
    features = photos.features[rows, 0]
    return Encoded(found.select(rows), features, duplicate_groups(features, photos.hashes[rows]))


def sets_and_backbone(text: str | None) -> tuple[Mapping[str, Path], Backbone]:
    """What the command line names: folders by name, and the backbone.

    Args:
        text: The module's text; its first line is the description.
    """
    made = argparse.ArgumentParser(description=(text or "").split("\n")[0])
    made.add_argument(
        "--set", action="append", required=True, dest="sets", help="NAME=FOLDER; may be repeated"
    )
    made.add_argument("--backbone", default=DEFAULT_BACKBONE, help="a name or a bundle's folder")
    options = made.parse_args()
    named = (one.partition("=") for one in options.sets)
    return {name: Path(folder) for name, _, folder in named}, Backbone.load(options.backbone)
