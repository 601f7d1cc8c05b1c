"""The image tower as an ONNX graph, in float32, float16 storage, or int8."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, compose, helper, numpy_helper
from torch import nn

from qprompt_exporters.storage import IR_VERSION, OPSET, Weights
from qprompt_exporters.token_merging import merged_vit_graph
from qprompt_exporters.towers import ImageStem, ImageTower, beyond_plain_vit, read_image_transformer
from qprompt_exporters.vit_graph import vit_graph
from qprompt_runtime.errors import BundleError

_LEAST_INT8_SHARE = 0.5


def image_graph(model: nn.Module, size: tuple[int, int], merged_tokens: int = 0) -> onnx.ModelProto:
    """Export the image tower: `pixels` [B,3,H,W] to unit `features` [B,E].

    The blocks of a plain ViT are written out, which runs faster than what torch traces; every other tower is
    traced.

    Args:
        model: An open_clip model in evaluation mode.
        size: Height and width of a photo.
        merged_tokens: Tokens that each block of a plain ViT merges; 0 for every other tower.
    """
    if not merged_tokens and beyond_plain_vit(model):
        return _trace(ImageTower(_reparameterised(model)), size, "features")
    tower = read_image_transformer(model)
    weights = Weights(tower.weights)
    written = merged_vit_graph(tower, weights, merged_tokens) if merged_tokens else vit_graph(tower, weights)
    return with_stem(stem_graph(model, size), weights.build(*written))


def stem_graph(model: nn.Module, size: tuple[int, int]) -> onnx.ModelProto:
    """Export what stands before a ViT's transformer: `pixels` [B,3,H,W] to `tokens` [B,T,D]; see `_trace`."""
    return _trace(ImageStem(model), size, "tokens")


def with_stem(stem: onnx.ModelProto, blocks: onnx.ModelProto) -> onnx.ModelProto:
    """Feed the output `tokens` of a traced stem to the input of the same name."""
    merged: onnx.ModelProto = compose.merge_models(stem, blocks, io_map=[("tokens", "tokens")])
    (features,) = (value for value in merged.graph.output if value.name == "features")
    features.type.tensor_type.shape.dim[0].dim_param = "B"  # reshapes hide it from shape inference
    return merged


def _trace(tower: nn.Module, size: tuple[int, int], output: str) -> onnx.ModelProto:
    """Export a module with one input, `pixels`, and one output.

    Args:
        tower: The module.
        size: Height and width of its input.
        output: The output's name.

    Returns:
        The graph in float32, with B free.
    """
    tower.eval()
    example = torch.zeros(2, 3, *size)
    with torch.no_grad(), tempfile.TemporaryDirectory() as folder:
        program = torch.onnx.export(
            tower,
            (example,),
            input_names=["pixels"],
            output_names=[output],
            opset_version=OPSET,
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim("B", min=1)},),
            verbose=False,
        )
        path = Path(folder) / "image.onnx"
        program.save(str(path), external_data=False)
        graph = onnx.load(path)
    graph.ir_version = IR_VERSION
    del graph.metadata_props[:]
    del graph.graph.value_info[:]  # the tracer's shapes, which can contradict the optimised graph
    for node in graph.graph.node:  # traces of the exporting machine's source paths
        del node.metadata_props[:]
        node.doc_string = ""
    return graph


def _reparameterised(model: nn.Module) -> nn.Module:
    """Fold train-time branches (FastViT, RepVGG) into single convolutions, where the tower has any."""
    if any(hasattr(module, "reparameterize") for module in model.modules()):
        from timm.utils import reparameterize_model

        return reparameterize_model(copy.deepcopy(model))
    return model


def to_int8(graph: onnx.ModelProto) -> onnx.ModelProto:
    """Quantize every matrix product but the last.

    Weights get a scale a column, activations a scale a run.

    The last product makes the features themselves, and nothing behind it averages its rounding out: in the
    embedded backbone it made more noise than all others together. It stays in float32, which costs no
    time, as it multiplies one row an image. `_integer_columns` says how the others' weights are rounded.
    Their activation scales span a run, so a run holds one image.

    Raises:
        BundleError: Less than half of the weights are in matrix products, as in convolutional towers.
    """
    result = onnx.ModelProto()
    result.CopyFrom(graph)
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in result.graph.initializer}
    products = [node for node in result.graph.node if _has_constant_matrix(node, arrays)]
    _check_int8_share(products, arrays)
    quantized = {node.output[0] for node in products[:-1]}
    nodes: list[onnx.NodeProto] = []
    done: set[str] = set()  # arrays and activations that the graph has as integers by now
    for node in result.graph.node:
        if node.output[0] not in quantized:
            nodes.append(node)
            continue
        source, matrix = node.input[:2]
        if source not in done:
            names = [f"{source}.int8", f"{source}.scale", f"{source}.zero"]
            nodes.append(helper.make_node("DynamicQuantizeLinear", [source], names))
        if matrix not in done:
            turned = any(entry.name == "transB" and entry.i for entry in node.attribute)
            codes, scales = _integer_columns(arrays[matrix].T if turned else arrays[matrix])
            result.graph.initializer.append(numpy_helper.from_array(codes, f"{matrix}.int8"))
            result.graph.initializer.append(numpy_helper.from_array(scales, f"{matrix}.scale"))
        done |= {source, matrix}
        nodes += _integer_product(node)
    del result.graph.node[:]
    result.graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input}
    kept = [tensor for tensor in result.graph.initializer if tensor.name in used]
    del result.graph.initializer[:]
    result.graph.initializer.extend(kept)
    return result


