"""Encoding a photo: open_clip's image tower in PyTorch (float32) against ours in float32 and int8.

    python -m benchmarks.images [--threads 2] [--bundles DIR] [--repeats 5]

Seconds a photo, image tower only. PyTorch runs one photo at a time and 32 at a time; ours runs one at a time,
as `adapt` and `predict` do. Int8 gains most from processors with instructions for products of bytes (VNNI on
x86-64, dot product on ARM); whether this one has them is part of the result.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.bundles import DEFAULT, bundle
from benchmarks.options import parse
from benchmarks.processes import run_module
from benchmarks.tables import duration, median, megabytes, ratio, text_table, times
from qprompt_runtime.processor import byte_products

MODELS: dict[str, tuple[str, ...]] = {
    "ViT-B-16": ("fp32", "int8", "int8-merge16"),
    "ViT-B-32": ("fp32", "int8"),
    DEFAULT: ("as shipped",),
    "tiny": ("as shipped",),  # for comparison: what slower boards can take
}
BATCHES = (1, 32)
_PHOTOS = 8
_RUNS = {1: 5, 32: 1}


def measure(threads: int, bundles: Path, repeats: int) -> dict[str, Any]:
    """Seconds a photo by model and side, and the ratios."""
    models = {model: _measure(model, kinds, threads, bundles, repeats) for model, kinds in MODELS.items()}
    return {"byte_products": ", ".join(byte_products()), "models": models}


def _measure(model: str, kinds: tuple[str, ...], threads: int, bundles: Path, repeats: int) -> dict[str, Any]:
    folders = {kind: bundle(bundles, model, kind) for kind in kinds}
    seconds: dict[str, list[float]] = {}
    peaks: dict[str, float] = {}
    common = ("--threads", threads)
    for _ in range(repeats):
        for kind, folder in folders.items():
            child = run_module(
                "benchmarks.our_steps", "--backbone", folder, "--parts", "photos", "--repeats", _PHOTOS, *common,
                threads=threads,
            )  # fmt: skip
            seconds.setdefault(kind, []).extend(child.answer["seconds"]["photos"])
            peaks[kind] = max(peaks.get(kind, 0.0), child.peak_mb)
        for batch in BATCHES:
            child = run_module(
                "benchmarks.torch_images", "--model", model, "--batch", batch, "--repeats", _RUNS[batch], *common,
                threads=threads,
            )  # fmt: skip
            side = f"torch, batch {batch}"
            seconds.setdefault(side, []).extend(child.answer["photos"])
            peaks[side] = max(peaks.get(side, 0.0), child.peak_mb)
    medians = {side: median(values) for side, values in seconds.items()}
    best = min(value for side, value in medians.items() if side.startswith("torch"))
    ratios = {
        kind: {
            "batch 1": ratio(medians["torch, batch 1"], medians[kind]),
            "batch 32": ratio(medians["torch, batch 32"], medians[kind]),
            "best": ratio(best, medians[kind]),
        }
        for kind in kinds
    }
    return {"seconds": medians, "ratios": ratios, "peak_mb": peaks}


def table(result: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Header and rows for people."""
    header = ["one photo, image tower", "time", "torch batch 1 / ours", "torch batch 32 / ours", "peak"]
    rows = []
    for model, found in result["models"].items():
        for side, value in found["seconds"].items():
            ratios = found["ratios"].get(side)
            cells = [times(ratios[f"batch {batch}"]) for batch in BATCHES] if ratios else ["", ""]
            who = "" if side.startswith("torch") else "ours, "
            rows.append([f"{model}: {who}{side}", duration(value), *cells, megabytes(found["peak_mb"][side])])
    return header, rows


def main() -> None:
    """Run it from the command line."""
    options = parse(__doc__)
    result = measure(options.threads, options.bundles, options.repeats)
    print(text_table("Image encoding", *table(result)))
    print(f"instructions for products of bytes: {result['byte_products'] or 'none'}\n")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
