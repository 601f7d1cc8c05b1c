"""Small helpers around ONNX graphs: nodes from text, constants by name."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from onnx.parser import parse_graph


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
