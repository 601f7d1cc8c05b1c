"""Convolutional image towers in int8, with scales that photos fix when the bundle is written.

Each output channel of a weight has a scale, and each activation has one, from its usual range on the photos.
No scale depends on the photo that is encoded, so a photo's features do not depend on its batch.
onnxruntime's quantizer writes the graph: QuantizeLinear and DequantizeLinear around each operator, which
runtimes fuse into products of bytes. How weights are rounded is decided here, see `_rounded`.

Rounding weights moves the mean of every output channel, and the shifts of many layers add up. They follow
from the mean of each input channel on the photos, and biases take them back (Nagel et al. 2019, Data-Free
Quantization Through Weight Equalization and Bias Correction, section 4.2). In the embedded backbone `small`
this takes away nearly half of the noise.

Beside a graph in floating point, the codes need no place of their own: see `shared_int8`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.quant_utils import add_pre_process_metadata

from qprompt_exporters.storage import IR_VERSION, OPSET
from qprompt_runtime.arrays import Array
from qprompt_runtime.errors import BundleError

IN_FLOAT = 3
"""Convolutions at the input that stay in floating point: a stem, in most towers.

They multiply little on many pixels, so bytes do not make them faster. In `small` their rounding made most of
the noise in blurred photos, whose flat areas show every step.
"""
_BEYOND = 5e-5  # of an activation's values, so many are beyond either end of the range: 1 in 20,000
_SAMPLE = 8192  # values of a photo that are looked at for that, evenly spaced
_BOUNDS = ("Relu", "Clip")
_MOST = 127
_ZERO = np.float32(0)  # every range holds it: zeros are what padding adds
_LEAST_SCALE = 1e-5  # of the tensor's largest; below, a bias in these steps would not fit 32 bits

Floats = NDArray[np.float32]


class _Photos(CalibrationDataReader):
    """The calibration photos, one a run."""

    def __init__(self, pixels: Array) -> None:
        self._runs: Iterator[dict[str, Array]] = iter([{"pixels": photo[None]} for photo in pixels])

    def get_next(self) -> dict[str, Array] | None:
        """The next photo; None behind the last."""
        return next(self._runs, None)


def to_static_int8(graph: onnx.ModelProto, pixels: Array, in_float: int = IN_FLOAT) -> onnx.ModelProto:
    """Quantize convolutions but the first, and matrix products but the last.

    Args:
        graph: An image graph in float32.
        pixels: float32 [N,3,H,W], the photos that fix the scales of activations.
        in_float: Convolutions at the input that stay as they are.

    Returns:
        The graph with operators of the standard domain only.

    Raises:
        BundleError: The tower is no convolutional one.
    """
    if len(list(_convolutions(graph))) < 2:
        raise BundleError(
            "this image tower has no convolutions but the one that cuts patches, and int8 of its matrix "
            "products takes its scales from each photo; leave --quantize-with out"
        )
    model = onnx.ModelProto()
    model.CopyFrom(graph)
    del model.opset_import[:]  # a graph of two parts names its opset twice, which the quantizer refuses
    model.opset_import.append(helper.make_opsetid("", OPSET))
    add_pre_process_metadata(model)  # or the quantizer advises to prepare the graph, which the export did
    linear = _linear(model)[in_float:]
    bounds = _bounds(model, linear)
    means, ranges = _measured(model, pixels, _quantized_names(linear, bounds))
    scales = _round_weights(model, linear) | ranges
    _correct_biases(model, graph, means)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "int8.onnx"
        quantize_static(
            model,
            path,
            _Photos(pixels),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            nodes_to_quantize=[node.name for node in (*linear, *bounds)],
            extra_options={
                "MatMulConstBOnly": True,
                "OpTypesToExcludeOutputQuantization": ["MatMul", "Gemm"],
                "TensorQuantOverrides": scales,
                "QDQDisableWeightAdjustForInt32Bias": True,
            },
        )
        result = onnx.load(path)
    result.ir_version = IR_VERSION
    del result.metadata_props[:]
    del result.graph.value_info[:]
    return result


def _linear(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """Convolutions and matrix products that become integers.

    The last product makes the features themselves, and nothing behind it averages its rounding out.
    """
    sides = {tensor.name: len(tensor.dims) for tensor in model.graph.initializer}
    found = [
        node
        for node in model.graph.node
        if (node.op_type == "Conv" and node.input[1] in sides)
        or (node.op_type in ("Gemm", "MatMul") and sides.get(node.input[1]) == 2)
    ]
    return found if found[-1].op_type == "Conv" else found[:-1]


def _bounds(model: onnx.ModelProto, linear: list[onnx.NodeProto]) -> list[onnx.NodeProto]:
    """Activations whose place the integers' own bounds take."""
    before = {node.output[0] for node in linear}
    return [node for node in model.graph.node if node.op_type in _BOUNDS and node.input[0] in before]


