"""A whole adaptation with the default method beside PyTorch CoOp on the same towers; 16 photos of 10 classes.

    python -m benchmarks.default_method [--threads 2] [--bundles DIR] [--repeats 1] [--models small ...]

As `benchmarks.adaptation`, which compares the same method on both sides. Here ours is `qprompt-edge adapt` as
it is without options: residuals of the class features (`qtaskres`), for which no text gradient is needed, and
calibration. It is timed from the start of its process with an empty cache, and once more on the same photos
with other options (`--bits 2`), when their features are in the cache.

Ours runs whole. PyTorch's totals are computed from few of its 250 steps, timed with 8 photos instead of 32:
the time of encoding grows with the photos, so each of the other 24 adds an eighth of what these 8 take. One
round is enough for a ratio, and takes some minutes once the bundles are made.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import steps
from benchmarks.adaptation import CLASSES, PHOTOS, SHOTS, STEPS, torch_summary
from benchmarks.bundles import DEFAULT, bundle
from benchmarks.options import parser
from benchmarks.photo_folders import make
from benchmarks.processes import Child, run_module
from benchmarks.tables import duration, median, megabytes, ratio, text_table, times

MODELS = {"ViT-B-16": "int8", "ViT-B-32": "int8", "MobileCLIP2-S0": "fp32", DEFAULT: "as shipped"}
"""Models, and the precision of the bundle."""
TIMED_PHOTOS = 8
"""Photos in PyTorch's timed steps."""
_STEPS = {"authors": 2, "trimmed": 5}
OTHER_OPTIONS = ("--bits", 2)


def adapt(backbone: Path, photos: Path, folder: Path, threads: int, *options: object) -> Child:
    """One `qprompt-edge adapt` with the cache that lies in a folder."""
    out = folder / "prompt.qpt"
    out.unlink(missing_ok=True)
    return run_module(
        "qprompt_edge", "adapt", photos, "--backbone", backbone, "--holdout", 0, "--threads", threads,
        "--out", out, "--json", *options,
        threads=threads, cache=folder / "cache",
    )  # fmt: skip


def compare(model: str, photos: Path, threads: int, bundles: Path, rounds: int) -> dict[str, Any]:
    """Both sides of one model, in turn."""
    names = tuple(sorted(path.name for path in photos.iterdir()))
    backbone = bundle(bundles, model, MODELS[model])
    first: list[Child] = []
    again: list[Child] = []
    theirs: dict[str, list[dict[str, Any]]] = {side: [] for side in _STEPS}
    for _ in range(rounds):
        with tempfile.TemporaryDirectory(prefix="qprompt-edge-adapt-") as name:
            first.append(adapt(backbone, photos, Path(name), threads))
            again.append(adapt(backbone, photos, Path(name), threads, *OTHER_OPTIONS))
        for side, count in _STEPS.items():
            theirs[side].append(steps.torch_child(model, names, side, count, threads, TIMED_PHOTOS))
    answer = first[0].answer
    return {
        "precision": MODELS[model],
        "method": answer["method"],
        "bytes": answer["bytes"],
        "seconds": median(run.seconds for run in first),
        "encode": median(run.answer["seconds"]["encode"] for run in first),
        "train": median(run.answer["seconds"]["train"] for run in first),
        "processor": median(run.processor for run in first),
        "again": median(run.seconds for run in again),
        "peak_mb": max(run.peak_mb for run in (*first, *again)),
        "runs": rounds,
        "authors": torch_summary(theirs["authors"], cached=False),
        "trimmed": torch_summary(theirs["trimmed"], cached=True),
    }


def measure(threads: int, bundles: Path, rounds: int = 1, models: tuple[str, ...] = ()) -> dict[str, Any]:
    """Every model, or some."""
    with tempfile.TemporaryDirectory(prefix="qprompt-edge-photos-") as folder:
        photos = make(Path(folder) / "photos", CLASSES, SHOTS)
        return {model: compare(model, photos, threads, bundles, rounds) for model in models or MODELS}


def table(result: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Header and rows for people."""
    header = [
        f"{PHOTOS} photos, {CLASSES} classes", "ours", "again", "PyTorch", "/ ours", "trimmed", "/ ours", "peak",
    ]  # fmt: skip
    rows = []
    for model, found in result.items():
        cells = [duration(found["seconds"]), duration(found["again"])]
        for side in _STEPS:
            theirs = found[side]["seconds"]
            cells += [duration(theirs), times(ratio(theirs, found["seconds"]))]
        rows.append([f"{model}, {found['precision']}", *cells, megabytes(found["peak_mb"])])
    return header, rows


def main() -> None:
    """Run it from the command line."""
    made = parser(__doc__)
    made.add_argument("--models", nargs="*", choices=list(MODELS), default=[], help="only these")
    made.set_defaults(repeats=1)
    options = made.parse_args()
    result = measure(options.threads, options.bundles, options.repeats, tuple(options.models))
    print(text_table("The default method", *table(result)))
    print(f"PyTorch: {STEPS} steps x median step (trimmed: and encoding once); see the module's text\n")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
