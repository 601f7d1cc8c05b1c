"""Whether `check` predicts what twice the photos bring, on labelled photos of your own.

    python -m benchmarks.enough_photos --set caltech101=FOLDER --set cifar10=FOLDER

Some photos of each class are drawn, an eighth, a quarter or half, eight times each, and `check` predicts
from them what twice as many would add to the accuracy. What they do add is the mean over many draws from the
whole set.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.labelled import Encoded, encoded, sets_and_backbone
from benchmarks.tables import text_table
from qprompt_edge.checking.learning_curve import accuracies, learning_curve

SHARES = (0.125, 0.25, 0.5, 1.0)
DRAWS = range(8)
REPEATS = 10
_FEWEST = 4  # photos of a class


def drawn(labels: NDArray[np.int64], share: float, seed: int) -> NDArray[np.int64]:
    """Positions of a share of the photos of each class, at random."""
    rng = np.random.default_rng([seed, 8])
    parts = [rng.permutation(np.flatnonzero(labels == label)) for label in np.unique(labels)]
    return np.sort(np.concatenate([part[: max(2, round(share * len(part)))] for part in parts]))


def measure(known: Encoded) -> list[dict[str, Any]]:
    """For each share: what was predicted in each draw, and what is."""
    labels, classes = known.photos.labels, len(known.photos.classes)
    right, _ = accuracies(known.features, labels, known.groups, classes, list(SHARES), REPEATS)
    truth = right.mean(axis=1)
    rows = []
    for place, share in enumerate(SHARES[:-1]):
        curves = []
        for seed in DRAWS:
            some = drawn(labels, share, seed)
            curves.append(learning_curve(known.features[some], labels[some], known.groups[some], classes))
        made = [curve for curve in curves if curve is not None]
        if not made or share * len(labels) / classes < _FEWEST:
            continue
        gain = float(truth[place + 1] - truth[place])
        rows.append(
            {
                "photos": round(share * len(labels) / classes),
                "gain": gain,
                "predicted": float(np.mean([curve.gain for curve in made])),
                "low": float(np.mean([curve.interval[0] for curve in made])),
                "high": float(np.mean([curve.interval[1] for curve in made])),
                "within": float(np.mean([it.interval[0] <= gain <= it.interval[1] for it in made])),
            }
        )
    return rows


def table(sets: dict[str, list[dict[str, Any]]]) -> tuple[list[str], list[list[str]]]:
    """Header and rows for people."""
    header = ["set", "photos of a class", "twice as many add", "predicted", "interval", "within it"]
    rows = [
        [
            name,
            str(row["photos"]),
            f"{100 * row['gain']:.1f}",
            f"{100 * row['predicted']:.1f}",
            f"{100 * row['low']:+.1f} to {100 * row['high']:+.1f}",
            f"{100 * row['within']:.0f}%",
        ]
        for name, found in sets.items()
        for row in found
    ]
    return header, rows


def main() -> None:
    """Run it from the command line."""
    sets, backbone = sets_and_backbone(__doc__)
    found = {name: measure(encoded(folder, backbone)) for name, folder in sets.items()}
    print(text_table("What twice the photos add to the accuracy, in points", *table(found)))
    print(json.dumps({"backbone": backbone.manifest.name, "sets": found}))


if __name__ == "__main__":
    main()
