"""What our side does, timed part by part in a process of its own, without PyTorch.

    python -m benchmarks.our_steps --backbone DIR --names cat,dog --threads 2 --repeats 20

Classes are given by `--names`, or made up by `--classes` and `--tokens` (their token counts, repeated).
Parts:

    text      loss and gradient of one batch at four shared context vectors
    trainer   a whole step as `adapt --method qcoop` trains by default, with quantizer and optimizer, in
              batches of `--batch`
    classes   features of all classes, as `predict` computes them once
    photos    one photo through the image tower
    sgemm     a plain product of two 2048 x 2048 float32 matrices, by numpy and by onnxruntime

Prints one JSON line: seconds of every run by part (`--warm-up` runs before them are not counted), `rows`
(tokens of each class behind the context, end token included), and facts of the tower; `--parts photos` alone
leaves the text tower closed and prints seconds only.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.class_names import made_names
from benchmarks.sgemm import products
from qprompt_edge.data.features import Examples
from qprompt_edge.tuning.config import resolve_learning_rate
from qprompt_edge.tuning.methods import default_training, make_tuning
from qprompt_edge.tuning.trainer import start, train
from qprompt_runtime.backbone import Backbone
from qprompt_runtime.prompt_file import ClassName
from qprompt_runtime.tokenizer import ClassTokens

PARTS = ("text", "trainer", "classes", "photos", "sgemm")
CONTEXT = "a photo of a"
TEMPLATE = ("", ".")
_SHOTS = 16


def seconds_of(work: Callable[[], object], repeats: int, warm_up: int) -> list[float]:
    """Seconds of each of `repeats` runs, after some that are not counted."""
    seconds = []
    for _ in range(warm_up + repeats):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return seconds[warm_up:]


def unit_rows(count: int, width: int) -> NDArray[np.float32]:
    """Random float32 [count,width] with rows of length 1, the same at every call."""
    rows = np.random.default_rng(0).standard_normal((count, width), np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


def text_step(
    backbone: Backbone, context: NDArray[np.float32], tokens: ClassTokens, batch: int
) -> Callable[[], object]:
    """Loss and gradient of a batch of random features."""
    count = len(tokens.ends)
    images = unit_rows(batch, backbone.manifest.embed_dim)
    targets = np.zeros((batch, count), np.float32)
    targets[np.arange(batch), np.arange(batch) % count] = 1 / batch
    scale = backbone.manifest.logit_scale
    return lambda: backbone.loss_and_gradient(context, tokens, images, targets, scale)


def trainer_steps(
    backbone: Backbone, names: Sequence[str], batch: int, repeats: int, warm_up: int
) -> list[float]:
    """Seconds of whole training steps, on random features of 16 photos a class."""
    labels = np.repeat(np.arange(len(names)), _SHOTS)
    features = unit_rows(len(labels), backbone.manifest.embed_dim)[:, None]
    wanted = warm_up + repeats
    config = default_training("qcoop", batch_size=batch, epochs=wanted)
    classes = tuple(map(ClassName.from_label, names))
    tuning = make_tuning("qcoop", backbone, Examples(classes, (), labels, features))
    leading = {tuning.leading: tuning.weights[tuning.leading]}
    config = resolve_learning_rate(config, leading, backbone.manifest.logit_scale)
    state = start(tuning.weights, config, tuning.reparameterization)
    steps = train(state, tuning.objective, labels, config, tuning.reparameterization)
    seconds, last = [], time.perf_counter()
    for _ in itertools.islice(steps, wanted):
        now = time.perf_counter()
        seconds.append(now - last)
        last = now
    return seconds[warm_up:]


def photo_seconds(backbone: Backbone, repeats: int, warm_up: int) -> list[float]:
    """Seconds that the image tower takes for one photo of noise."""
    shape = (1, 3, *backbone.manifest.image_transform.size)
    pixels = np.random.default_rng(0).standard_normal(shape, np.float32)
    return seconds_of(lambda: backbone.encode_images(pixels), repeats, warm_up)


@dataclass(frozen=True)
class Work:
    """What is timed, and how often.

    Attributes:
        parts: Some of `PARTS`.
        batch: Photos in a batch.
        threads: Of each operator.
        repeats: Runs that count.
        warm_up: Runs before them that don't.
    """

    parts: tuple[str, ...]
    batch: int
    threads: int
    repeats: int
    warm_up: int


def measure(backbone: Backbone, names: Sequence[str], work: Work) -> dict[str, Any]:
    """Time some parts; see the module's text."""
    layout = backbone.manifest.text
    often = (work.repeats, work.warm_up)
    seconds: dict[str, Any] = {}
    if work.parts == ("photos",):  # by itself, so that its memory is not the text tower's
        return {"seconds": {"photos": photo_seconds(backbone, *often)}}
    context = backbone.embed_text(CONTEXT)[None]
    tokens = backbone.tokenize(names, TEMPLATE, context.shape[1])
    if "text" in work.parts:
        seconds["text"] = seconds_of(text_step(backbone, context, tokens, work.batch), *often)
    if "trainer" in work.parts:
        seconds["trainer"] = trainer_steps(backbone, names, work.batch, *often)
    if "classes" in work.parts:
        seconds["classes"] = seconds_of(lambda: backbone.encode_classes(context, tokens), *often)
    if "photos" in work.parts:
        seconds["photos"] = photo_seconds(backbone, *often)
    if "sgemm" in work.parts:
        for name, product in products(work.threads).items():
            seconds[f"sgemm {name}"] = seconds_of(product, *often)
    return {
        "seconds": seconds,
        "rows": [int(end) + 1 for end in tokens.ends],
        "context": int(context.shape[1]),
        "width": layout.width,
        "layers": layout.layers,
        "embed": backbone.manifest.embed_dim,
        "causal": layout.causal,
        "batch": work.batch,
        "classes": len(names),
    }


def main() -> None:
    """Run some parts from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--backbone", default="small")
    parser.add_argument("--names", help="class names, separated by commas")
    parser.add_argument("--classes", type=int, default=10, help="how many to make up without --names")
    parser.add_argument("--tokens", default="1", help="token counts of made-up names, such as 1,1,2")
    parser.add_argument("--parts", default="text,trainer", help=f"some of {','.join(PARTS)}")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--warm-up", type=int, default=2)
    options = parser.parse_args()
    parts = tuple(options.parts.split(","))
    if not set(parts) <= set(PARTS):
        parser.error(f"--parts {options.parts}: expected some of {','.join(PARTS)}")
    backbone = Backbone.load(options.backbone, threads=options.threads)
    if options.names:
        names = tuple(name.strip() for name in options.names.split(","))
    else:
        lengths = [int(length) for length in options.tokens.split(",")]
        names = made_names(backbone.folder / "tokenizer.json", lengths, options.classes)
    work = Work(parts, options.batch, options.threads, options.repeats, options.warm_up)
    print(json.dumps(measure(backbone, names, work)))


if __name__ == "__main__":
    main()
