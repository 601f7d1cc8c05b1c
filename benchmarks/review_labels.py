"""Labels that the order of the review queue saves, beside labelling frames at random, to the same accuracy.

    python -m benchmarks.review_labels --set cifar10=FOLDER --set pacs=FOLDER --seeds 8

A set's photos are split: 30% to judge by (near-duplicates together), three of each class to start with, and
the rest is what a camera sees: classes from common to ten times rarer, in a random order. Then page after
page of ten frames is labelled, tuned on (the default method at 1 bit) and judged: by the order of the queue,
or at random among all frames. Of the frames that the prompt is sure of, which a queue does not keep, the
first takes only what the others leave. The labels that the order needs for the accuracy of random ones are
read off the mean curves over the seeds, each made monotone first, since a curve that wavers reaches any
accuracy too early; intervals are of 95%, from drawing seeds again.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.tables import text_table
from qprompt_edge.cache import cache_folder
from qprompt_edge.data.feature_cache import FeatureCache, feature_file
from qprompt_edge.data.features import Examples, encode_photos, feature_identity
from qprompt_edge.data.splits import near_duplicate_groups, split_holdout
from qprompt_edge.evaluation.zero_shot import class_features
from qprompt_edge.reproduction.sets import find_sets
from qprompt_edge.tuning import qtaskres
from qprompt_edge.tuning.calibration import calibrate, held_out_scores
from qprompt_edge.tuning.methods import DEFAULT_TRAINING
from qprompt_edge.tuning.trainer import forward_weights, run, start
from qprompt_edge.watching.review import UNSURE_BELOW
from qprompt_edge.watching.selection import best_first
from qprompt_runtime.arrays import Array
from qprompt_runtime.backbone import Backbone
from qprompt_runtime.class_head import ClassHead
from qprompt_runtime.prompt_file import RESIDUAL, ClassName

PAGE, START, JUDGED, RAREST = 10, 3, 0.3, 10.0
_CALIBRATED = (
    5  # pages between two calibrations, which take most of the time; with few photos, after each page
)
_FEW = 100
_DRAWS = 1000
_TRAINING = DEFAULT_TRAINING[RESIDUAL]


@dataclass(frozen=True)
class Photos:
    """A set.

    Attributes:
        classes: The C classes.
        text: float32 [C,E], their text features.
        features: float32 [N,E].
        labels: int64 [N].
        groups: int64 [N]; near-duplicates have the same number.
    """

    classes: tuple[ClassName, ...]
    text: Array
    features: Array
    labels: NDArray[np.int64]
    groups: NDArray[np.int64]

    def examples(self, rows: NDArray[np.int64]) -> Examples:
        """Some of them, to tune on."""
        return Examples(self.classes, (Path(),) * len(rows), self.labels[rows], self.features[rows][:, None])


def load(specification: str, backbone: Backbone, cache: Path) -> Photos:
    """Encode a set, `NAME=FOLDER`."""
    (found,) = find_sets([specification], None).values()
    parts = [found.pool] if found.test is None else [found.pool, found.test]
    paths = [path for part in parts for path in part.paths]
    labels = np.concatenate([part.labels for part in parts])
    identity = feature_identity(backbone, 0, 1)
    kept = FeatureCache(feature_file(cache, identity), identity)
    encoded = encode_photos(backbone, paths, cache=kept)
    good = np.setdiff1d(np.arange(len(paths)), list(encoded.failures))
    groups = near_duplicate_groups(encoded.hashes[good], labels[good])
    text = class_features(backbone, found.classes)
    return Photos(found.classes, text, encoded.features[good, 0], labels[good], groups)


def scene(photos: Photos, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Rows of the photos to start with, of what the camera sees, and of those to judge by."""
    rng = np.random.default_rng([seed, 7])
    rest, judged = split_holdout(photos.labels, JUDGED, seed, photos.groups)
    order = rng.permutation(rest)
    members = [order[photos.labels[order] == label] for label in range(len(photos.classes))]
    usual = float(np.median([len(rows) - START for rows in members]))
    shares = RAREST ** -(rng.permutation(len(members)) / max(1, len(members) - 1))
    seen = [
        rows[START : START + max(1, round(usual * share))]
        for rows, share in zip(members, shares, strict=True)
    ]
    return np.concatenate([rows[:START] for rows in members]), rng.permutation(np.concatenate(seen)), judged


def tuned(photos: Photos, rows: NDArray[np.int64], scale: float) -> ClassHead:
    """The default method on some photos, as the classifier that a prompt file is."""
    examples = photos.examples(rows)
    tuning = qtaskres.tuning(photos.text, examples, ("", ""))
    state = start(tuning.weights, _TRAINING, tuning.reparameterization)
    state = run(
        state, tuning.objective, examples.labels, _TRAINING, reparameterization=tuning.reparameterization
    )
    weights = forward_weights(state, tuning.reparameterization)
    raw = photos.text + weights[qtaskres.RESIDUALS]
    classes = raw / np.linalg.norm(raw, axis=1, keepdims=True)
    return ClassHead(classes, weights[qtaskres.OFFSETS], scale)


def calibrated_scale(photos: Photos, rows: NDArray[np.int64], logit_scale: float) -> float:
    """The logit scale that `adapt` would give probabilities."""
    held_out = held_out_scores(photos.text, photos.examples(rows), photos.groups[rows], _TRAINING)
    return calibrate(held_out, photos.text, logit_scale).logit_scale  # nouns change no scale


