"""A bundle's graphs are made of ONNX's own operators.

Every onnxruntime has those, old or on aarch64.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import TINY_FOLDER

pytest.importorskip("torch")
pytest.importorskip("open_clip")
pytest.importorskip("onnx")

import onnx
from onnx import TensorProto, helper

from qprompt_runtime.bundle import DEFAULT_BACKBONE, find_bundle

pytestmark = pytest.mark.export

STANDARD = ("", "ai.onnx")
"""Both names of the standard domain; `com.microsoft` is onnxruntime's own, and changes with it."""


def foreign_operators(nodes: Iterable[Any]) -> Iterator[str]:
    """Operators outside of the standard domain, also of graphs within nodes, as "domain.name"."""
    for node in nodes:
        if node.domain not in STANDARD:
            yield f"{node.domain}.{node.op_type}"
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from foreign_operators(inner.node)


def assert_portable(path: Path) -> None:
    model = onnx.load(path, load_external_data=False)
    assert model.ir_version <= 9
    assert {entry.domain: entry.version for entry in model.opset_import} == {"": 18}, path.name
    assert list(foreign_operators(model.graph.node)) == [], path.name
    assert not model.functions, path.name


@pytest.mark.parametrize(
    ("name", "precision", "depth", "merged", "count"),
    [
        ("small-causal", "fp32", 0, 0, 3),
        ("small-causal", "fp16", 0, 0, 3),
        ("small-causal", "int8", 0, 0, 3),
        ("small-convolutional", "fp32", 0, 0, 3),
        ("small-deep", "fp32", 4, 0, 7),
        ("small-deep", "fp32", 0, 4, 3),
        ("small-deep", "int8", 0, 4, 3),
    ],
)
def test_exported_graphs_have_standard_operators_only(
    name: str, precision: str, depth: int, merged: int, count: int, small_bundle: Any
) -> None:
    graphs = list(small_bundle(name, precision, depth, merged).glob("*.onnx"))
    assert len(graphs) == count
    for path in graphs:
        assert_portable(path)


@pytest.mark.parametrize("backbone", [DEFAULT_BACKBONE, TINY_FOLDER], ids=["small", "tiny"])
def test_shipped_graphs_have_standard_operators_only(backbone: str | Path) -> None:
    graphs = list(find_bundle(backbone).glob("*.onnx"))
    assert len(graphs) > 5
    for path in graphs:
        assert_portable(path)


@pytest.mark.parametrize("nested", [False, True])
def test_an_operator_of_onnxruntime_is_refused(tmp_path: Path, nested: bool) -> None:
    """The check itself sees them, in a branch too."""
    value = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    branch = helper.make_graph(
        [helper.make_node("Gelu", ["x"], ["y"], domain="com.microsoft")], "g", [], [value]
    )
    if nested:
        choice = helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)
        branch = helper.make_graph([choice], "outer", [], [value])
    model = helper.make_model(branch, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, tmp_path / "image.onnx")
    with pytest.raises(AssertionError, match=r"com\.microsoft\.Gelu"):
        assert_portable(tmp_path / "image.onnx")
