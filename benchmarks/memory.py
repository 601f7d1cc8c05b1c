"""Peak resident memory of whole commands, as the system counts it for a process.

    python -m benchmarks.memory [--threads 2] [--bundles DIR] [--repeats 3]

Weights are memory-mapped where that helps. Pages of a mapped file count as resident while the system has them
in memory and no other process needs the memory. So a peak is what a machine with plenty of memory shows, and
`--max-memory` asks for less. The peak over `--repeats` runs (three at most) is kept.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.adaptation import adapt_once
from benchmarks.bundles import EMBEDDED, bundle
from benchmarks.class_names import made_names
from benchmarks.options import parse
from benchmarks.photo_folders import EXAMPLES, make
from benchmarks.processes import Child, run_module
from benchmarks.tables import median, megabytes, text_table

MANY = (1000, 10000)
MOST_REPEATS = 3
_SHORT = ("--epochs", 1, "--shots", 2)
CASES = {
    **{f"{name}_adapt_large": f"{name}: adapt, 160 photos, 20 of them of 12 megapixels" for name in EMBEDDED},
    "vit_b_32_int8_adapt": "ViT-B/32, int8 images: adapt, 160 photos, 10 classes",
    "vit_b_32_fp32_adapt": "ViT-B/32, fp32: adapt, 160 photos, 10 classes",
    "vit_b_16_int8_predict": "ViT-B/16, int8 images: predict one photo",
    "vit_b_16_fp32_predict": "ViT-B/16, fp32: predict one photo",
    "thousand_classes": "ViT-B/32, fp32: three steps with 1,000 classes of 16 photos (features cached)",
}


def one_photo() -> Path:
    """A photo of the example set."""
    return sorted(EXAMPLES.glob("*/*"))[0]


def write_prompt(backbone: Path, photos: Path, out: Path, threads: int) -> Path:
    """Any prompt for a backbone, tuned for one epoch."""
    run_module(
        "qprompt_edge", "adapt", "--images", photos, "--backbone", backbone, "--holdout", 0,
        "--threads", threads, "--out", out, *_SHORT,
        threads=threads,
    )  # fmt: skip
    return out


def predict(
    backbone: Path, prompt: Path, photo: Path, threads: int, *options: object, cache: Path | None = None
) -> Child:
    """`qprompt-edge predict` of one photo; without a cache, as the first time."""
    return run_module(
        "qprompt_edge", "predict", photo, "--prompt", prompt, "--backbone", backbone,
        "--threads", threads, "--json", *options,
        threads=threads, cache=cache,
    )  # fmt: skip


def measure(threads: int, bundles: Path, repeats: int) -> dict[str, Any]:
    """Peaks by case, and what more classes take beyond their features."""
    with tempfile.TemporaryDirectory(prefix="qprompt-edge-memory-") as name:
        return _measure(Path(name), threads, bundles, min(repeats, MOST_REPEATS))


def _measure(folder: Path, threads: int, bundles: Path, repeats: int) -> dict[str, Any]:
    large = make(folder / "large", large=2)
    plain = make(folder / "plain")
    few = make(folder / "few", classes=2, shots=2)
    at = {
        (model, kind): bundle(bundles, f"ViT-B-{model}", kind)
        for model in (16, 32)
        for kind in ("int8", "fp32")
    }
    prompts = {
        key: write_prompt(place, few, folder / f"{place.name}.qpt", threads) for key, place in at.items()
    }

    methods: set[str] = set()

    def adapting(backbone: Path, photos: Path) -> Callable[[], float]:
        def peak() -> float:
            run = adapt_once(backbone, photos, threads)
            methods.add(run["method"])
            return float(run["peak_mb"])

        return peak

    def predicting(kind: str) -> Callable[[], float]:
        return lambda: predict(at[16, kind], prompts[16, kind], one_photo(), threads).peak_mb

    cases: dict[str, Callable[[], float]] = {
        **{f"{name}_adapt_large": adapting(place, large) for name, place in EMBEDDED.items()},
        "vit_b_32_int8_adapt": adapting(at[32, "int8"], plain),
        "vit_b_32_fp32_adapt": adapting(at[32, "fp32"], plain),
        "vit_b_16_int8_predict": predicting("int8"),
        "vit_b_16_fp32_predict": predicting("fp32"),
        "thousand_classes": lambda: _steps_of_many(at[32, "fp32"], threads),
    }
    return {
        "peak_mb": {name: max(work() for _ in range(repeats)) for name, work in cases.items()},
        "method": methods.pop(),
        "many_classes": _many_classes(at[32, "fp32"], prompts[32, "fp32"], threads),
    }


def _steps_of_many(backbone: Path, threads: int) -> float:
    """Peak of three training steps with 1,000 classes of 16 photos each."""
    return run_module(
        "benchmarks.our_steps", "--backbone", backbone, "--parts", "trainer", "--threads", threads,
        "--classes", MANY[0], "--tokens", "1,2", "--repeats", 2, "--warm-up", 1,
        threads=threads,
    ).peak_mb  # fmt: skip


def _many_classes(backbone: Path, prompt: Path, threads: int) -> dict[str, Any]:
    """`predict` with 1,000 and with 10,000 classes: its peak, and what of it is not class features."""
    width = json.loads((backbone / "manifest.json").read_text(encoding="utf-8"))["embed_dim"]
    found: dict[str, Any] = {}
    for count in MANY:
        names = made_names(backbone / "tokenizer.json", (1,), count)
        child = predict(backbone, prompt, one_photo(), threads, "--classes", ",".join(names))
        features = count * width * 4 / 10**6
        found[str(count)] = {
            "peak_mb": child.peak_mb,
            "features_mb": features,
            "beyond_mb": child.peak_mb - features,
            "seconds": child.seconds,
        }
    less, more = (found[str(count)]["beyond_mb"] for count in MANY)
    return {"by_classes": found, "growth_mb": more - less, "mean_mb": median([less, more])}


def table(result: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Header and rows for people."""
    peaks = result["peak_mb"]
    rows = [[case, megabytes(peaks[name])] for name, case in CASES.items() if name in peaks]
    for count, found in result["many_classes"]["by_classes"].items():
        rows.append([f"ViT-B/32, fp32: predict with {int(count):,} classes", megabytes(found["peak_mb"])])
        rows.append(["... beyond the class features", megabytes(found["beyond_mb"])])
    return ["peak resident memory", "MB"], rows


def main() -> None:
    """Run it from the command line."""
    options = parse(__doc__)
    result = measure(options.threads, options.bundles, options.repeats)
    print(text_table("Memory", *table(result)))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
