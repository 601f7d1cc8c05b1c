"""MobileNetV2 fine-tuned as Frigate does it, in a process of its own, with TensorFlow's Python.

    PYTHON_WITH_TENSORFLOW benchmarks/mobilenet.py --photos DIR [--threads 2] [--epochs 50]

Frigate (a recorder for cameras) trains its custom classifiers on the device: `frigate/util/classification.py`
in its repository, and https://docs.frigate.video/configuration/custom_classification/object_classification.
MobileNetV2 with 0.35 of the channels at 224 x 224 stays frozen; average pooling, 128 units with ReLU, dropout
of 0.3 and a softmax are trained: Adam at 0.001, batches of 16, 50 epochs, no augmentation. Photos are read
again in every epoch, and a fifth of each class is set apart and not used. Then the model becomes a TensorFlow
Lite file in int8, with up to 300 photos to calibrate it.

Here the frozen weights are random: time, memory and bytes do not depend on them, and accuracy is not
measured. Photos for the calibration are read with Pillow instead of OpenCV.

Prints one JSON line: `bytes` of the file, `photos` that were trained on, `installed_mb` of all packages of
the environment but pip, and TensorFlow's version.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SIZE, ALPHA, UNITS, DROPOUT = 224, 0.35, 128, 0.3
BATCH, EPOCHS, RATE, SET_APART = 16, 50, 0.001, 0.2
CALIBRATION = 300


def build(classes: int) -> Any:
    """The model, ready to be fitted."""
    from tensorflow.keras import applications, layers, models, optimizers

    base = applications.MobileNetV2(input_shape=(SIZE, SIZE, 3), include_top=False, weights=None, alpha=ALPHA)
    base.trainable = False
    head = [layers.GlobalAveragePooling2D(), layers.Dense(UNITS, activation="relu"), layers.Dropout(DROPOUT)]
    model = models.Sequential([base, *head, layers.Dense(classes, activation="softmax")])
    model.compile(optimizer=optimizers.Adam(learning_rate=RATE), loss="categorical_crossentropy")
    return model


def photos_of(folder: Path) -> Iterator[list[Any]]:
    """Photos as the converter is calibrated with them."""
    import numpy as np
    from PIL import Image

    for path in sorted(folder.glob("*/*"))[:CALIBRATION]:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB").resize((SIZE, SIZE)), np.float32)
        yield [pixels[None] / 255.0]


def converted(model: Any, folder: Path) -> bytes:
    """The TensorFlow Lite file, in int8."""
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: photos_of(folder)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.uint8
    return bytes(converter.convert())


def installed_mb() -> float:
    """All packages of this environment but pip and what comes with it."""
    found = [
        Path(str(one.locate_file(file)))
        for one in importlib.metadata.distributions()
        if one.name.lower() not in ("pip", "setuptools", "wheel")
        for file in one.files or []
    ]
    return sum(path.stat().st_size for path in found if path.is_file()) / 10**6


def main() -> None:
    """Train and convert once."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    options = parser.parse_args()
    import tensorflow as tf
    from tensorflow.keras.preprocessing.image import ImageDataGenerator

    tf.config.threading.set_intra_op_parallelism_threads(options.threads)
    tf.config.threading.set_inter_op_parallelism_threads(options.threads)
    photos = ImageDataGenerator(rescale=1 / 255, validation_split=SET_APART).flow_from_directory(
        options.photos,
        target_size=(SIZE, SIZE),
        batch_size=BATCH,
        class_mode="categorical",
        subset="training",
    )
    model = build(len(photos.class_indices))
    model.fit(photos, epochs=options.epochs, verbose=0)
    written = len(converted(model, options.photos))
    facts = {"installed_mb": installed_mb(), "tensorflow": tf.__version__}
    print(json.dumps({"bytes": written, "photos": photos.samples, **facts}))


if __name__ == "__main__":
    main()
