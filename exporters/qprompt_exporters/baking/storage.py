"""How a tower's weights are stored in a baked file: float32, float16, or int8 with a scale a channel.

This is storage alone. The graph widens them, and onnxruntime does so once, when it opens the file.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

TOWER = "tower_"
PRECISIONS = ("fp32", "fp16", "int8")
_LEAST_INT8 = 32_768
"""Smaller arrays stay float16: early and depthwise kernels, which are few numbers and do most of the harm."""


def store(graph: onnx.GraphProto, precision: str) -> None:
    """Store the matrices and kernels of a tower in another precision; vectors stay float32.

    Args:
        graph: A graph with the tower in it, all of whose arrays are called `tower_...`.
        precision: One of `PRECISIONS`.
    """
    _widen(graph)
    before: list[onnx.NodeProto] = []
    channels = dict(_channels(graph))
    for tensor in list(graph.initializer):
        if tensor.data_type != TensorProto.FLOAT or len(tensor.dims) < 2 or not tensor.name.startswith(TOWER):
            continue
        name, values = tensor.name, numpy_helper.to_array(tensor)
        if precision == "int8" and name in channels and values.size >= _LEAST_INT8:
            codes, scales = quantized(values, channels[name])
            tensor.CopyFrom(numpy_helper.from_array(codes, f"{name}_int8"))
            graph.initializer.append(numpy_helper.from_array(scales, f"{name}_scale"))
            wide = f"{name}_codes"
            before.append(helper.make_node("Cast", [f"{name}_int8"], [wide], to=TensorProto.FLOAT))
            before.append(helper.make_node("Mul", [wide, f"{name}_scale"], [name]))
        elif precision != "fp32":
            tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}_half"))
            before.append(helper.make_node("Cast", [f"{name}_half"], [name], to=TensorProto.FLOAT))
    nodes = [*before, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


def quantized(values: NDArray[np.float32], axis: int) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Symmetric int8 with a scale for each place along an axis: `values` is close to codes * scales."""
    others = tuple(i for i in range(values.ndim) if i != axis)
    scales = np.maximum(np.abs(values).max(axis=others, keepdims=True), 1e-12).astype(np.float32)
    scales /= np.float32(127)
    return np.rint(values / scales).astype(np.int8), scales


def _widen(graph: onnx.GraphProto) -> None:
    """Turn float16 constants that the graph widens into float32 constants."""
    halves = {t.name: t for t in graph.initializer if t.data_type == TensorProto.FLOAT16}
    casts = {n.input[0]: n.output[0] for n in graph.node if n.op_type == "Cast" and n.input[0] in halves}
    kept = [node for node in graph.node if not (node.op_type == "Cast" and node.input[0] in halves)]
    for name, wide in casts.items():
        values = numpy_helper.to_array(halves[name]).astype(np.float32)
        halves[name].CopyFrom(numpy_helper.from_array(values, wide))
    del graph.node[:]
    graph.node.extend(kept)


def _channels(graph: onnx.GraphProto) -> Iterator[tuple[str, int]]:
    """The weights of convolutions and matrix products, each with the axis of its outputs."""
    ranks = {tensor.name: len(tensor.dims) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type in ("Conv", "MatMul", "Gemm") and ranks.get(node.input[1], 0) >= 2:
            turned = any(entry.name == "transB" and entry.i for entry in node.attribute)
            yield node.input[1], 0 if node.op_type == "Conv" or turned else ranks[node.input[1]] - 1
