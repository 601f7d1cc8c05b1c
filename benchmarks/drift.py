"""What `watch` and `serve` call drift, on photos like the known ones and on others.

    python -m benchmarks.drift KNOWN --other NAME=FOLDER

KNOWN is a folder with one sub-folder of photos per class. A prompt is tuned on 60% of them. The others, the
same made dark or blurred, and the photos of each `--other` folder are then answered as `watch` answers
frames.
`100 photos` is the range of the drift over 500 draws of so many photos: 5 to 95% of them lie in it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter

from benchmarks.tables import text_table
from qprompt_edge import adapt
from qprompt_edge.data.photos import find_photos
from qprompt_edge.watching.health import Health, PromptHealth, Version
from qprompt_runtime.arrays import Array
from qprompt_runtime.backbone import Backbone
from qprompt_runtime.bundle import DEFAULT_BACKBONE
from qprompt_runtime.classifier import PromptClassifier
from qprompt_runtime.images import read_image, to_pixels

HOLDOUT, ACCEPT = 0.4, 0.95
DRAWS, DRAWN = 500, 100


def _dark(image: Image.Image) -> Image.Image:
    return ImageEnhance.Brightness(image).enhance(0.1)


def _blurred(image: Image.Image) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(0.04 * min(image.size)))


def told(classifier: PromptClassifier, confidences: Array, scores: Array) -> PromptHealth:
    """How the prompt fares after these answers."""
    accept_scores = classifier.prompt.calibration.accept_scores
    health = Health()
    health.take_up("it", Version("", None, None, "", "", accept_scores))
    least = classifier.least_score
    assert least is not None
    for confidence, score in zip(confidences.tolist(), scores.tolist(), strict=True):
        health.answered("it", 0.0, confidence, score < least, score)
    return health.prompts()[0]


def row(classifier: PromptClassifier, images: Sequence[Image.Image], labels: Sequence[str]) -> dict[str, Any]:
    """Figures of some pictures; `labels` says what they show, and may name classes that are not known."""
    transform = classifier.backbone.manifest.image_transform
    features = [classifier.encode_images(to_pixels(image, transform)[None]) for image in images]
    probabilities = classifier.probabilities(np.concatenate(features))
    confidences, scores = probabilities.max(axis=1), classifier.known_scores(np.concatenate(features))
    found = told(classifier, confidences, scores)
    rng = np.random.default_rng(1)
    draws = [rng.integers(0, len(scores), DRAWN) for _ in range(DRAWS)]
    drifts = [told(classifier, confidences[some], scores[some]).drift for some in draws]
    low, high = np.quantile(np.array(drifts, float), (0.05, 0.95)).tolist()
    best = probabilities.argmax(axis=1).tolist()
    right = [classifier.labels[place] == label for place, label in zip(best, labels, strict=True)]
    return {
        "photos": len(images),
        "drift": found.drift,
        "range": [low, high],
        "none_of_these": found.none_of_these,
        "confidence": found.confidence,
        "top1": sum(right) / len(right) if set(labels) & set(classifier.labels) else None,
    }


def measure(known: Path, others: dict[str, Path], backbone: Backbone) -> dict[str, Any]:
    """All rows."""
    result = adapt(known, holdout=HOLDOUT, backbone=backbone.folder)
    classifier = PromptClassifier(result.prompt, backbone, accept=ACCEPT)
    _ = classifier.class_features
    transform, photos = backbone.manifest.image_transform, find_photos(known)
    trained = set(result.trained)
    held = [place for place, path in enumerate(photos.paths) if path not in trained]
    images = [read_image(photos.paths[place], transform) for place in held]
    labels = [photos.classes[photos.labels[place]] for place in held]
    rows = {known.name: row(classifier, images, labels)}
    for name, made in (("light x 0.1", _dark), ("blur 4%", _blurred)):
        rows[f"{known.name}, {name}"] = row(classifier, [made(image) for image in images], labels)
    for name, folder in others.items():
        found = find_photos(folder)
        images = [read_image(path, transform) for path in found.paths]
        rows[name] = row(classifier, images, [found.classes[label] for label in found.labels])
    return rows


def table(rows: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Header and rows for people."""
    header = ["", "photos", "drift", "100 photos", "none of these", "confidence", "accuracy"]
    return header, [
        [
            name,
            str(it["photos"]),
            f"{it['drift']:.2f}",
            f"{it['range'][0]:.2f} to {it['range'][1]:.2f}",
            *(
                "" if it[key] is None else f"{100 * it[key]:.0f}%"
                for key in ("none_of_these", "confidence", "top1")
            ),
        ]
        for name, it in rows.items()
    ]


def main() -> None:
    """Run it from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("known", type=Path)
    parser.add_argument("--other", action="append", default=[], help="NAME=FOLDER; may be repeated")
    parser.add_argument("--backbone", default=DEFAULT_BACKBONE, help="a name or a bundle's folder")
    options = parser.parse_args()
    named = (one.partition("=") for one in options.other)
    others = {name: Path(folder) for name, _, folder in named}
    rows = measure(options.known, others, Backbone.load(options.backbone))
    print(text_table("Drift", *table(rows)))
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
