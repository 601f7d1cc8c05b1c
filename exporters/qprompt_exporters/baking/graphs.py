"""Small helpers around ONNX graphs: a bundle's model, nodes from text, constants by name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from onnx.external_data_helper import ExternalDataInfo, uses_external_data
from onnx.parser import parse_graph


def read_model(path: Path) -> onnx.ModelProto:
    """A model of a bundle with its weights, which stand in a file beside it.

    onnx's own reader refuses a file that has a second name on the disk, as files have that uv installed.
    """
    model = onnx.load(path, load_external_data=False)
    for tensor in model.graph.initializer:
        if uses_external_data(tensor):
            place = ExternalDataInfo(tensor)
            with (path.parent / Path(place.location).name).open("rb") as file:
                file.seek(place.offset or 0)
                tensor.raw_data = file.read(place.length)
            tensor.ClearField("external_data")
            tensor.data_location = onnx.TensorProto.DEFAULT
    return model


def append_nodes(graph: onnx.GraphProto, text: str, constants: Mapping[str, NDArray[np.generic]]) -> None:
    """Append nodes, written in ONNX's text syntax, and the constants that they read.

    Args:
        graph: What they are appended to.
        text: Lines such as `c = Add (a, b)`.
        constants: By name.
    """
    graph.node.extend(parse_graph(f"lines () => () {{\n{text}\n}}").node)
    graph.initializer.extend(
        numpy_helper.from_array(np.ascontiguousarray(a), n) for n, a in constants.items()
    )


def prefix_names(graph: onnx.GraphProto, prefix: str, kept: set[str]) -> None:
    """Put a prefix before the name of every value, save those of `kept`; nodes lose theirs."""

    def named(name: str) -> str:
        return name if name in kept or not name else prefix + name

    for value in (*graph.initializer, *graph.input, *graph.output):
        value.name = named(value.name)
    for node in graph.node:
        node.name = ""
        for names in (node.input, node.output):
            names[:] = [named(name) for name in names]
        for attribute in node.attribute:
            if attribute.HasField("g"):
                prefix_names(attribute.g, prefix, kept)
