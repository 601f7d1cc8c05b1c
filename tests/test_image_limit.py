"""The share that an image tower reaches of plain products: its multiply-adds, and the arithmetic."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip(
    "benchmarks.image_limit"
)  # the checkout itself, as the session with the exporters installs it

import onnx
from onnx import TensorProto, helper, numpy_helper

from benchmarks.image_limit import against_products, table
from benchmarks.limit_steps import multiply_adds

pytestmark = pytest.mark.export


def test_multiply_adds_are_counted_by_what_is_multiplied(tmp_path: Path) -> None:
    constants = {
        "kernel": np.ones((4, 3, 3, 3), np.float32),
        "codes": np.ones((5, 4, 1, 1), np.int8),
        "scale": np.float32(0.5),
        "zero": np.uint8(0),
        "signed": np.int8(0),
        "bytes": np.ones((5, 7), np.int8),
        "last": np.ones((7, 2), np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["pixels", "kernel"], ["a"], strides=[2, 2], pads=[1, 1, 1, 1]),  # 4 x 4
        helper.make_node("QuantizeLinear", ["a", "scale", "zero"], ["b"]),
        helper.make_node("DequantizeLinear", ["b", "scale", "zero"], ["c"]),
        helper.make_node("DequantizeLinear", ["codes", "scale", "signed"], ["weights"]),
        helper.make_node("Conv", ["c", "weights"], ["d"]),
        helper.make_node("GlobalAveragePool", ["d"], ["e"]),
        helper.make_node("Flatten", ["e"], ["f"]),
        helper.make_node("QuantizeLinear", ["f", "scale", "zero"], ["g"]),
        helper.make_node("MatMulInteger", ["g", "bytes"], ["h"]),
        helper.make_node("Cast", ["h"], ["i"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["i", "last"], ["features"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tower",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["B", 3, 8, 8])],
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["B", 2])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, tmp_path / "tower.onnx")
    found = multiply_adds(tmp_path / "tower.onnx", np.zeros((2, 3, 8, 8), np.float32))
    assert found == {"float": 2 * (4 * 4 * 4 * 27 + 7 * 2), "int8": 2 * (4 * 4 * 5 * 4 + 5 * 7)}


def test_the_limit_weighs_both_kinds_by_their_own_rates() -> None:
    work = 2048**3
    answer = {
        "multiply_adds": {"int8": work // 2, "float": work // 4},
        "seconds": {"photo": [4.0, 8.0], "numpy": [4.0, 5.0], "onnxruntime": [6.0], "bytes": [3.0, 2.0]},
    }
    found = against_products(answer)
    assert found["limit"] == pytest.approx(2.0 / 2 + 4.0 / 4)
    assert found["share"] == pytest.approx(0.5)
    assert table({"int8": found})[1][0][-3:] == ["2.00 s", "4.00 s", "50%"]
