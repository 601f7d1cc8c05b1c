"""Baked classifiers beside the runtime: the same labels and probabilities in Python, in C and in a browser?

    python -m benchmarks.baked --prompt waste.qpt PHOTOS...

Twice: once with the pixels that the runtime prepared (the photos, resized and cropped, as PNG), once with the
photos as they are, which the classifier resizes itself and other programs decode. Also what the storage of
the weights costs, and sizes and times. Photos are files or folders; every one of them counts.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from PIL import Image

from benchmarks.baked_runtimes import NONE, Answer, MissingError, in_browser, in_c, in_python, picture
from benchmarks.tables import text_table
from qprompt_edge.data.photos import list_images
from qprompt_exporters.baking import bake, update
from qprompt_exporters.baking.storage import PRECISIONS
from qprompt_runtime.arrays import Array
from qprompt_runtime.classifier import PromptClassifier
from qprompt_runtime.images import to_pixels

_TIMED = 100


def restored(pixels: Array, classifier: PromptClassifier) -> Image.Image:
    """Prepared pixels [3,S,S] as the picture that they were before they were normalised."""
    transform = classifier.backbone.manifest.image_transform
    std, mean = (np.array(values).reshape(3, 1, 1) for values in (transform.std, transform.mean))
    return Image.fromarray(np.rint((pixels * std + mean) * 255).astype(np.uint8).transpose(1, 2, 0))


def compared(ours: Sequence[Answer], theirs: Sequence[Answer]) -> dict[str, Any]:
    """How many labels are the same, and the largest difference between the best probabilities."""
    return {
        "photos": len(ours),
        "same_labels": sum(a[0] == b[0] for a, b in zip(ours, theirs, strict=True)),
        "difference": max(abs(a[1] - b[1]) for a, b in zip(ours, theirs, strict=True)),
    }


def predictions(classifier: PromptClassifier, photos: Sequence[Path]) -> list[Answer]:
    """What the runtime says of photos."""
    found = (classifier.predict(photo) for photo in photos)
    return [(NONE if one.none_of_these else one.label, one.probability) for one in found]


def runtimes(model: Path, photos: Sequence[Path]) -> dict[str, list[Answer] | str]:
    """Each runtime's answers, or why there are none."""
    runs: dict[str, Callable[[Path], list[Answer]]] = {
        "Python": lambda _folder: in_python(model, photos),
        "C": lambda folder: in_c(model, photos, folder),
        "Chromium": lambda folder: in_browser(model, photos, folder),
    }
    found: dict[str, list[Answer] | str] = {}
    for name, answers in runs.items():
        with tempfile.TemporaryDirectory() as folder:
            try:
                found[name] = answers(Path(folder))
            except MissingError as error:
                found[name] = str(error)
    return found


def parity(classifier: PromptClassifier, photos: Sequence[Path], folder: Path) -> list[dict[str, Any]]:
    """Rows: which pixels, which runtime, and how its answers compare."""
    model = folder / "bytes.onnx"
    bake(classifier, model, pixels="uint8")
    prepared = []
    for number, photo in enumerate(photos):
        path = folder / f"{number}.png"
        pixels = to_pixels(picture(photo), classifier.backbone.manifest.image_transform)
        restored(pixels, classifier).save(path)
        prepared.append(path)
    rows = []
    for kind, files in (("ours", prepared), ("the photo's", list(photos))):
        ours = predictions(classifier, files)
        for name, theirs in runtimes(model, files).items():
            row = {"missing": theirs} if isinstance(theirs, str) else compared(ours, theirs)
            rows.append({"pixels": kind, "runtime": name, **row})
    return rows


def storage(classifier: PromptClassifier, photos: Sequence[Path], folder: Path) -> list[dict[str, Any]]:
    """Rows: how weights are stored, size, time to bake and to replace the head, answers, time of a photo.

    Photos whose folder is called like a class count as right or wrong.
    """
    pixels = np.stack([to_pixels(picture(p), classifier.backbone.manifest.image_transform) for p in photos])
    ours = classifier.probabilities(classifier.encode_images(pixels))
    rows: list[dict[str, Any]] = []
    runs: list[Callable[[Array], Any]] = []
    for precision in PRECISIONS:
        path = folder / f"{precision}.onnx"
        done, baked = _timed(lambda path=path, it=precision: bake(classifier, path, precision=it))
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        found = np.concatenate([session.run(["probabilities"], {"pixels": one[None]})[0] for one in pixels])
        _, updated = _timed(lambda path=path: update(classifier, path, path))
        rows.append(
            {
                "weights": precision,
                "bytes": done.size,
                "head_bytes": done.head_size,
                "bake_seconds": baked,
                "update_seconds": updated,
                "same_labels": int((found.argmax(1) == ours.argmax(1)).sum()),
                "right": _right(found, photos, classifier),
                "difference": float(np.abs(found - ours).max()),
            }
        )
        runs.append(lambda one, it=session: it.run(None, {"pixels": one[None]}))
    rows.append({"weights": "the runtime", "right": _right(ours, photos, classifier)})
    runs.append(lambda one: classifier.probabilities(classifier.encode_images(one[None])))
    for row, milliseconds in zip(rows, _fastest(runs, pixels), strict=True):
        row["milliseconds"] = milliseconds
    return rows


def _right(probabilities: Array, photos: Sequence[Path], classifier: PromptClassifier) -> int:
    named = [classifier.labels[place] for place in probabilities.argmax(1)]
    return sum(label == photo.parent.name for label, photo in zip(named, photos, strict=True))


def _timed(run: Callable[[], Any]) -> tuple[Any, float]:
    """What a call returns, and the seconds of the fastest of three."""
    times = []
    for _ in range(3):
        start = time.perf_counter()
        found = run()
        times.append(time.perf_counter() - start)
    return found, min(times)


def _fastest(runs: Sequence[Callable[[Array], Any]], pixels: Array) -> list[float]:
    """Milliseconds of each run on one photo: the fastest of many, taken in turns."""
    times: list[list[float]] = [[] for _ in runs]
    for number in range(_TIMED):
        for run, taken in zip(runs, times, strict=True):
            start = time.perf_counter()
            run(pixels[number % len(pixels)])
            taken.append(time.perf_counter() - start)
    return [1000 * min(taken) for taken in times]


def main() -> None:
    """Run it from the command line."""
    options = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    options.add_argument("photos", nargs="+", type=Path)
    options.add_argument("--prompt", type=Path, required=True)
    options.add_argument("--count", type=int, default=200, help="photos, evenly from all that were given")
    given = options.parse_args()
    paths, _ = list_images(given.photos)
    photos = [
        paths[place] for place in np.linspace(0, len(paths) - 1, min(given.count, len(paths))).astype(int)
    ]
    classifier = PromptClassifier.load(given.prompt)
    with tempfile.TemporaryDirectory() as folder:
        agreed = parity(classifier, photos, Path(folder))
        stored = storage(classifier, photos, Path(folder))
    for title, rows in (("Answers", agreed), ("Storage", stored)):
        header = list(dict.fromkeys(key for row in rows for key in row))
        cells = [
            [
                f"{row[key]:.4g}" if isinstance(row.get(key), float) else str(row.get(key, ""))
                for key in header
            ]
            for row in rows
        ]
        print(text_table(title, header, cells))
    print(json.dumps({"photos": len(photos), "answers": agreed, "storage": stored}))


if __name__ == "__main__":
    main()
