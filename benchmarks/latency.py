"""How long one photo and one tuning step take, beside the same work in PyTorch.

    python -m benchmarks.latency [--backbone tiny --model tiny] [--classes 10] [--threads 1]

Needs the extra `export`. `--backbone` is the bundle that is measured, `--model` open_clip's name of the model that it was
exported from (random weights will do: time does not depend on them). A photo is one run of the image tower. A step is the
loss of 32 cached features against the classes, and its gradient at four shared context vectors; in PyTorch the text
tower runs at its full length, as CoOp runs it. Medians over `--repeats` runs, in milliseconds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from qprompt_exporters.models import load_source
from qprompt_exporters.parity import encode_text_with_context
from qprompt_runtime.backbone import Backbone

BATCH = 32
CONTEXT = "a photo of a"


def milliseconds(work: Callable[[], object], repeats: int) -> float:
    """Median time of `work`, after two runs that are not counted."""
    times = []
    for run in range(repeats + 2):
        started = time.perf_counter()
        work()
        if run >= 2:
            times.append(time.perf_counter() - started)
    return 1000 * statistics.median(times)


def measure(
    name: str, model_name: str, classes: int, threads: int, repeats: int
) -> dict[str, dict[str, float]]:
    """Times of our graphs and of PyTorch, and how many times ours fit into PyTorch's."""
    torch.set_num_threads(threads)
    backbone, source = Backbone.load(name, threads=threads), load_source(model_name)
    model: Any = source.model.requires_grad_(False)
    rng = np.random.default_rng(0)
    pixels = rng.normal(size=(1, 3, *backbone.manifest.image_transform.size)).astype(np.float32)
    names = [f"thing number {i}" for i in range(classes)]
    context = backbone.embed_text(CONTEXT)
    tokens = backbone.tokenize(names, ("", "."), len(context))
    images = rng.normal(size=(BATCH, backbone.manifest.embed_dim)).astype(np.float32)
    images /= np.linalg.norm(images, axis=1, keepdims=True)
    labels = np.arange(BATCH) % classes
    targets = np.eye(classes, dtype=np.float32)[labels] / np.float32(BATCH)
    scale = backbone.manifest.logit_scale
    ids = source.tokenizer([f"{CONTEXT} {n}." for n in names], int(model.context_length))
    leaf = torch.tensor(context, requires_grad=True)

    def torch_step() -> None:
        features = encode_text_with_context(model, ids, leaf)
        logits = scale * torch.from_numpy(images) @ features.T
        torch.autograd.grad(torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels)), leaf)

    def torch_photo() -> None:
        with torch.inference_mode():
            model.encode_image(torch.from_numpy(pixels))

    pairs: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
        "photo": (lambda: backbone.encode_images(pixels), torch_photo),
        "step": (
            lambda: backbone.loss_and_gradient(context[None], tokens, images, targets, scale),
            torch_step,
        ),
    }
    results = {}
    for what, (ours, theirs) in pairs.items():
        own, other = milliseconds(ours, repeats), milliseconds(theirs, repeats)
        results[what] = {"ours_ms": own, "torch_ms": other, "ratio": other / own}
    return results


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--backbone", default="tiny")
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=50)
    options = parser.parse_args()
    results = measure(options.backbone, options.model, options.classes, options.threads, options.repeats)
    for what, row in results.items():
        print(f"{what:6} {row['ours_ms']:8.2f} ms   PyTorch {row['torch_ms']:8.2f} ms   {row['ratio']:.1f} x")
    print(json.dumps(results))


if __name__ == "__main__":
    main()
