"""A whole adaptation, ours and PyTorch's.

It has 16 photos of each of 10 classes, batches of 32, 50 epochs and 250 steps.

    python -m benchmarks.adaptation [--threads 2] [--bundles DIR] [--repeats 5] [--json FILE]

Ours is `qprompt-edge adapt --method qcoop` as a process, timed from its start with an empty cache: starting
Python, decoding and encoding the photos, tuning, writing the prompt. It runs with that method's defaults, and
once more held to the same 250 steps. PyTorch's total is computed: 250 times the median of its timed steps
(the authors' code encodes the images in every step); with trimmed text and cached features, encoding 160
photos once and 250 steps. Loading PyTorch, loading the model and decoding photos are not counted on its side.

`adaptation_ratio` is that of the int8 bundle of ViT-B/16 with the defaults. The bundles hold random
weights, the same on both sides; photos are those of `examples/photos`.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import installed, steps
from benchmarks.bundles import bundle
from benchmarks.options import parser
from benchmarks.photo_folders import make
from benchmarks.processes import run_module
from benchmarks.tables import duration, median, megabytes, ratio, text_table, times

SHOTS, CLASSES, EPOCHS, BATCH = 16, 10, 50, 32
PHOTOS = SHOTS * CLASSES
STEPS = PHOTOS // BATCH * EPOCHS
LEAST_STEPS = 5
HEADLINE = ("ViT-B-16", "int8, defaults")


@dataclass(frozen=True)
class Comparison:
    """A model, its bundles, and after how many rounds enough is known.

    Attributes:
        model: open_clip's name.
        precisions: Of the bundles that are adapted.
        rounds: At most so many rounds.
    """

    model: str
    precisions: tuple[str, ...]
    rounds: int = 100


COMPARISONS = (
    Comparison("ViT-B-16", ("int8", "int8-merge16", "fp32")),
    Comparison("ViT-B-32", ("int8", "fp32")),
    Comparison("MobileCLIP2-S0", ("fp32",), rounds=1),
)
SCHEDULES: dict[str, tuple[object, ...]] = {
    "defaults": ("--method", "qcoop"),
    f"{STEPS} steps": ("--method", "qcoop", "--epochs", EPOCHS, "--batch-size", BATCH),
}


def adapt_once(
    backbone: str | Path, photos: Path, threads: int, options: tuple[object, ...] = ()
) -> dict[str, Any]:
    """One `qprompt-edge adapt` from process start with an empty cache.

    Returns:
        What it printed with `--json`, with `wall` seconds and `peak_mb` as seen from outside.
    """
    with tempfile.TemporaryDirectory(prefix="qprompt-edge-adapt-") as folder:
        child = run_module(
            "qprompt_edge", "adapt", "--images", photos, "--backbone", backbone, "--holdout", 0,
            "--threads", threads, "--out", Path(folder) / "prompt.qpt", "--json", *options,
            threads=threads, cache=Path(folder) / "cache",
        )  # fmt: skip
    return {**child.answer, "wall": child.seconds, "peak_mb": child.peak_mb}


def _summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians over the runs of one configuration."""
    (count,) = {run["steps"] for run in runs}
    return {
        "seconds": median(run["wall"] for run in runs),
        "encode": median(run["seconds"]["encode"] for run in runs),
        "train": median(run["seconds"]["train"] for run in runs),
        "steps": count,
        "peak_mb": max(run["peak_mb"] for run in runs),
        "runs": len(runs),
    }


def torch_summary(answers: list[dict[str, Any]], *, cached: bool) -> dict[str, Any]:
    """A whole adaptation in PyTorch, computed from its steps.

    Where steps were timed with fewer photos than a batch has, each missing one counts as one more to encode.
    """
    step = median(seconds for answer in answers for seconds in answer["steps"])
    photo = median(answer["encode"] / answer["batch"] for answer in answers)
    (timed,) = {answer["batch"] for answer in answers}
    if not cached:
        step += (BATCH - timed) * photo
    encode = PHOTOS * photo if cached else 0.0
    return {
        "seconds": encode + STEPS * step,
        "step": step,
        "encode": encode,
        "steps": STEPS,
        "timed_steps": sum(len(answer["steps"]) for answer in answers),
        "peak_mb": max(answer["peak_mb"] for answer in answers),
    }