def _has_constant_matrix(node: onnx.NodeProto, arrays: Mapping[str, NDArray[Any]]) -> bool:
    """Whether a node multiplies by a matrix that is an initializer."""
    return node.op_type in ("MatMul", "Gemm") and node.input[1] in arrays and arrays[node.input[1]].ndim == 2


def _check_int8_share(products: list[onnx.NodeProto], arrays: Mapping[str, NDArray[Any]]) -> None:
    """Refuse a tower that int8 would not make much smaller."""
    covered = {node.input[1] for node in products}
    share = sum(arrays[name].size for name in covered) / max(1, sum(array.size for array in arrays.values()))
    if share < _LEAST_INT8_SHARE:
        raise BundleError(
            f"matrix products hold {share:.0%} of this image tower's weights; int8 of its convolutions needs "
            "photos that fix its scales: give --quantize-with FOLDER, or --precision fp32 or fp16"
        )


def _integer_columns(matrix: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Symmetric int8 with a scale a column: matrix [K,N] is close to codes [K,N] * scales [N].

    x86 processors without VNNI multiply 8-bit numbers (activations up to 255) two rows at a time, and
    saturate the sum of the two beyond 32767. So the codes a and b in rows 2i and 2i + 1 of a column keep |a|
    + |b| <= 128, and the products are exact on every processor. Large weights seldom stand in pairs: the
    scale is finer by about a third than one that bounds each code by 64.
    """
    sizes = np.abs(matrix)
    pairs = sizes[0::2].copy()
    pairs[: len(sizes) // 2] += sizes[1::2]
    # 127 before rounding, which adds at most a half to each of the two
    scales = np.maximum(pairs.max(axis=0), 1e-12).astype(np.float32) / np.float32(127)
    return np.rint(matrix / scales).astype(np.int8), scales


def _integer_product(node: onnx.NodeProto) -> list[onnx.NodeProto]:
    """A MatMul's or Gemm's product in integers, scaled back to what it was; onnxruntime fuses these nodes."""
    (source, matrix), bias, output = node.input[:2], node.input[2:], node.output[0]
    product = f"{output}.product" if bias else output
    nodes = [
        helper.make_node(
            "MatMulInteger", [f"{source}.int8", f"{matrix}.int8", f"{source}.zero"], [f"{output}.int32"]
        ),
        helper.make_node("Cast", [f"{output}.int32"], [f"{output}.float"], to=TensorProto.FLOAT),
        helper.make_node("Mul", [f"{source}.scale", f"{matrix}.scale"], [f"{output}.step"]),
        helper.make_node("Mul", [f"{output}.float", f"{output}.step"], [product]),
    ]
    return [*nodes, helper.make_node("Add", [product, *bias], [output])] if bias else nodes


def rounded_to_fp16(graph: onnx.ModelProto) -> onnx.ModelProto:
    """The graph in float32 with the numbers that `to_fp16_storage` would leave it."""
    result = onnx.ModelProto()
    result.CopyFrom(graph)
    for tensor in result.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT and len(tensor.dims) >= 2:
            halves = numpy_helper.to_array(tensor).astype(np.float16)
            tensor.CopyFrom(numpy_helper.from_array(halves.astype(np.float32), tensor.name))
    return result


def to_fp16_storage(graph: onnx.ModelProto) -> onnx.ModelProto:
    """Store matrices and kernels as float16 and widen them in the graph; vectors stay float32."""
    result = onnx.ModelProto()
    result.CopyFrom(graph)
    casts = []
    for tensor in result.graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or len(tensor.dims) < 2:
            continue
        name, values = tensor.name, numpy_helper.to_array(tensor)
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}.half"))
        casts.append(helper.make_node("Cast", [f"{name}.half"], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *result.graph.node]
    del result.graph.node[:]
    result.graph.node.extend(nodes)
    return result
