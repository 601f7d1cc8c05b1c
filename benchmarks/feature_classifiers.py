"""Classifiers on the features of a bundle's image graph, by onnxruntime, Pillow and numpy alone.

    python -m benchmarks.feature_classifiers --method logistic --train DIR --test DIR [--backbone DIR]

`logistic` is scikit-learn's logistic regression, its penalty chosen by cross-validation of five parts; no
package of this project is imported. `tip-adapter` is Tip-Adapter without training, from
`qprompt_edge.reproduction`, which also needs the text tower.

Prints one JSON line: `top1` on the test photos, and `bytes` that a device needs beside the backbone.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from PIL import Image

METHODS = ("logistic", "tip-adapter")
_FOLDS, _PENALTIES, _ITERATIONS = 5, 10, 1000


def pixels_of(path: Path, transform: dict[str, Any]) -> NDArray[np.float32]:
    """A photo as the image graph reads it: the short side fills the input, the middle is cut out."""
    (height, width), mean, std = transform["size"], transform["mean"], transform["std"]
    with Image.open(path) as image:
        image.draft("RGB", (2 * width, 2 * height))
        photo = image.convert("RGB")
    factor = max(width / photo.width, height / photo.height)
    photo = photo.resize(
        (max(width, round(photo.width * factor)), max(height, round(photo.height * factor))),
        Image.Resampling.BICUBIC,
    )
    left, top = (photo.width - width) // 2, (photo.height - height) // 2
    cut = np.asarray(photo.crop((left, top, left + width, top + height)), np.float32) / 255
    return ((cut - np.float32(mean)) / np.float32(std)).transpose(2, 0, 1)[None]


def features_of(
    folder: Path, backbone: Path, manifest: dict[str, Any], threads: int
) -> tuple[NDArray[np.float32], NDArray[np.int64], list[str]]:
    """Unit features [N,E] of a folder's photos, their labels [N], and the classes."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(
        str(backbone / manifest["image_graph"]["file"]), options, providers=["CPUExecutionProvider"]
    )
    classes = sorted(path.name for path in folder.iterdir())
    paths = [path for name in classes for path in sorted((folder / name).iterdir())]
    rows = [
        session.run(["features"], {"pixels": pixels_of(path, manifest["image_transform"])})[0]
        for path in paths
    ]
    return np.concatenate(rows), np.array([classes.index(path.parent.name) for path in paths]), classes


def logistic(
    train: NDArray[np.float32], labels: NDArray[np.int64], test: NDArray[np.float32]
) -> tuple[NDArray[np.int64], int]:
    """Predictions [M], and bytes: weights and biases in float32."""
    from sklearn.linear_model import LogisticRegressionCV

    model = LogisticRegressionCV(Cs=_PENALTIES, cv=_FOLDS, max_iter=_ITERATIONS).fit(train, labels)
    return model.predict(test), 4 * (model.coef_.size + model.intercept_.size)


def tip_adapter(
    train: NDArray[np.float32],
    labels: NDArray[np.int64],
    test: NDArray[np.float32],
    backbone: Path,
    classes: list[str],
) -> tuple[NDArray[np.int64], int]:
    """Predictions [M], and bytes: the training photos' features in float32, and a label each."""
    from qprompt_edge.evaluation.zero_shot import class_features
    from qprompt_edge.reproduction.tip_adapter import tip_adapter as build
    from qprompt_runtime.backbone import Backbone
    from qprompt_runtime.prompt_file import ClassName

    opened = Backbone.load(backbone)
    words = class_features(opened, [ClassName.from_label(name) for name in classes])
    made = build(words, train, labels, opened.manifest.logit_scale)
    return made.logits(test).argmax(axis=1), train.nbytes + len(labels)


def main() -> None:
    """Fit and test once."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--method", choices=METHODS, required=True)
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--test", type=Path, required=True)
    parser.add_argument("--backbone", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    manifest = json.loads((options.backbone / "manifest.json").read_text(encoding="utf-8"))
    read = (options.backbone, manifest, options.threads)
    train, labels, classes = features_of(options.train, *read)
    test, truth, _ = features_of(options.test, *read)
    if options.method == "logistic":
        found, size = logistic(train, labels, test)
    else:
        found, size = tip_adapter(train, labels, test, options.backbone, classes)
    print(json.dumps({"top1": float((found == truth).mean()), "bytes": size, "photos": len(labels)}))


if __name__ == "__main__":
    main()
