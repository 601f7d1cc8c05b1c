"""The image tower as an ONNX graph, in float32, float16 storage, or int8."""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic
from torch import nn

from qprompt_exporters.storage import IR_VERSION, OPSET
from qprompt_exporters.towers import ImageStem, ImageTower
from qprompt_runtime.errors import BundleError

_LEAST_INT8_SHARE = 0.5


def image_graph(model: nn.Module, size: tuple[int, int]) -> onnx.ModelProto:
    """Export the image tower: `pixels` [B,3,H,W] to unit `features` [B,E]; see `_trace`."""
    return _trace(ImageTower(_reparameterised(model)), size, "features")


def stem_graph(model: nn.Module, size: tuple[int, int]) -> onnx.ModelProto:
    """Export what stands before a ViT's transformer: `pixels` [B,3,H,W] to `tokens` [B,T,D]; see `_trace`."""
    return _trace(ImageStem(model), size, "tokens")


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
    """Quantize the matrix products: int8 weights with a scale a column, int8 activations with a scale a run.

    Weights use 7 bits, because x86 processors without VNNI saturate sums of 8-bit products; so every
    processor gives the same features. Activation scales span a run, so a run holds one image.

    Raises:
        BundleError: Less than half of the weights are in matrix products, as in convolutional towers.
    """
    sizes = {tensor.name: int(np.prod(tensor.dims)) for tensor in graph.graph.initializer}
    used = {
        name for node in graph.graph.node if node.op_type in ("MatMul", "Gemm") for name in node.input[1:2]
    }
    share = sum(sizes.get(name, 0) for name in used) / max(1, sum(sizes.values()))
    if share < _LEAST_INT8_SHARE:
        raise BundleError(
            f"int8 covers matrix products, which hold {share:.0%} of this image tower's weights; "
            "export it with --precision fp32 or fp16"
        )
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "fp32.onnx", Path(folder) / "int8.onnx"
        onnx.save(graph, source)
        quantize_dynamic(
            source,
            target,
            op_types_to_quantize=["MatMul", "Gemm"],
            per_channel=True,
            reduce_range=True,
            weight_type=QuantType.QInt8,
            extra_options={"MatMulConstBOnly": True},
        )
        return onnx.load(target)


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
