"""An int8 image graph beside one in floating point, over the same weights.

The graph holds scales and rounds the weights that the bundle has already, so each large array is stored once.
onnxruntime rounds them when it opens the graph, not in every run. `docs/decisions.md` says what this costs.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from qprompt_exporters.image_graph import rounded_to_fp16, to_fp16_storage
from qprompt_exporters.static_int8 import to_static_int8
from qprompt_runtime.arrays import Array


def shared_int8(exact: onnx.ModelProto, pixels: Array, precision: str) -> onnx.ModelProto:
    """Quantize a graph that is stored as `fp32` or `fp16`.

    Args:
        exact: An image graph in float32.
        pixels: float32 [N,3,H,W], the photos that fix the scales.
        precision: How the bundle stores it.

    Raises:
        BundleError: The tower is no convolutional one.
    """
    if precision == "fp32":
        return from_stored(to_static_int8(exact, pixels), exact)
    kept = rounded_to_fp16(exact)
    return to_fp16_storage(from_stored(to_static_int8(kept, pixels), kept))


def from_stored(quantized: onnx.ModelProto, stored: onnx.ModelProto) -> onnx.ModelProto:
    """Have an int8 graph round the weights of the graph that it was made from, wherever that gives its codes.

    Codes that are rounded otherwise (of depthwise kernels) stay as they are.

    Args:
        quantized: As `to_static_int8` made it.
        stored: The graph in float32 that it was made from.
    """
    result = onnx.ModelProto()
    result.CopyFrom(quantized)
    exact = {tensor.name: tensor for tensor in stored.graph.initializer}
    held = {tensor.name: tensor for tensor in result.graph.initializer}
    nodes: list[onnx.NodeProto] = []
    for node in result.graph.node:
        rounded = _rounding(node, held, exact) if node.op_type == "DequantizeLinear" else None
        if rounded is not None:
            held[node.input[0]].CopyFrom(exact[rounded.input[0]])
            nodes.append(rounded)
        nodes.append(node)
    del result.graph.node[:]
    result.graph.node.extend(nodes)
    return result


def _rounding(
    node: onnx.NodeProto, held: Mapping[str, onnx.TensorProto], exact: Mapping[str, onnx.TensorProto]
) -> onnx.NodeProto | None:
    """What rounds exact weights to the codes that a DequantizeLinear reads; None if rounding gives others."""
    codes, scale, zero = node.input
    source = codes.removesuffix("_quantized")
    if codes not in held or held[codes].data_type != TensorProto.INT8 or source not in exact:
        return None
    weights, scales = numpy_helper.to_array(exact[source]), numpy_helper.to_array(held[scale])
    axis = next((entry.i for entry in node.attribute if entry.name == "axis"), 1)
    steps = scales.reshape([-1 if place == axis else 1 for place in range(weights.ndim)])
    if not np.array_equal(np.rint(weights / steps), numpy_helper.to_array(held[codes])):
        return None
    return helper.make_node("QuantizeLinear", [source, scale, zero], [codes], axis=axis)
