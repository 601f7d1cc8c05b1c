"""What a prompt tuned on half of the classes does to the other half, on real photos.

    python -m benchmarks.base_to_new --data DIR [--sets cifar10 caltech101 pacs-photo] [--seeds 1 2 3]

Protocol of CoCoOp (Zhou et al. 2022): classes in alphabetical order, the first half (rounded up) is `base`, the rest
`new`; 16 photos of each base class to tune on, drawn by the seed; each half is tested among its own names, on the
photos that `benchmarks.gain` tests on. H is the harmonic mean of both accuracies.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from statistics import harmonic_mean

import numpy as np

from benchmarks.gain import (
    ARCHIVES,
    VARIANTS,
    Array,
    EncodedSet,
    Labels,
    Variant,
    accuracy,
    encode,
    split,
    tune,
)
from qprompt_edge.trainer import TrainingConfig
from qprompt_runtime.backbone import Backbone

SHARED = [name for name, variant in VARIANTS.items() if not variant.per_class]  # only these know new classes


def part(features: Array, labels: Labels, first: int, stop: int) -> tuple[Array, Labels]:
    """The photos of the classes from `first` up to `stop`, relabelled from 0."""
    rows = (labels >= first) & (labels < stop)
    return features[rows], labels[rows] - first


def both_halves(
    backbone: Backbone, data: EncodedSet, seed: int, variant: Variant | None, config: TrainingConfig
) -> tuple[float, float]:
    """Top-1 on base and on new classes; zero-shot if `variant` is None."""
    features, labels, test_features, test_labels = split(data, seed)
    count = len(data.texts)
    middle = (count + 1) // 2
    base, new = data.texts[:middle], data.texts[middle:]
    context = None
    if variant is not None:
        context = tune(backbone, base, part(features, labels, 0, middle), seed, variant, config)
    return (
        accuracy(backbone, base, part(test_features, test_labels, 0, middle), context),
        accuracy(backbone, new, part(test_features, test_labels, middle, count), context),
    )


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets' zip files")
    parser.add_argument("--sets", nargs="+", default=[*ARCHIVES], choices=[*ARCHIVES, "examples"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--variants", nargs="+", default=SHARED, choices=SHARED)
    parser.add_argument("--backbone", default="tiny")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--cache", type=Path, help="folder to keep image features in")
    options = parser.parse_args()
    backbone = Backbone.load(options.backbone, threads=options.threads)
    methods: dict[str, Variant | None] = {"zero-shot": None}
    methods |= {name: VARIANTS[name] for name in options.variants}
    results: dict[str, dict[str, list[tuple[float, float]]]] = {name: {} for name in methods}
    for set_name in options.sets:
        data = encode(backbone, options.data, set_name, options.cache)
        for name, variant in methods.items():
            pairs = [both_halves(backbone, data, seed, variant, TrainingConfig()) for seed in options.seeds]
            results[name][set_name] = pairs
            print(f"{set_name}: {name} {np.mean(pairs, axis=0).round(3)}", file=sys.stderr, flush=True)
    print(f"{'base / new / H':16}" + "".join(f"{name:>22}" for name in options.sets) + f"{'mean H':>8}")
    for name, sets in results.items():
        means = [[float(np.mean(column)) for column in zip(*pairs, strict=True)] for pairs in sets.values()]
        h = [float(np.mean([harmonic_mean(pair) for pair in pairs])) for pairs in sets.values()]
        cells = [f"{100 * b:.1f} / {100 * n:.1f} / {100 * x:.1f}" for (b, n), x in zip(means, h, strict=True)]
        print(f"{name:16}" + "".join(f"{cell:>22}" for cell in cells) + f"{100 * np.mean(h):>8.1f}")
    print(json.dumps({"base_new": results}))


if __name__ == "__main__":
    main()
