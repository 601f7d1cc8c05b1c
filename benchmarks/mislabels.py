"""How many wrong labels `check` finds, and how many right ones it doubts, on labelled photos of your own.

    python -m benchmarks.mislabels --set caltech101=FOLDER --set pacs=FOLDER

A set is a folder with one sub-folder of photos per class. Of its labels 5% are replaced by others, drawn at
random, once for each seed, and once more where only a dozen photos of each class are known; nothing is
written to the folder. `listed as it is` is the share of photos that `check` lists where no label was
replaced: what of it is wrong in the set itself, nobody knows.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.labelled import Encoded, encoded, sets_and_backbone
from benchmarks.tables import text_table
from qprompt_edge.checking.cross_validation import held_out_scores
from qprompt_edge.checking.mislabelled import mislabelled
from qprompt_edge.checking.mixed_up import mixed_up
from qprompt_edge.data.splits import take_shots

SEEDS = range(1, 6)
SHOTS, FEW_SEEDS = 12, range(1, 21)
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


def listed(known: Encoded, labels: NDArray[np.int64]) -> dict[Path, str]:
    """The photos that `check` lists as mislabelled, and what they look like, if their labels are these."""
    paths, classes = known.photos.paths, known.photos.classes
    held_out = held_out_scores(known.features, labels, known.groups, len(classes))
    pairs = mixed_up(held_out.scores, held_out.judged, paths, labels, known.groups, classes)
    found = mislabelled(held_out, paths, labels, classes, [pair.labels for pair in pairs])
    return {photo.path: photo.looks_like for photo in found}


def few(known: Encoded, shots: int, seed: int) -> Encoded:
    """At most so many photos of each class, drawn at random."""
    rows = take_shots(known.photos.labels, shots, seed)
    return Encoded(known.photos.select(rows), known.features[rows], known.groups[rows])


def measure(known: Encoded, seeds: Sequence[int], shots: int | None) -> dict[str, Any]:
    """Figures of one set, as shares: means over the seeds, and `worst`, the least found and the most doubted.

    Args:
        known: The set.
        seeds: Of the choice of photos and of wrong labels.
        shots: Photos of each class to take, others for each seed; None takes all.
    """
    hits, doubts, named, clean = [], [], [], []
    for seed in seeds:
        some = known if shots is None else few(known, shots, seed)
        photos = some.photos
        given, wrong = replaced(photos.labels, len(photos.classes), SHARE, seed)
        suspects = listed(some, given)
        is_listed = np.array([path in suspects for path in photos.paths])
        hits.append(float(is_listed[wrong].mean()))
        doubts.append(float(is_listed[~wrong].mean()))
        found = np.flatnonzero(is_listed & wrong)
        named += [suspects[photos.paths[i]] == photos.classes[photos.labels[i]] for i in found]
        clean.append(len(listed(some, photos.labels)) / len(photos.paths))
    return {
        "photos": len(photos.paths),
        "classes": len(photos.classes),
        "found": fmean(hits),
        "doubted": fmean(doubts),
        "named": fmean(named),
        "worst": {"found": min(hits), "doubted": max(doubts)},
        "listed_as_it_is": fmean(clean),
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
    sets, backbone = sets_and_backbone(__doc__)
    result: dict[str, Any] = {
        "backbone": backbone.manifest.name,
        "share": SHARE,
        "seeds": list(SEEDS),
        "sets": {},
    }
    for name, folder in sets.items():
        known = encoded(folder, backbone)
        result["sets"][name] = measure(known, SEEDS, None)
        result["sets"][f"{name}, {SHOTS} of a class"] = measure(known, FEW_SEEDS, SHOTS)
    print(text_table(f"Wrong labels, {100 * SHARE:.0f}% planted, means over draws", *table(result)))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
