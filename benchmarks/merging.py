"""Ten devices merged, beside training on all of their photos; and what one poisoned file does.

    python -m benchmarks.merging --set caltech101=FOLDER --set pacs=FOLDER

A set is a folder with one sub-folder of photos per class. In each draw ten devices get 2 to 4 photos of each
class (28 in all; classes of fewer than 34 photos are left out), or only of a random half of the classes; the
other photos test. Where no class has so many, each device gets 2. Each device tunes with the defaults of
`adapt`; `merge` makes one prompt of the ten files; `union` is tuned on the photos of all devices. In the
poisoned runs one of the ten has its labels exchanged, or numbers that are turned round and a thousand times
too large. Accuracies are means over the classes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean, stdev
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.labelled import Encoded, encoded, sets_and_backbone
from benchmarks.tables import text_table
from qprompt_edge import merge
from qprompt_edge.data.features import Examples
from qprompt_edge.tuning.methods import default_training, tune
from qprompt_runtime.backbone import Backbone
from qprompt_runtime.classifier import PromptClassifier
from qprompt_runtime.prompt_file import RESIDUAL, ClassName, PromptFile

DRAWS = range(1, 11)
SIZES = (2, 2, 2, 2, 3, 3, 3, 3, 4, 4)
"""Photos of each class that the ten devices have."""
FEW = (2,) * len(SIZES)
"""The same for sets of few photos."""
_TEST = 6
"""Fewest photos of a class that are left to test on."""
LABELS, WEIGHTS = "labels exchanged", "weights huge"
T_QUANTILE = {10: 2.262, 5: 2.776, 20: 2.093}
"""97.5% quantiles of Student's t for a mean over so many draws."""


def deal(
    labels: NDArray[np.int64], classes: int, sizes: Sequence[int], seed: int, *, half: bool
) -> tuple[list[NDArray[np.int64]], NDArray[np.int64]]:
    """Positions of the photos of each device, and of those to test on.

    Args:
        labels: int64 [N].
        classes: How many there are.
        sizes: Photos of each class that the devices get, in any order.
        seed: Of the draw.
        half: Whether a device knows only half of the classes.
    """
    rng = np.random.default_rng([seed, 8])
    sizes = rng.permutation(sizes)
    knows = np.ones((len(sizes), classes), bool)
    if half:
        knows = np.argsort(rng.random((len(sizes), classes)), axis=1) < (classes + 1) // 2
        for nobody in np.flatnonzero(~knows.any(axis=0)):
            knows[rng.integers(len(sizes)), nobody] = True
    devices: list[list[int]] = [[] for _ in sizes]
    test: list[int] = []
    for label in range(classes):
        order = rng.permutation(np.flatnonzero(labels == label)).tolist()
        for device, size in enumerate(sizes):
            if knows[device, label]:
                devices[device] += order[:size]
                order = order[size:]
        test += order
    return [np.array(sorted(device)) for device in devices], np.array(test)


def made(photos: Examples, backbone: Backbone) -> PromptFile:
    """What `adapt` tunes on these photos, of the classes that they show."""
    present, labels = np.unique(photos.labels, return_inverse=True)
    classes = tuple(photos.classes[place] for place in present)
    some = Examples(classes, photos.paths, labels.astype(np.int64), photos.features)
    prompt, _ = tune(RESIDUAL, backbone, some, default_training(RESIDUAL))
    return replace(prompt, photos=tuple(np.bincount(some.labels).tolist()))


def poisoned(photos: Examples, clean: PromptFile, backbone: Backbone, kind: str) -> PromptFile:
    """The prompt of a device that means harm, or has its photos in the wrong folders."""
    if kind == WEIGHTS:
        residuals, offsets = clean.groups
        scales = tuple(float(np.float16(-1000 * scale)) for scale in residuals.scales)
        return replace(clean, groups=(replace(residuals, scales=scales), offsets))
    present = np.unique(photos.labels)
    turned = np.roll(present, 1)[np.searchsorted(present, photos.labels)]
    return made(replace(photos, labels=turned), backbone)


