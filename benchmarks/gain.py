"""What adaptation gains: zero-shot, prompts at several widths, and a linear probe, on real photos.

    python -m benchmarks.gain --data DIR [--sets cifar10 caltech101 pacs-photo examples] [--seeds 1 2 3]

Protocol: 16 photos of each class to train on, drawn by the seed; tested on all of CIFAR-10's test split, or on
all other photos of the set. The default configuration of `adapt` runs, at each variant's bit width. `share` is
how far a prompt goes from zero-shot to the probe, on the means. DIR holds the zip files of the sets.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qprompt_edge.evaluation import class_probabilities, linear_probe, score
from qprompt_edge.features import FeatureCache, encode_photos, feature_identity
from qprompt_edge.methods import qcoop
from qprompt_edge.photos import LabelledPhotos, find_photos
from qprompt_edge.splits import take_shots
from qprompt_edge.trainer import TrainingConfig, forward_weights, run, settle, start
from qprompt_runtime.backbone import Backbone
from qprompt_runtime.classifier import softmax
from qprompt_runtime.prompt_file import rule_text

Array = NDArray[np.float32]
Labels = NDArray[np.int64]

SHOTS = 16
EXAMPLES = Path(__file__).parent.parent / "examples" / "photos"
ARCHIVES = {
    "cifar10": ("cifar10-subset.zip", "train", "test"),
    "caltech101": ("caltech101.zip", "", None),
    "pacs-photo": ("pacs.zip", "photo", None),
}


@dataclass(frozen=True)
class Variant:
    """One way to tune: bits a weight, and one context for all classes or one for each."""

    bits: int
    per_class: bool = False


VARIANTS = {
    "1 bit": Variant(1),
    "2 bits": Variant(2),
    "4 bits": Variant(4),
    "32 bits": Variant(32),
    "1 bit, per-class": Variant(1, per_class=True),
}


@dataclass(frozen=True)
class EncodedSet:
    """Features of one data set; `test` is None where the photos not trained on are the test set."""

    texts: tuple[str, ...]
    pool: LabelledPhotos
    pool_features: Array
    test: tuple[Array, Labels] | None


def folders(data: Path, name: str, unpacked: Path) -> tuple[Path, Path | None]:
    """Unpack one set; its folder of photos to draw from, and its test folder if it has one."""
    if name == "examples":
        return EXAMPLES, None
    archive, pool, test = ARCHIVES[name]
    with zipfile.ZipFile(data / archive) as file:
        file.extractall(unpacked / name)
    return unpacked / name / pool, unpacked / name / test if test else None


def encode(backbone: Backbone, data: Path, name: str, cache_folder: Path | None) -> EncodedSet:
    """Encode every photo of a set once."""
    with tempfile.TemporaryDirectory() as folder:
        pool_folder, test_folder = folders(data, name, Path(folder))
        cache_file = cache_folder / f"{name}-{backbone.manifest.fingerprint}.npz" if cache_folder else None
        cache = FeatureCache(cache_file, feature_identity(backbone, 0, 1))
        pool = find_photos(pool_folder)
        tests = find_photos(test_folder).paths if test_folder else ()
        features = encode_photos(backbone, pool.paths + tests, cache=cache).features[:, 0]
        test = None
        if test_folder:
            test = (features[len(pool.paths) :], find_photos(test_folder).labels)
        return EncodedSet(tuple(map(rule_text, pool.classes)), pool, features[: len(pool.paths)], test)


def split(data: EncodedSet, seed: int) -> tuple[Array, Labels, Array, Labels]:
    """16 photos of each class to train on, and the test set: features and labels of both."""
    positions = {path: index for index, path in enumerate(data.pool.paths)}
    chosen = np.array([positions[path] for path in take_shots(data.pool, SHOTS, seed).paths])
    if data.test is not None:
        return data.pool_features[chosen], data.pool.labels[chosen], *data.test
    rest = np.setdiff1d(np.arange(len(positions)), chosen)
    return (
        data.pool_features[chosen],
        data.pool.labels[chosen],
        data.pool_features[rest],
        data.pool.labels[rest],
    )


def tune(
    backbone: Backbone,
    texts: tuple[str, ...],
    shots: tuple[Array, Labels],
    seed: int,
    variant: Variant,
    config: TrainingConfig,
) -> Array:
    """Tune a prompt for the classes called `texts` on features [N, E] and labels [N]; the vectors as shipped."""
    features, labels = shots
    tuning = qcoop.tuning(backbone, texts, features[:, None], labels, per_class=variant.per_class, seed=seed)
    config = replace(config, seed=seed, bits=variant.bits)
    config = settle(config, tuning.weights, backbone.manifest.logit_scale)
    state = run(start(tuning.weights, config), tuning.objective, labels, config)
    return forward_weights(state)[qcoop.ROLE]


def accuracy(
    backbone: Backbone, texts: tuple[str, ...], test: tuple[Array, Labels], context: Array | None = None
) -> float:
    """Top-1 on features [N, E] and labels [N] among `texts`; without `context`, of the prompt written by hand."""
    initial = qcoop.initial_prompt(backbone, texts)
    vectors = initial.context if context is None else context
    classes = backbone.encode_classes(vectors, initial.tokens)
    return score(class_probabilities(test[0], classes, backbone.manifest.logit_scale), test[1]).top1


def tuned_accuracy(
    backbone: Backbone, data: EncodedSet, seed: int, variant: Variant, config: TrainingConfig
) -> float:
    """Top-1 on the test set after tuning on one draw of shots."""
    features, labels, *test = split(data, seed)
    context = tune(backbone, data.texts, (features, labels), seed, variant, config)
    return accuracy(backbone, data.texts, (test[0], test[1]), context)


def yardsticks(backbone: Backbone, data: EncodedSet, seed: int) -> tuple[float, float]:
    """Zero-shot and linear-probe top-1 on the test set."""
    features, labels, test_features, test_labels = split(data, seed)
    by_hand = accuracy(backbone, data.texts, (test_features, test_labels))
    weight, bias = linear_probe(features, labels, len(data.texts))
    probe = softmax(test_features @ weight + bias)
    return by_hand, score(probe, test_labels).top1


def measure(
    backbone: Backbone,
    data: EncodedSet,
    seeds: list[int],
    variants: dict[str, Variant],
    config: TrainingConfig,
) -> Iterator[tuple[str, list[float]]]:
    """Name and top-1 for each seed, of everything that is compared."""
    pairs = [yardsticks(backbone, data, seed) for seed in seeds]
    yield "zero-shot", [pair[0] for pair in pairs]
    for name, variant in variants.items():
        yield name, [tuned_accuracy(backbone, data, seed, variant, config) for seed in seeds]
    yield "probe", [pair[1] for pair in pairs]


def summarise(results: dict[str, dict[str, list[float]]], say: Callable[[str], None]) -> dict[str, float]:
    """Print the table; gain over zero-shot and share of the way to the probe, on the means over sets."""
    names = list(next(iter(results.values())))
    say(f"{'':20}" + "".join(f"{name:>18}" for name in results) + f"{'mean':>10}{'gain':>8}{'share':>8}")
    means = {name: float(np.mean([np.mean(rows[name]) for rows in results.values()])) for name in names}
    summary = {}
    for name in names:
        cells = [
            f"{100 * np.mean(rows[name]):.1f} ± {100 * np.std(rows[name]):.1f}" for rows in results.values()
        ]
        gain = means[name] - means["zero-shot"]
        share = gain / (means["probe"] - means["zero-shot"])
        summary[f"gain, {name}"], summary[f"share, {name}"] = gain, share
        say(
            f"{name:20}"
            + "".join(f"{cell:>18}" for cell in cells)
            + f"{100 * means[name]:>10.1f}{100 * gain:>8.1f}{share:>8.2f}"
        )
    return summary


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets' zip files")
    parser.add_argument("--sets", nargs="+", default=[*ARCHIVES, "examples"], choices=[*ARCHIVES, "examples"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--backbone", default="tiny")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--cache", type=Path, help="folder to keep image features in")
    parser.add_argument("--epochs", type=int, default=TrainingConfig.epochs)
    parser.add_argument("--lr", type=float)
    options = parser.parse_args()
    backbone = Backbone.load(options.backbone, threads=options.threads)
    config = TrainingConfig(epochs=options.epochs, lr=options.lr)
    variants = {name: VARIANTS[name] for name in options.variants}
    results: dict[str, dict[str, list[float]]] = {}
    for name in options.sets:
        data = encode(backbone, options.data, name, options.cache)
        results[name] = {}
        for what, accuracies in measure(backbone, data, options.seeds, variants, config):
            results[name][what] = accuracies
            print(f"{name}: {what} {np.mean(accuracies):.3f}", file=sys.stderr, flush=True)
    summary = summarise(results, print)
    print(json.dumps({"top1": results, **summary, "epochs": options.epochs, "lr": options.lr}))


if __name__ == "__main__":
    main()
