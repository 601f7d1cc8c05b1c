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
from dataclasses import dataclass, replace
from statistics import fmean, stdev
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.labelled import Encoded, encoded, sets_and_backbone
from benchmarks.tables import text_table
from qprompt_edge import merge
from qprompt_edge.data.features import Examples
from qprompt_edge.tuning import qtaskres
from qprompt_edge.tuning.methods import default_training
from qprompt_edge.tuning.prompt_rows import known_classes
from qprompt_edge.tuning.trainer import run, start
from qprompt_runtime.arrays import Array
from qprompt_runtime.backbone import Backbone
from qprompt_runtime.prompt_file import RESIDUAL, Calibration, ClassName, PromptFile
from qprompt_runtime.text_features import text_features

DRAWS = range(1, 11)
SIZES = (2, 2, 2, 2, 3, 3, 3, 3, 4, 4)
"""Photos of each class that the ten devices have."""
FEW = (2,) * len(SIZES)
"""The same for sets of few photos."""
_TEST = 6
"""Fewest photos of a class that are left to test on."""
TEMPLATE = ("a photo of a ", ".")
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
    shares = rng.permutation(np.array(sizes))
    knows = np.ones((len(shares), classes), bool)
    if half:
        knows = np.argsort(rng.random((len(shares), classes)), axis=1) < (classes + 1) // 2
        for nobody in np.flatnonzero(~knows.any(axis=0)):
            knows[rng.integers(len(shares)), nobody] = True
    devices: list[list[int]] = [[] for _ in shares]
    test: list[int] = []
    for label in range(classes):
        order = rng.permutation(np.flatnonzero(labels == label)).tolist()
        for device, size in enumerate(shares):
            if knows[device, label]:
                devices[device] += order[:size]
                order = order[size:]
        test += order
    return [np.array(sorted(device)) for device in devices], np.array(test)


@dataclass(frozen=True)
class Task:
    """Photos, and all that their prompts need of the backbone.

    Attributes:
        photos: With one feature each.
        text: float32 [C,E], text features of the classes.
        backbone: The frozen model.
    """

    photos: Examples
    text: Array
    backbone: Backbone

    def made(self, rows: NDArray[np.int64], labels: NDArray[np.int64]) -> PromptFile:
        """What `adapt` tunes on the photos at `rows` as photos of `labels`, of the classes that are there."""
        present, own = np.unique(labels, return_inverse=True)
        names = tuple(self.photos.classes[place] for place in present)
        some = Examples(names, (), own.astype(np.int64), self.photos.features[rows])
        config = default_training(RESIDUAL)
        tuning = qtaskres.tuning(self.text[present], some, TEMPLATE)
        how = tuning.reparameterization
        state = start(tuning.weights, config, how)
        state = run(state, tuning.objective, some.labels, config, reparameterization=how)
        return PromptFile(
            method=RESIDUAL,
            groups=tuning.groups(state, config.bits),
            classes=names,
            template=TEMPLATE,
            backbone_name=self.backbone.manifest.name,
            fingerprint=self.backbone.fingerprint,
            calibration=Calibration(self.backbone.manifest.logit_scale),
            photos=tuple(np.bincount(some.labels).tolist()),
        )

    def accuracy(self, prompt: PromptFile, rows: NDArray[np.int64]) -> float:
        """Mean over the classes of these photos; those of a class that the prompt does not know are wrong."""
        places = {name.label: place for place, name in enumerate(self.photos.classes)}
        own = np.array([places[name.label] for name in prompt.classes])
        head = known_classes(prompt, self.text[own], np.zeros(len(own), np.int64)).head
        labels = self.photos.labels[rows]
        right = own[head.scores(self.photos.plain[rows]).argmax(axis=1)] == labels
        return fmean(float(right[labels == label].mean()) for label in np.unique(labels))


def poisoned(task: Task, rows: NDArray[np.int64], clean: PromptFile, kind: str) -> PromptFile:
    """The prompt of a device that means harm, or has its photos in the wrong folders."""
    if kind == WEIGHTS:
        residuals, offsets = clean.groups
        scales = tuple(float(np.float16(-1000 * scale)) for scale in residuals.scales)
        return replace(clean, groups=(replace(residuals, scales=scales), offsets))
    labels = task.photos.labels[rows]
    present = np.unique(labels)
    return task.made(rows, np.roll(present, 1)[np.searchsorted(present, labels)])


def draw(task: Task, sizes: Sequence[int], seed: int, *, half: bool) -> dict[str, float]:
    """Accuracies of one draw."""
    labels = task.photos.labels
    devices, rest = deal(labels, len(task.photos.classes), sizes, seed, half=half)
    prompts = [task.made(device, labels[device]) for device in devices]
    everything = np.concatenate(devices)
    found = {
        "device": fmean(task.accuracy(prompt, rest) for prompt in prompts),
        "merged": task.accuracy(merge(prompts).prompt, rest),
        "union": task.accuracy(task.made(everything, labels[everything]), rest),
    }
    bad = seed % len(prompts)
    for kind in (LABELS, WEIGHTS):
        spoilt = poisoned(task, devices[bad], prompts[bad], kind)
        files = [*prompts[:bad], spoilt, *prompts[bad + 1 :]]
        found[kind] = task.accuracy(merge(files).prompt, rest)
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
    task = Task(photos, text_features(backbone, names, TEMPLATE), backbone)
    every = [draw(task, sizes, seed, half=half) for seed in draws]
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