def compare(what: Comparison, photos: Path, threads: int, bundles: Path, repeats: int) -> dict[str, Any]:
    """Both sides of one model, in turn."""
    rounds = min(repeats, what.rounds)
    per_round = max(1, -(-LEAST_STEPS // rounds))
    names = tuple(sorted(path.name for path in photos.iterdir()))
    folders = {precision: bundle(bundles, what.model, precision) for precision in what.precisions}
    ours: dict[str, list[dict[str, Any]]] = {}
    authors, trimmed = [], []
    for _ in range(rounds):
        for precision, folder in folders.items():
            for name, options in SCHEDULES.items():
                run = adapt_once(folder, photos, threads, options)
                ours.setdefault(f"{precision}, {name}", []).append(run)
        authors.append(steps.torch_child(what.model, names, "authors", per_round, threads))
        trimmed.append(steps.torch_child(what.model, names, "trimmed", max(3, per_round), threads))
    return {
        "rounds": rounds,
        "ours": {name: _summary(runs) for name, runs in ours.items()},
        "authors": torch_summary(authors, cached=False),
        "trimmed": torch_summary(trimmed, cached=True),
    }


def measure(threads: int, bundles: Path, repeats: int, models: tuple[str, ...] = ()) -> dict[str, Any]:
    """Every comparison, or those of some models."""
    with tempfile.TemporaryDirectory(prefix="qprompt-edge-photos-") as folder:
        photos = make(Path(folder) / "photos", CLASSES, SHOTS)
        return {
            what.model: compare(what, photos, threads, bundles, repeats)
            for what in COMPARISONS
            if not models or what.model in models
        }


def table(result: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Header and rows for people."""
    header = [
        f"{PHOTOS} photos, {CLASSES} classes",
        "steps",
        "whole",
        "PyTorch / ours",
        "trimmed / ours",
        "peak",
    ]
    rows = []
    for model, found in result.items():
        for side, what in (
            ("authors", "PyTorch CoOp, as its authors' code works"),
            ("trimmed", "PyTorch CoOp, trimmed, cached"),
        ):
            row = found[side]
            rows.append(
                [
                    f"{model}: {what}",
                    str(row["steps"]),
                    duration(row["seconds"]),
                    "",
                    "",
                    megabytes(row["peak_mb"]),
                ]
            )
        for name, row in found["ours"].items():
            ratios = [times(ratio(found[side]["seconds"], row["seconds"])) for side in ("authors", "trimmed")]
            cells = [str(row["steps"]), duration(row["seconds"]), *ratios, megabytes(row["peak_mb"])]
            rows.append([f"{model}: ours, {name}", *cells])
    return header, rows


def summary(whole: dict[str, Any], step: dict[str, Any], sizes: dict[str, Any]) -> dict[str, Any]:
    """The ratios, and what they were computed from."""
    line: dict[str, Any] = {}
    model, configuration = HEADLINE
    if model in whole:
        found = whole[model]
        ours = found["ours"][configuration]["seconds"]
        line["adaptation_ratio"] = ratio(found["authors"]["seconds"], ours)
        line["adaptation_ratio_trimmed"] = ratio(found["trimmed"]["seconds"], ours)
        line["adaptation_ratio_of"] = f"{model}, {configuration}"
    for count, found in step.items():
        line[f"step_ratio_{count}"] = found["ratio"]
        line[f"step_ratio_{count}_trimmed"] = found["ratio_trimmed"]
    computed = {"adaptation": whole, "steps": step, "installed": sizes}
    return {**line, "computed_from": computed}


def main() -> None:
    """Run it from the command line."""
    made = parser(__doc__)
    made.add_argument("--json", type=Path, help="also write the JSON line to this file")
    made.add_argument("--models", nargs="*", default=[], help="only these; by default all")
    made.add_argument("--no-steps", action="store_true", help="leave out the steps at 10 and 100 classes")
    options = made.parse_args()
    common = (options.threads, options.bundles, options.repeats)
    whole = measure(*common, tuple(options.models))
    step = {} if options.no_steps else steps.measure(*common)
    sizes = installed.measure()
    print(text_table(f"Whole adaptation, {options.threads} threads", *table(whole)))
    print("PyTorch: steps x median step (trimmed: and encoding once); loading and decoding not counted\n")
    if step:
        print(text_table("Steps", *steps.table(step)))
    print(
        f"installed: ours {megabytes(sizes['ours_mb'])}; PyTorch and open_clip "
        f"{megabytes(sizes['torch_mb'])}, {megabytes(sizes['torch_without_gpu_mb'])} without libraries for "
        "GPUs\n"
    )
    line = json.dumps(summary(whole, step, sizes))
    if options.json:
        options.json.write_text(line + "\n", encoding="utf-8")
    print(line)


if __name__ == "__main__":
    main()