def accuracy(prompt: PromptFile, backbone: Backbone, test: Examples) -> float:
    """Mean over the classes; photos of a class that the prompt does not know are wrong."""
    classifier = PromptClassifier(prompt, backbone)
    answers = np.array(classifier.labels)[classifier.head.scores(test.plain).argmax(axis=1)]
    right = answers == np.array([name.label for name in test.classes])[test.labels]
    return fmean(float(right[test.labels == label].mean()) for label in np.unique(test.labels))


def draw(
    photos: Examples, backbone: Backbone, sizes: Sequence[int], seed: int, *, half: bool
) -> dict[str, float]:
    """Accuracies of one draw."""
    devices, rest = deal(photos.labels, len(photos.classes), sizes, seed, half=half)
    shares, test = [photos.select(device) for device in devices], photos.select(rest)
    prompts = [made(share, backbone) for share in shares]
    found = {
        "device": fmean(accuracy(prompt, backbone, test) for prompt in prompts),
        "merged": accuracy(merge(prompts).prompt, backbone, test),
        "union": accuracy(made(photos.select(np.concatenate(devices)), backbone), backbone, test),
    }
    for kind in (LABELS, WEIGHTS):
        bad = seed % len(prompts)
        files = list(prompts)
        files[bad] = poisoned(shares[bad], prompts[bad], backbone, kind)
        found[kind] = accuracy(merge(files).prompt, backbone, test)
    return found


def measure(known: Encoded, backbone: Backbone, draws: Sequence[int], *, half: bool) -> dict[str, Any]:
    """Means over the draws of one set, as shares, and of differences: (mean, half of the 95% interval)."""
    counts = np.bincount(known.photos.labels)
    sizes = SIZES if counts.max() >= sum(SIZES) + _TEST else FEW
    enough = np.flatnonzero(counts >= sum(sizes) + _TEST)
    rows = np.flatnonzero(np.isin(known.photos.labels, enough))
    labels = np.searchsorted(enough, known.photos.labels[rows])
    names = tuple(ClassName.from_label(known.photos.classes[place]) for place in enough)
    paths = tuple(known.photos.paths[row] for row in rows)
    photos = Examples(names, paths, labels.astype(np.int64), known.features[rows][:, None])
    every = [draw(photos, backbone, sizes, seed, half=half) for seed in draws]
    means = {name: fmean(each[name] for each in every) for name in every[0]}
    pairs = {"behind union": ("union", "merged"), LABELS: ("merged", LABELS), WEIGHTS: ("merged", WEIGHTS)}
    costs = {name: _interval([each[a] - each[b] for each in every]) for name, (a, b) in pairs.items()}
    return {"classes": len(names), "draws": len(every), "top1": means, "costs": costs}


def _interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean, and half of its 95% interval."""
    half = (
        T_QUANTILE[len(values)] * stdev(values) / len(values) ** 0.5
        if len(values) in T_QUANTILE
        else float("nan")
    )
    return fmean(values), half


def table(result: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Header and rows for people; costs in points."""
    header = ["set", "classes", "a device", "merged", "union", "behind union", LABELS, WEIGHTS]
    rows = [
        [
            name,
            str(row["classes"]),
            *(f"{100 * row['top1'][of]:.1f}%" for of in ("device", "merged", "union")),
            *(f"{100 * row['costs'][of][0]:.1f} ± {100 * row['costs'][of][1]:.1f}" for of in header[-3:]),
        ]
        for name, row in result["sets"].items()
    ]
    return header, rows


def main() -> None:
    """Run it from the command line."""
    sets, backbone = sets_and_backbone(__doc__)
    result: dict[str, Any] = {"backbone": backbone.manifest.name, "draws": list(DRAWS), "sets": {}}
    for name, folder in sets.items():
        known = encoded(folder, backbone)
        for half in (False, True):
            shown = f"{name}, half of the classes" if half else name
            result["sets"][shown] = measure(known, backbone, DRAWS, half=half)
    print(
        text_table("Ten devices merged, means over draws, costs in points with 95% intervals", *table(result))
    )
    print(json.dumps(result))


if __name__ == "__main__":
    main()
