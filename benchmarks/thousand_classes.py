"""A whole `adapt` of 1,000 classes of 16 photos with the default method, its features cached; ViT-B/32, fp32.

    python -m benchmarks.thousand_classes [--threads 2] [--bundles DIR] [--repeats 5] [--classes 1000]

The photos are tiny pictures, each with a content of its own, and the cache already holds features for them:
around a random direction for each class. So what is timed is finding and hashing 16,000 files, the text
tower, tuning, and calibration by cross-validation. Each run starts from a cache that knows the photos and
nothing else. Peak memory is that of the process.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.bundles import bundle
from benchmarks.options import parser
from benchmarks.processes import run_module
from benchmarks.tables import duration, median, megabytes, text_table

MODEL = "ViT-B-32"
CLASSES, SHOTS = 1000, 16
MOST_REPEATS = 3
_SPREAD = 1.0
"""Length of what a photo's features have beside the direction of its class."""


def measure(threads: int, bundles: Path, repeats: int, classes: int = CLASSES) -> dict[str, Any]:
    """Medians of the seconds, and the largest peak."""
    backbone = bundle(bundles, MODEL, "fp32")
    with tempfile.TemporaryDirectory(prefix="qprompt-edge-classes-") as name:
        folder = Path(name)
        run_module(
            "benchmarks.thousand_classes", "--prepare", folder / "photos", "--backbone", backbone,
            "--classes", classes, cache=folder / "known",
        )  # fmt: skip
        runs = []
        for _ in range(min(repeats, MOST_REPEATS)):
            shutil.rmtree(folder / "cache", ignore_errors=True)
            shutil.copytree(folder / "known", folder / "cache")
            runs.append(
                run_module(
                    "qprompt_edge", "adapt", folder / "photos", "--backbone", backbone, "--holdout", 0,
                    "--threads", threads, "--out", folder / "prompt.qpt", "--json",
                    threads=threads, cache=folder / "cache",
                )
            )  # fmt: skip
    answer = runs[0].answer
    return {
        "classes": classes,
        "method": answer["method"],
        "photos": answer["images"]["train"],
        "steps": answer["steps"],
        "bytes": answer["bytes"],
        "seconds": median(run.seconds for run in runs),
        "tuning": median(run.answer["seconds"]["train"] for run in runs),
        "processor": median(run.processor for run in runs),
        "peak_mb": max(run.peak_mb for run in runs),
        "runs": len(runs),
    }


def table(result: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Header and rows for people."""
    what = f"{MODEL}, {result['classes']:,} classes, {result['photos']:,} photos, features cached"
    rows = [
        ["whole `adapt`, from the start of the process", duration(result["seconds"])],
        ["... of it tuning: text tower, residuals, cross-validation", duration(result["tuning"])],
        ["... processor time", duration(result["processor"])],
        ["peak memory", megabytes(result["peak_mb"])],
        ["prompt file", f"{result['bytes'] / 1000:,.0f} kB"],
    ]
    return [what, f"`{result['method']}`"], rows


def prepare(photos: Path, backbone_folder: Path, classes: int) -> None:
    """Write the photos, and a cache that knows their features."""
    import numpy as np
    from PIL import Image

    from benchmarks.class_names import made_names
    from qprompt_edge.data.feature_cache import Entry, content_key
    from qprompt_edge.data.features import user_features
    from qprompt_runtime.backbone import Backbone

    backbone = Backbone.load(backbone_folder)
    cache = user_features(backbone, lambda error: print(error))
    rng, width = np.random.default_rng(0), backbone.manifest.embed_dim
    for label in made_names(backbone_folder / "tokenizer.json", (1, 2), classes):
        (photos / label).mkdir(parents=True)
        centre = rng.standard_normal(width) / np.sqrt(width)
        for shot in range(SHOTS):
            path = photos / label / f"{shot:02}.png"
            Image.fromarray(rng.integers(0, 256, (6, 6, 3), np.uint8)).save(path)
            features = centre + _SPREAD * rng.standard_normal(width) / np.sqrt(width)
            features = (features / np.linalg.norm(features)).astype(np.float32)
            with path.open("rb") as file:
                key = content_key(file)
            cache.put(key, Entry(features[None], int(rng.integers(2**63))))
    cache.save()


def main() -> None:
    """Run it from the command line."""
    made = parser(__doc__)
    made.add_argument("--classes", type=int, default=CLASSES)
    made.add_argument("--prepare", type=Path, help="only write the photos, and their features in the cache")
    made.add_argument("--backbone", type=Path, help="of --prepare")
    options = made.parse_args()
    if options.prepare:
        prepare(options.prepare, options.backbone, options.classes)
        return
    result = measure(options.threads, options.bundles, options.repeats, options.classes)
    print(text_table("Many classes", *table(result)))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
