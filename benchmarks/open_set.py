"""How well "none of these" is told: half of a set's classes are known, the others are to be refused.

    python -m benchmarks.open_set --set cifar10=FOLDER --set caltech101=FOLDER --seeds 10 [--drawn]

The default method is tuned on 16 photos of each known class, as `adapt` tunes and calibrates it, except that
near-duplicates are not looked for. For all other photos of the set: the area under the curve of the score
(known against unknown), the unknown ones that pass where 95% of the known ones do, and the share of both that
passes at the score that the file has for 95%. The known classes are the first half, or drawn anew with each
seed (`--drawn`). `docs/defaults.md` has the figures.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.tables import text_table
from qprompt_edge.cache import cache_folder
from qprompt_edge.data.features import Examples
from qprompt_edge.reporter import Reporter
from qprompt_edge.reproduction.sets import EncodedSet, encode_set, find_sets
from qprompt_edge.tuning.calibration import calibrate, held_out_scores
from qprompt_edge.tuning.levels import levelled
from qprompt_edge.tuning.methods import default_training, tune
from qprompt_runtime.arrays import Array
from qprompt_runtime.backbone import Backbone
from qprompt_runtime.bundle import DEFAULT_BACKBONE
from qprompt_runtime.class_head import ClassHead
from qprompt_runtime.none_of_these import known_scores, least_score, noun_features
from qprompt_runtime.prompt_features import class_offsets, prompt_features
from qprompt_runtime.prompt_file import RESIDUAL
from qprompt_runtime.text_features import text_features

SHOTS, ACCEPTED = 16, 0.95
_WORDS = ("a photo of a ", ".")


def known_classes(count: int, seed: int | None) -> NDArray[np.int64]:
    """Half of the classes, ascending: the first ones, or drawn by a seed."""
    half = (count + 1) // 2
    return (
        np.arange(half)
        if seed is None
        else np.sort(np.random.default_rng([seed, 77]).permutation(count)[:half])
    )


def rates(known: Array, unknown: Array, least: float) -> dict[str, float]:
    """What scores of known and unknown photos tell.

    Args:
        known: float [N].
        unknown: float [M].
        least: The file's score for 95%.
    """
    order = np.sort(unknown)
    below = (np.searchsorted(order, known, "left") + np.searchsorted(order, known, "right")) / 2
    return {
        "area": float(below.mean()) / len(order),
        "false positives": float((unknown >= np.quantile(known, 1 - ACCEPTED)).mean()),
        "known pass": float((known >= least).mean()),
        "unknown pass": float((unknown >= least).mean()),
    }


def draw(encoded: EncodedSet, backbone: Backbone, seed: int, drawn: bool) -> dict[str, float]:
    """One draw of photos, and of classes where these are drawn."""
    photos = encoded.photos
    known = known_classes(len(photos.classes), seed if drawn else None)
    places = np.full(len(photos.classes), -1)
    places[known] = np.arange(len(known))
    every = encoded.part(photos.drawn((SHOTS, seed)), "all")
    some = every.select(np.flatnonzero(places[every.labels] >= 0))
    classes = tuple(photos.classes[place] for place in known)
    examples = Examples(classes, some.paths, places[some.labels], some.features)
    config, words = default_training(RESIDUAL, seed=seed), text_features(backbone, classes, _WORDS)
    prompt, _ = tune(RESIDUAL, backbone, examples, config, text=words)
    held_out = held_out_scores(words, examples, np.arange(len(examples.labels)), config)
    prompt, held_out = levelled(prompt, held_out, words)
    nouns = noun_features(backbone, classes, cache_folder("classes"))
    calibration = calibrate(held_out, nouns, backbone.manifest.logit_scale)
    head = ClassHead(prompt_features(prompt, backbone, classes, words), class_offsets(prompt, classes), 1.0)
    tests = encoded.part(photos.judged((SHOTS, seed)), "all")
    scores = known_scores(head.scores(tests.plain), tests.plain, nouns)
    mine = places[tests.labels] >= 0
    return rates(scores[mine], scores[~mine], least_score(calibration, ACCEPTED))


def measure(specification: str, backbone: Backbone, cache: Path, seeds: int, drawn: bool) -> dict[str, Any]:
    """Means over draws of a set, `NAME=FOLDER`."""
    (found,) = find_sets([specification], None).values()
    turns = range(1, seeds + 1)
    encoded = encode_set(found, [(SHOTS, seed) for seed in turns], backbone, cache, Reporter())
    rows = [draw(encoded, backbone, seed, drawn) for seed in turns]
    return {"set": found.name} | {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}


def main() -> None:
    """Measure, and print a table and JSON."""
    made = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    made.add_argument(
        "--set", action="append", required=True, dest="sets", help="NAME=FOLDER; may be repeated"
    )
    made.add_argument("--backbone", default=DEFAULT_BACKBONE, help="a name or a bundle's folder")
    made.add_argument("--seeds", type=int, default=10, help="draws")
    made.add_argument("--drawn", action="store_true", help="draw the known classes, too")
    options = made.parse_args()
    backbone = Backbone.load(options.backbone)
    cache = cache_folder("features") or Path("features")
    found = [measure(one, backbone, cache, options.seeds, options.drawn) for one in options.sets]
    keys = [key for key in found[0] if key != "set"]
    mean = {"set": "mean"} | {key: float(np.mean([row[key] for row in found])) for key in keys}
    print(json.dumps([*found, mean], indent=1))
    shown = [[row["set"], *(f"{row[key]:.3f}" for key in keys)] for row in (*found, mean)]
    print(text_table("None of these, means over draws", ["set", *keys], shown))


if __name__ == "__main__":
    main()
