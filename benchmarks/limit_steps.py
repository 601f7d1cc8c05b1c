"""An image tower beside plain large products, on one core, in one process and in turn.

    python -m benchmarks.limit_steps --backbone small --precision int8 --repeats 5

Prints one JSON line: `multiply_adds` of one photo, in bytes (`int8`) and in floating point (`float`); seconds
of processor time of every run of the tower (`photo`) and of the products (`numpy`, `onnxruntime`, `bytes`).
The matrix library's threads are set from outside. Needs the package onnx.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import helper

from benchmarks.sgemm import byte_product, products
from qprompt_runtime.arrays import Array
from qprompt_runtime.backbone import Backbone
from qprompt_runtime.processor import chosen_graph

_PRODUCTS = ("Conv", "Gemm", "MatMul", "MatMulInteger")
_PHOTOS = 20
"""Photos of a round; there is one product of each kind."""


def multiply_adds(path: Path, pixels: Array) -> dict[str, int]:
    """Multiply-adds of convolutions and matrix products for some photos.

    Each number of a product's result takes as many as the numbers that are summed in it.

    Args:
        path: An image graph. It is run as it is written, which shows the shapes.
        pixels: float32 [N,3,H,W].

    Returns:
        `int8`: where both sides are bytes that were dequantized, or are multiplied as bytes; and `float`.
    """
    model = onnx.load(path)
    nodes = [node for node in model.graph.node if node.op_type in _PRODUCTS]
    shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer} | {
        "pixels": pixels.shape
    }
    asked = {name for node in nodes for name in (*node.input[:2], node.output[0])} - set(shapes)
    del model.graph.output[:]
    model.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in sorted(asked))
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    found = session.run(sorted(asked), {"pixels": pixels})
    shapes |= {name: array.shape for name, array in zip(sorted(asked), found, strict=True)}
    makers = {name: node.op_type for node in model.graph.node for name in node.output}
    total = {"int8": 0, "float": 0}
    for node in nodes:
        left, right = node.input[:2]
        summed = math.prod(shapes[right][1:]) if node.op_type == "Conv" else shapes[left][-1]
        dequantized = all(makers.get(name) == "DequantizeLinear" for name in (left, right))
        kind = "int8" if dequantized or node.op_type == "MatMulInteger" else "float"
        total[kind] += math.prod(shapes[node.output[0]]) * summed
    return total


def measure(backbone: Backbone, precision: str, repeats: int) -> dict[str, object]:
    """Count, and time in turn; see the module's text."""
    path = backbone.folder / chosen_graph(backbone.manifest, precision, backbone.provider).file
    shape = (1, 3, *backbone.manifest.image_transform.size)
    pixels = np.random.default_rng(0).standard_normal(shape, np.float32)
    parts: dict[str, Callable[[], object]] = {"photo": lambda: backbone.encode_images(pixels)}
    parts |= products(1)
    parts["bytes"] = byte_product()
    seconds: dict[str, list[float]] = {name: [] for name in parts}
    for _ in range(repeats):
        for name, work in parts.items():
            work()
            for _ in range(_PHOTOS if name == "photo" else 1):
                started = time.process_time()
                work()
                seconds[name].append(time.process_time() - started)
    return {"multiply_adds": multiply_adds(path, pixels), "seconds": seconds}


def main() -> None:
    """Measure one tower."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--backbone", default="small")
    parser.add_argument("--precision", default="auto", help="of the image tower, where there are two")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    backbone = Backbone.load(options.backbone, threads=1, precision=options.precision)
    print(json.dumps(measure(backbone, options.precision, options.repeats)))


if __name__ == "__main__":
    main()