def _convolutions(model: onnx.ModelProto) -> Iterator[tuple[onnx.NodeProto, Floats]]:
    """Convolutions with their weights [M,C,kh,kw]."""
    arrays = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Conv" and node.input[1] in arrays:
            yield node, numpy_helper.to_array(arrays[node.input[1]])


def _quantized_names(linear: list[onnx.NodeProto], bounds: list[onnx.NodeProto]) -> set[str]:
    """The activations that become integers: what these nodes read, and what convolutions give."""
    bounded = {node.input[0] for node in bounds}
    given = {node.output[0] for node in linear if node.op_type == "Conv"} - bounded
    return {node.input[0] for node in linear} | {node.output[0] for node in bounds} | given


def _measured(
    model: onnx.ModelProto, pixels: Array, names: set[str]
) -> tuple[dict[str, Floats], dict[str, list[dict[str, Any]]]]:
    """What photos show of a graph's activations.

    A range leaves `_BEYOND` of the values out at either end: single values are far beyond all others, and a
    range with them in it would make every step twice as coarse.

    Returns:
        The mean of each channel [C] of what convolutions read, over photos and places, by name; and the
        ranges of the activations in `names`, as the quantizer reads them.
    """
    read = sorted({node.input[0] for node, _ in _convolutions(model)})
    wanted = sorted({*read, *names} - {"pixels"})
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    del probe.graph.output[:]
    probe.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in wanted)
    session = onnxruntime.InferenceSession(probe.SerializeToString(), providers=["CPUExecutionProvider"])
    means: dict[str, list[Floats]] = {name: [] for name in read}
    seen: dict[str, list[Floats]] = {name: [] for name in sorted(names)}
    for photo in pixels:
        found = {"pixels": photo[None]} | dict(
            zip(wanted, session.run(wanted, {"pixels": photo[None]}), strict=True)
        )
        for name, kept in means.items():
            kept.append(found[name].mean(axis=(0, 2, 3)))
        for name, kept in seen.items():
            values = found[name].ravel()
            kept.append(values[:: max(1, len(values) // _SAMPLE)].copy())
    ends = (_BEYOND, 1 - _BEYOND)
    ranges = {name: np.quantile(np.concatenate(kept), ends).astype(np.float32) for name, kept in seen.items()}
    return {name: np.mean(kept, axis=0) for name, kept in means.items()}, {
        name: [{"quant_type": QuantType.QUInt8, "rmin": min(low, _ZERO), "rmax": max(high, _ZERO)}]
        for name, (low, high) in ranges.items()
    }


def _correct_biases(model: onnx.ModelProto, graph: onnx.ModelProto, means: dict[str, Floats]) -> None:
    """Add to each convolution's bias, in place, what rounding its weights took from its mean output.

    Args:
        model: With rounded weights.
        graph: With exact ones.
        means: As `_measured` returns them.
    """
    exact = {node.name: weights for node, weights in _convolutions(graph)}
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    for node, rounded in _convolutions(model):
        lost = (exact[node.name] - rounded).sum(axis=(2, 3))  # [M,C]; each kernel as a sum
        mean = means[node.input[0]].reshape(-1, lost.shape[1])  # a group of input channels a row
        shift = (lost * np.repeat(mean, len(lost) // len(mean), axis=0)).sum(axis=1)
        if len(node.input) == 2:
            node.input.append(f"{node.output[0]}.bias")
        else:
            shift = shift + numpy_helper.to_array(tensors[node.input[2]])
            node.input[2] = f"{node.output[0]}.bias"  # of its own, where several convolutions share one
        model.graph.initializer.append(numpy_helper.from_array(shift.astype(np.float32), node.input[2]))
    used = {name for node in model.graph.node for name in node.input}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)


def _round_weights(model: onnx.ModelProto, linear: list[onnx.NodeProto]) -> dict[str, list[dict[str, Any]]]:
    """Round the weights of some nodes in place, and say by which scales, as the quantizer reads it."""
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    found: dict[str, list[dict[str, Any]]] = {}
    for node in linear:
        tensor = tensors[node.input[1]]
        if tensor.name in found:  # of two nodes
            continue
        turned = any(entry.name == "transB" and entry.i for entry in node.attribute)
        across = node.op_type != "Conv" and not turned  # [K,N]: an output channel is a column
        weights = numpy_helper.to_array(tensor)
        rounded, scales = _rounded(weights.T if across else weights)
        stored = np.ascontiguousarray(rounded.T if across else rounded)
        tensor.CopyFrom(numpy_helper.from_array(stored, tensor.name))
        found[tensor.name] = [
            {"axis": int(across), "quant_type": QuantType.QInt8, "scale": scale, "zero_point": np.int8(0)}
            for scale in scales
        ]
    return found


def _rounded(weights: Floats) -> tuple[Floats, Floats]:
    """Weights as multiples of a scale for each output channel.

    x86 processors without VNNI multiply bytes two at a time, and saturate the sum of the two beyond 32767. So
    the codes a and b that such a pair may hold keep |a| + |b| <= 128: neighbours in the order of kernel rows,
    kernel columns, input channels, in which onnxruntime multiplies. Then every processor computes the same
    integers, and the scale is finer than one that bounds each code by 64.

    Depthwise kernels are multiplied one by one, and need no such bound. But they are few numbers that may
    nearly cancel out, as in a filter for edges: rounded each for itself, they no longer do, and every flat
    area of a photo shows a false edge. So their codes are rounded to the sum of the exact ones.

    Args:
        weights: [M,K], or of a convolution [M,C,kh,kw]; M output channels.

    Returns:
        Of the same shape, and the scales [M].
    """
    rows = np.moveaxis(weights, 1, -1).reshape(len(weights), -1)
    depthwise = weights.ndim == 4 and weights.shape[1] == 1
    sizes = np.abs(rows)
    if depthwise:
        reach = sizes.max(axis=1)
    else:
        sizes = np.pad(sizes, ((0, 0), (0, sizes.shape[1] % 2)))
        reach = (sizes[:, 0::2] + sizes[:, 1::2]).max(axis=1)
    scales = (np.maximum(reach, max(_LEAST_SCALE * reach.max(), 1e-12)) / _MOST).astype(np.float32)
    exact = rows / scales[:, None]
    codes = np.stack([_sum_kept(row) for row in exact]) if depthwise else np.rint(exact)
    shape = (len(weights), *weights.shape[2:], weights.shape[1])
    rounded = np.moveaxis((codes * scales[:, None]).astype(np.float32).reshape(shape), -1, 1)
    return np.ascontiguousarray(rounded), scales


def _sum_kept(exact: Floats) -> Floats:
    """Whole numbers near some numbers [K], whose sum is that of the numbers, rounded.

    Largest remainders: of the numbers rounded down, those that lost most are raised by one.
    """
    codes = np.floor(exact)
    missing = round(float(exact.sum() - codes.sum()))
    codes[np.argsort(codes - exact, kind="stable")[:missing]] += 1
    return np.clip(codes, -_MOST, _MOST)