def page(
    photos: Photos, head: ClassHead, known: NDArray[np.int64], left: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Positions in `left` of the next ten frames by the order of the queue."""
    chances = head.probabilities(photos.features[left])
    best = np.sort(chances, axis=1)[:, ::-1]
    margins = best[:, 0] - best[:, 1]
    counts = np.bincount(photos.labels[known], minlength=len(photos.classes))
    kept = np.flatnonzero(margins < UNSURE_BELOW)
    known_features = photos.features[known]
    order = best_first(margins[kept], chances[kept], photos.features[left[kept]], known_features, counts)
    sure = np.setdiff1d(np.arange(len(left)), kept)
    return np.concatenate([kept[order], sure])[:PAGE]


def curve(photos: Photos, seed: int, ordered: bool, labels: int, logit_scale: float) -> list[float]:
    """Accuracy before the first page and after each."""
    known, left, judged = scene(photos, seed)
    rng, found, scale = np.random.default_rng([seed, 9]), [], logit_scale
    for turn in range(labels // PAGE + 1):
        if ordered and (turn % _CALIBRATED == 0 or len(known) < _FEW):
            scale = calibrated_scale(photos, known, logit_scale)
        head = tuned(photos, known, scale)
        right = head.scores(photos.features[judged]).argmax(axis=1) == photos.labels[judged]
        found.append(float(right.mean()))
        taken = page(photos, head, known, left) if ordered else rng.permutation(len(left))[:PAGE]
        known, left = np.concatenate([known, left[taken]]), np.delete(left, taken)
    return found


def monotone(values: Array) -> Array:
    """The nearest curve that never falls (isotonic regression): [n] to [n]."""
    blocks: list[tuple[float, int]] = []
    for value in values.tolist():
        mean, size = value, 1
        while blocks and blocks[-1][0] > mean:
            before, many = blocks.pop()
            mean, size = (mean * size + before * many) / (size + many), size + many
        blocks.append((mean, size))
    return np.concatenate([np.full(size, mean) for mean, size in blocks])


def saved(ordered: Array, at_random: Array) -> float:
    """Share of labels saved: of those that random labelling took in all, how many the order did not need.

    Args:
        ordered: float [seeds,pages+1], accuracies.
        at_random: The same for random labels.

    Returns:
        Less than 0 if random labels needed fewer.
    """
    fast, slow = monotone(ordered.mean(axis=0)), monotone(at_random.mean(axis=0))
    pages = len(fast) - 1
    if fast[-1] < slow[-1]:  # so random labels save some
        return reached(slow, fast[-1]) / pages - 1
    return 1 - reached(fast, slow[-1]) / pages


def reached(accuracies: Array, wanted: float) -> float:
    """Pages after which a curve that never falls has an accuracy, in fractions too."""
    page = int(np.argmax(accuracies >= wanted))
    if page == 0:
        return 0.0
    before, after = accuracies[page - 1 : page + 1].tolist()
    return page - 1 + float(wanted - before) / (after - before)


def measure(photos: Photos, seeds: int, labels: int, logit_scale: float) -> dict[str, Any]:
    """Both ways on a set, over the seeds."""
    fewest = min(len(scene(photos, seed)[1]) for seed in range(1, seeds + 1))
    labels = min(labels, fewest // 2 // PAGE * PAGE)  # with all labelled, every order is the same
    both = {
        name: np.array([curve(photos, seed, ordered, labels, logit_scale) for seed in range(1, seeds + 1)])
        for name, ordered in (("ordered", True), ("at random", False))
    }
    rng = np.random.default_rng(1)
    draws = [rng.integers(seeds, size=seeds) for _ in range(_DRAWS)]
    shares = [saved(both["ordered"][draw], both["at random"][draw]) for draw in draws]
    return {
        "labels": labels,
        "saved": saved(both["ordered"], both["at random"]),
        "interval": np.quantile(shares, [0.025, 0.975]).tolist(),
        "accuracy": {name: curves.mean(axis=0).tolist() for name, curves in both.items()},
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Run it from the command line."""
    made = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    made.add_argument(
        "--set", action="append", required=True, dest="sets", help="NAME=FOLDER; may be repeated"
    )
    made.add_argument("--seeds", type=int, default=8)
    made.add_argument("--labels", type=int, default=200, help="labels at most, beside those to start with")
    made.add_argument("--backbone", default="small")
    made.add_argument("--cache", type=Path, default=cache_folder("review"), help="where features are kept")
    options = made.parse_args(arguments)
    backbone, results = Backbone.load(options.backbone), {}
    for specification in options.sets:
        photos = load(specification, backbone, options.cache)
        name = specification.partition("=")[0]
        results[name] = measure(photos, options.seeds, options.labels, backbone.manifest.logit_scale)
        print(json.dumps({name: results[name]}), flush=True)
    rows = [
        [
            name,
            str(found["labels"]),
            *(f"{100 * found['accuracy'][way][place]:.1f}" for way, place in (("at random", 0), ("at random", -1), ("ordered", -1))),
            f"{100 * found['saved']:.0f}% ({100 * found['interval'][0]:.0f} to {100 * found['interval'][1]:.0f})",
        ]
        for name, found in results.items()
    ]  # fmt: skip
    header = ["set", "labels", "before", "at random", "in order", "labels saved"]
    print(text_table("Labels that the order of the review queue saves", header, rows))
    print(json.dumps(results))


if __name__ == "__main__":
    main()
