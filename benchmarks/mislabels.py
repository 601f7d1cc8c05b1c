"""How many wrong labels `check` finds, and how many right ones it doubts, on labelled photos of your own.

    python -m benchmarks.mislabels --set caltech101=FOLDER --set pacs=FOLDER

A set is a folder with one sub-folder of photos per class. Of its labels 5% are replaced by others, drawn at random, once for each
seed; nothing is written to the folder. `listed as it is` is the share of photos that `check` lists where no label was replaced:
what of it is wrong in the set itself, nobody knows.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.tables import text_table
from qprompt_edge.cache import cache_folder
from qprompt_edge.checking.cross_validation import held_out_scores
from qprompt_edge.checking.duplicates import duplicate_groups
from qprompt_edge.checking.mislabelled import mislabelled
from qprompt_edge.checking.mixed_up import mixed_up
from qprompt_edge.data.feature_cache import FeatureCache, feature_file
from qprompt_edge.data.features import encode_photos, feature_identity
from qprompt_edge.data.photos import LabelledPhotos, find_photos
from qprompt_runtime.arrays import Array
from qprompt_runtime.backbone import Backbone
from qprompt_runtime.bundle import DEFAULT_BACKBONE

SEEDS = range(1, 6)
SHARE = 0.05


def replaced(
    labels: NDArray[np.int64], classes: int, share: float, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Labels of which some are wrong, and which these are.

    Args:
        labels: int64 [N].
        classes: Number of classes, at least 2.
        share: Share of the labels to replace; at least one is.
        seed: Of the choice.
    """
    rng = np.random.default_rng([seed, 7])
    chosen = rng.choice(len(labels), max(1, round(share * len(labels))), replace=False)
    given = labels.copy()
    given[chosen] = (labels[chosen] + rng.integers(1, classes, len(chosen))) % classes
    return given, given != labels


def listed(features: Array, hashes: NDArray[np.uint64], photos: LabelledPhotos) -> dict[Path, str]:
    """The photos that `check` lists as mislabelled, and what they look like."""
    groups = duplicate_groups(features, hashes)
    held_out = held_out_scores(features, photos.labels, groups, len(photos.classes))
    given = (photos.paths, photos.labels)
    pairs = mixed_up(held_out.scores, held_out.judged, *given, groups, photos.classes)
    found = mislabelled(held_out, *given, photos.classes, [pair.labels for pair in pairs])
    return {photo.path: photo.looks_like for photo in found}


def measure(folder: Path, backbone: Backbone, seeds: Sequence[int]) -> dict[str, Any]:
    """Figures of one set, as shares: means over the seeds, and `worst`, the least found and the most doubted."""
    found = find_photos(folder)
    identity, cache = feature_identity(backbone, 0, 1), cache_folder("features")
    kept = FeatureCache(cache and feature_file(cache, identity), identity)
    encoded = encode_photos(backbone, found.paths, cache=kept)
    rows = np.array([i for i in range(len(found.paths)) if i not in encoded.failures], np.int64)
    photos, features, hashes = found.select(rows), encoded.features[rows, 0], encoded.hashes[rows]
    hits, doubts, named = [], [], []
    for seed in seeds:
        given, wrong = replaced(photos.labels, len(photos.classes), SHARE, seed)
        shown = LabelledPhotos(photos.paths, given, photos.classes)
        suspects = listed(features, hashes, shown)
        is_listed = np.array([path in suspects for path in photos.paths])
        hits.append(float(is_listed[wrong].mean()))
        doubts.append(float(is_listed[~wrong].mean()))
        right = [
            suspects[photos.paths[i]] == photos.classes[photos.labels[i]]
            for i in np.flatnonzero(is_listed & wrong)
        ]
        named.append(fmean(right) if right else float("nan"))
    return {
        "photos": len(rows),
        "classes": len(photos.classes),
        "found": fmean(hits),
        "doubted": fmean(doubts),
        "named": fmean(named),
        "worst": {"found": min(hits), "doubted": max(doubts)},
        "listed_as_it_is": len(listed(features, hashes, photos)) / len(rows),
    }


def table(result: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Header and rows for people."""
    header = [
        "set",
        "photos",
        "classes",
        "wrong ones found",
        "class named",
        "right ones doubted",
        "listed as it is",
    ]
    rows = [
        [
            name,
            str(row["photos"]),
            str(row["classes"]),
            f"{100 * row['found']:.0f}% (least {100 * row['worst']['found']:.0f}%)",
            f"{100 * row['named']:.0f}%",
            f"{100 * row['doubted']:.1f}% (most {100 * row['worst']['doubted']:.1f}%)",
            f"{100 * row['listed_as_it_is']:.1f}%",
        ]
        for name, row in result["sets"].items()
    ]
    return header, rows


def main() -> None:
    """Run it from the command line."""
    made = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    made.add_argument(
        "--set", action="append", required=True, dest="sets", help="NAME=FOLDER; may be repeated"
    )
    made.add_argument("--backbone", default=DEFAULT_BACKBONE, help="a name or a bundle's folder")
    options = made.parse_args()
    backbone = Backbone.load(options.backbone)
    sets = dict(one.split("=", 1) for one in options.sets)
    result = {
        "backbone": backbone.manifest.name,
        "share": SHARE,
        "seeds": list(SEEDS),
        "sets": {name: measure(Path(folder), backbone, SEEDS) for name, folder in sets.items()},
    }
    print(
        text_table(f"Wrong labels, {100 * SHARE:.0f}% planted, mean over {len(SEEDS)} seeds", *table(result))
    )
    print(json.dumps(result))


if __name__ == "__main__":
    main()
