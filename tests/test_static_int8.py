"""int8 of convolutional image towers: scales from photos, the same on every processor and in every batch."""

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("spox")

import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from qprompt_exporters.shared_int8 import from_stored, shared_int8
from qprompt_exporters.static_int8 import IN_FLOAT, to_static_int8
from qprompt_runtime.errors import BundleError

pytestmark = pytest.mark.export

SIDE = 16
RNG = np.random.default_rng


def weights(seed: int, *shape: int) -> np.ndarray:
    return (RNG(seed).standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)


def tower() -> onnx.ModelProto:
    """Layers of every kind: strided, pointwise, depthwise, with and without bias, a residual."""
    arrays = {
        "stem": weights(1, 12, 3, 3, 3), "stem.bias": weights(2, 12),
        "depthwise": weights(3, 12, 1, 5, 5), "point": weights(4, 12, 12, 1, 1), "point.bias": weights(5, 12),
        "turned": weights(6, 24, 12), "matrix": weights(7, 24, 16), "last": weights(8, 16, 8),
        "zero": np.float32(0), "six": np.float32(6), "axes": np.array([2, 3]), "one": np.array([1]),
        "none": np.float32(1e-9),
    }  # fmt: skip
    nodes = [
        ("Conv", ["pixels", "stem", "stem.bias"], {"strides": [2, 2], "pads": [1, 1, 1, 1]}),
        ("Clip", ["0", "zero", "six"], {}),
        ("Conv", ["1", "depthwise"], {"group": 12, "pads": [2, 2, 2, 2]}),
        ("Relu", ["2"], {}),
        ("Conv", ["3", "point", "point.bias"], {}),
        ("Add", ["4", "1"], {}),
        ("ReduceMean", ["5", "axes"], {"keepdims": 0}),
        ("Gemm", ["6", "turned"], {"transB": 1}),
        ("Relu", ["7"], {}),
        ("MatMul", ["8", "matrix"], {}),
        ("MatMul", ["9", "last"], {}),
        ("ReduceL2", ["10", "one"], {}),
        ("Max", ["11", "none"], {}),
        ("Div", ["10", "12"], {}),
    ]
    made = [
        helper.make_node(kind, inputs, [str(place)], name=f"node {place}", **options)
        for place, (kind, inputs, options) in enumerate(nodes)
    ]
    made[-1].output[0] = "features"
    graph = helper.make_graph(
        made,
        "tower",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["B", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["B", 8])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in arrays.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def photos(seed: int, count: int) -> np.ndarray:
    return RNG(seed).uniform(-1, 1, (count, 3, SIDE, SIDE)).astype(np.float32)


def features(model: onnx.ModelProto, pixels: np.ndarray, level: str = "ORT_ENABLE_ALL") -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return np.asarray(session.run(["features"], {"pixels": pixels})[0])


def quantize(model: onnx.ModelProto, pixels: np.ndarray) -> onnx.ModelProto:
    """All of it: so small a tower is all stem."""
    return to_static_int8(model, pixels, in_float=0)


def arrays_of(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


@pytest.fixture(scope="module")
def quantized() -> onnx.ModelProto:
    return quantize(tower(), photos(0, 16))


def test_features_stay_close(quantized: onnx.ModelProto) -> None:
    cosines = (features(quantized, photos(1, 16)) * features(tower(), photos(1, 16))).sum(axis=1)
    assert cosines.min() >= 0.998, cosines


def test_every_kind_of_layer_but_the_last_product_holds_bytes(quantized: onnx.ModelProto) -> None:
    kept = {tensor.name: numpy_helper.to_array(tensor) for tensor in quantized.graph.initializer}
    for name in ("stem", "depthwise", "point", "turned", "matrix"):
        assert kept[f"{name}_quantized"].dtype == np.int8, name
        assert kept[f"{name}_scale"].shape == (len(kept[f"{name}_scale"]),), f"{name} has one scale"
    assert np.array_equal(kept["last"], weights(8, 16, 8))
    kinds = [node.op_type for node in quantized.graph.node]
    assert "Relu" not in kinds[: kinds.index("ReduceMean")]  # the integers' bounds took its place
    assert "Clip" not in kinds


def test_operators_are_standard(quantized: onnx.ModelProto) -> None:
    onnx.checker.check_model(quantized)
    assert [(entry.domain, entry.version) for entry in quantized.opset_import] == [("", 18)]
    assert {node.domain for node in quantized.graph.node} <= {"", "ai.onnx"}
    assert quantized.ir_version == 9
    assert not quantized.metadata_props


def test_a_photo_does_not_depend_on_its_batch(quantized: onnx.ModelProto) -> None:
    pixels = photos(2, 9)
    pixels[3] *= 5  # beyond what the scales were fixed with
    alone = np.concatenate([features(quantized, pixels[i : i + 1]) for i in range(9)])
    assert np.abs(features(quantized, pixels) - alone).max() <= 1e-6


def test_the_fused_integers_are_those_of_the_standard(quantized: onnx.ModelProto) -> None:
    """What saturates on a processor, or is fused wrongly, would differ from the plain definition."""
    gap = np.abs(features(quantized, photos(3, 8)) - features(quantized, photos(3, 8), "ORT_DISABLE_ALL"))
    assert gap.max() <= 0.01, gap.max()


def test_pairs_of_large_weights_do_not_saturate() -> None:
    model = tower()
    (point,) = (tensor for tensor in model.graph.initializer if tensor.name == "point")
    (bias,) = (tensor for tensor in model.graph.initializer if tensor.name == "point.bias")
    point.CopyFrom(numpy_helper.from_array(np.full((12, 12, 1, 1), 1.0, np.float32), "point"))
    bias.CopyFrom(numpy_helper.from_array(np.zeros(12, np.float32), "point.bias"))
    pixels = photos(4, 16)
    cosines = (features(quantize(model, pixels), pixels) * features(model, pixels)).sum(axis=1)
    assert cosines.min() >= 0.999, cosines


def test_an_edge_filter_sees_no_edge_in_a_flat_photo() -> None:
    """Depthwise codes keep the sum of the weights; each rounded for itself would leave an offset."""
    model = tower()
    (depthwise,) = (tensor for tensor in model.graph.initializer if tensor.name == "depthwise")
    kernels = weights(9, 12, 1, 5, 5)
    kernels -= kernels.mean(axis=(2, 3), keepdims=True)
    depthwise.CopyFrom(numpy_helper.from_array(kernels, "depthwise"))
    quantized = quantize(model, photos(0, 16))
    codes = {tensor.name: numpy_helper.to_array(tensor) for tensor in quantized.graph.initializer}
    assert np.abs(codes["depthwise_quantized"].astype(int).sum(axis=(1, 2, 3))).max() == 0


def test_biases_take_back_what_rounding_shifted() -> None:
    """The mean of each channel of the first convolution, on the photos that fixed the scales."""
    pixels = photos(0, 16)
    exact, quantized = tower(), quantize(tower(), pixels)
    kept = {tensor.name: numpy_helper.to_array(tensor) for tensor in quantized.graph.initializer}
    codes, scales = kept["stem_quantized"], kept["stem_scale"].reshape(-1, 1, 1, 1)
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in exact.graph.initializer}
    lost = ((arrays["stem"] - codes * scales).sum(axis=(2, 3)) * pixels.mean(axis=(0, 2, 3))).sum(axis=1)
    bias = kept["0.bias_quantized"] * kept["0.bias_quantized_scale"]
    assert bias == pytest.approx(arrays["stem.bias"] + lost, abs=1e-4)


def test_the_same_photos_give_the_same_bytes(quantized: onnx.ModelProto) -> None:
    """Whatever the seed of Python's hashes, which is another in each process."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import test_static_int8 as t, hashlib; "
        "m = t.quantize(t.tower(), t.photos(0, 16)); "
        "print(hashlib.sha256(m.SerializeToString(deterministic=True)).hexdigest())"
    )
    command = [sys.executable, "-c", code, str(Path(__file__).parent)]
    other = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    assert other == hashlib.sha256(quantized.SerializeToString(deterministic=True)).hexdigest()


def test_the_first_convolutions_stay_in_floating_point() -> None:
    kept = arrays_of(to_static_int8(tower(), photos(0, 16)))
    assert IN_FLOAT == 3
    for name in ("stem", "depthwise", "point"):
        assert np.array_equal(kept[name], arrays_of(tower())[name]), name
    assert kept["turned_quantized"].dtype == np.int8


def test_single_values_do_not_widen_a_range() -> None:
    """Of 30,720 numbers one is far out; the scale is that of the others."""
    pixels = photos(0, 40)
    pixels[0, 0, 0, 0] = 100
    assert arrays_of(quantize(tower(), pixels))["pixels_scale"] == pytest.approx(2 / 255, rel=0.01)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_codes_come_from_stored_weights(precision: str) -> None:
    """The same features to the last bit, and the graph holds no code but those of depthwise kernels."""
    pixels = photos(1, 8)
    shared = shared_int8(tower(), photos(0, 16), precision)
    onnx.checker.check_model(shared)
    codes = [name for name, array in arrays_of(shared).items() if array.dtype == np.int8 and array.ndim >= 2]
    assert codes == []
    names = {"fp32": "turned", "fp16": "turned.half"}
    assert arrays_of(shared)[names[precision]].shape == (24, 12)
    if precision == "fp32":
        assert np.array_equal(
            features(shared, pixels), features(to_static_int8(tower(), photos(0, 16)), pixels)
        )


def test_depthwise_codes_stay(quantized: onnx.ModelProto) -> None:
    shared = from_stored(quantized, tower())
    kept = arrays_of(shared)
    assert np.array_equal(kept["depthwise_quantized"], arrays_of(quantized)["depthwise_quantized"])
    assert {"stem_quantized", "point_quantized"}.isdisjoint(kept)
    assert np.array_equal(features(shared, photos(1, 8)), features(quantized, photos(1, 8)))


def test_a_tower_without_convolutions_is_refused() -> None:
    model = tower()
    kept = [node for node in model.graph.node if node.op_type != "Conv" or node.output[0] == "0"]
    del model.graph.node[:]
    model.graph.node.extend(kept)
    with pytest.raises(BundleError, match=r"no convolutions but the one that cuts patches.*leave --quantize"):
        to_static_int8(model, photos(0, 1))
