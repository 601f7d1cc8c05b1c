"""One tuning step on ViT-B/32 with 10 and with 100 classes, ours and PyTorch's.

Weights and names are the same on both sides.

    python -m benchmarks.steps [--threads 2] [--bundles DIR] [--repeats 5]

Each round runs ours, CoOp as its authors' code works, ours again and CoOp with trimmed text and cached
features, each in a process of its own, so that a drift of the machine's speed meets both sides. Ours is a
whole step of `adapt`'s trainer (quantizer and optimizer included) on an fp32 text tower, with batches of 32
as on the other side.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.bundles import bundle
from benchmarks.class_names import known_names
from benchmarks.options import parse
from benchmarks.processes import run_module
from benchmarks.tables import duration, median, megabytes, ratio, text_table, times

MODEL = "ViT-B-32"
CLASSES = (10, 100)
BATCH = 32
LEAST_STEPS = 5
_OUR_STEPS = 10
_SHOTS = 16


def torch_child(
    model: str, names: tuple[str, ...], variant: str, steps: int, threads: int, batch: int = BATCH
) -> dict[str, Any]:
    """Run PyTorch's side once; its answer, with the peak memory seen from outside."""
    child = run_module(
        "benchmarks.torch_coop",
        "--model", model, "--names", ",".join(names), "--variant", variant, "--steps", steps,
        "--batch", batch, "--threads", threads,
        threads=threads,
    )  # fmt: skip
    return {**child.answer, "peak_mb": child.peak_mb}


def our_child(folder: Path, names: tuple[str, ...], parts: str, repeats: int, threads: int) -> dict[str, Any]:
    """Run our side once, on 16 photos a class, all at once as `adapt` does.

    Returns its answer, with the peak memory seen from outside.
    """
    child = run_module(
        "benchmarks.our_steps",
        "--backbone", folder, "--names", ",".join(names), "--parts", parts, "--repeats", repeats,
        "--batch", _SHOTS * len(names), "--threads", threads,
        threads=threads,
    )  # fmt: skip
    return {**child.answer, "peak_mb": child.peak_mb}


def measure(threads: int, bundles: Path, repeats: int) -> dict[str, Any]:
    """Medians by number of classes, and the ratios."""
    folder = bundle(bundles, MODEL, "fp32")
    return {str(count): _measure(folder, count, threads, repeats) for count in CLASSES}


def _measure(folder: Path, count: int, threads: int, repeats: int) -> dict[str, Any]:
    names = known_names(count)
    per_round = max(1, -(-LEAST_STEPS // repeats))
    ours: list[float] = []
    text: list[float] = []
    theirs: dict[str, list[float]] = {"authors": [], "trimmed": []}
    peaks: dict[str, float] = {}

    def note(side: str, answer: dict[str, Any]) -> dict[str, Any]:
        peaks[side] = max(peaks.get(side, 0.0), answer["peak_mb"])
        return answer

    for _ in range(repeats):
        for variant, steps in theirs.items():
            answer = note("ours", our_child(folder, names, "text,trainer", _OUR_STEPS, threads))
            ours += answer["seconds"]["trainer"]
            text += answer["seconds"]["text"]
            per = per_round if variant == "authors" else max(per_round, 3)
            steps += note(variant, torch_child(MODEL, names, variant, per, threads))["steps"]
    medians = {"ours": median(ours), **{side: median(found) for side, found in theirs.items()}}
    return {
        **medians,
        "ours_text_graph": median(text),
        "ratio": ratio(medians["authors"], medians["ours"]),
        "ratio_trimmed": ratio(medians["trimmed"], medians["ours"]),
        "counted_steps": {"ours": len(ours), **{side: len(found) for side, found in theirs.items()}},
        "peak_mb": peaks,
    }


def table(result: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Header and rows for people."""
    header = [f"one step, {MODEL}", "10 classes", "ratio", "100 classes", "ratio", "peak"]
    rows = []
    for side, what in (
        ("authors", f"PyTorch CoOp, as its authors' code works, {BATCH} photos"),
        ("trimmed", f"PyTorch CoOp, trimmed text, cached features, {BATCH} photos"),
        ("ours", f"ours, a whole step of `adapt`, {_SHOTS} photos of each class"),
    ):
        row = [what]
        for count in CLASSES:
            found = result[str(count)]
            row += [duration(found[side]), "" if side == "ours" else times(ratio(found[side], found["ours"]))]
        rows.append([*row, megabytes(max(result[str(count)]["peak_mb"][side] for count in CLASSES))])
    return header, rows


def main() -> None:
    """Run it from the command line."""
    options = parse(__doc__)
    result = measure(options.threads, options.bundles, options.repeats)
    print(text_table("Steps", *table(result)))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
