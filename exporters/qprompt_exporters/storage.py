"""How a tower's arrays are stored in a graph: float32, float16, or int8 rows with a scale each.

Arrays enter the graph as inputs while it is written and become initializers afterwards, so that they keep
their names and never pass through a protobuf twice. Whatever the storage, the graph computes in float32.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import spox.opset.ai.onnx.v18 as op
from numpy.typing import NDArray
from onnx import numpy_helper
from onnx.external_data_helper import set_external_data
from spox import Tensor, Var, argument, build

IR_VERSION = 9
"""An ONNX file version that onnxruntime 1.19 and everything after it reads."""
OPSET = 18
_EXTERNAL_FROM = 1024  # bytes; smaller arrays stay in the graph file
_ALIGNMENT = 4096  # onnxruntime maps an array into memory where a page begins


class Weights:
    """A tower's arrays as float32 graph values, whatever they are stored as.

    Args:
        arrays: float32 arrays by name.
        half: Store matrices as float16 and widen them in the graph.
        int8_rows: Names of the tables to store as int8 with one float32 scale a row; read them with `rows`.
    """

    def __init__(
        self,
        arrays: Mapping[str, NDArray[np.float32]],
        *,
        half: bool = False,
        int8_rows: tuple[str, ...] = (),
    ) -> None:
        self.stored: dict[str, NDArray[np.generic]] = {}
        self.arguments: dict[str, Var] = {}
        for name, array in arrays.items():
            if name in int8_rows:
                codes, scales = quantize_rows(array)
                self._add(name, codes)
                self._add(f"{name}.scale", scales)
            else:
                self._add(name, array.astype(np.float16) if half and array.ndim >= 2 else array)

    def _add(self, name: str, array: NDArray[np.generic]) -> None:
        self.stored[name] = np.ascontiguousarray(array)
        self.arguments[name] = argument(Tensor(array.dtype, array.shape))

    def __getitem__(self, name: str) -> Var:
        value = self.arguments[name]  # widened for each use: no wide copy waits in memory for the next
        return op.cast(value, to=np.float32) if self.stored[name].dtype == np.float16 else value

    def rows(self, name: str, indices: Var) -> Var:
        """Rows of a table: [*indices.shape, D], float32."""
        picked = op.gather(self.arguments[name], indices)
        if self.stored[name].dtype != np.float32:
            picked = op.cast(picked, to=np.float32)
        scale = self.arguments.get(f"{name}.scale")
        return picked if scale is None else op.mul(picked, op.gather(scale, indices))

    def row(self, name: str, index: int) -> Var:
        """One row of a table, [D], float32.

        It is a constant of its own; otherwise onnxruntime would load the whole table to fold it.
        """
        row = self.stored[name][index].astype(np.float32)
        scales = self.stored.get(f"{name}.scale")
        return op.const(row if scales is None else row * scales[index].astype(np.float32))

    def build(self, inputs: Mapping[str, Var], outputs: Mapping[str, Var]) -> onnx.ModelProto:
        """The finished graph, with every array of this object as an initializer."""
        model = build({**inputs, **self.arguments}, dict(outputs))
        kept = [value for value in model.graph.input if value.name in inputs]
        del model.graph.input[:]
        model.graph.input.extend(kept)
        model.graph.initializer.extend(numpy_helper.from_array(a, n) for n, a in self.stored.items())
        _widen_late(model)
        model.ir_version = IR_VERSION
        onnx.checker.check_model(model)
        return model


def _widen_late(model: onnx.ModelProto) -> None:
    """Have onnxruntime widen each matrix just before its product, where it keeps them narrow.

    Of the nodes that a product waits for, it runs those with the higher number in the file first. So what
    widens matrices comes first in the file; elsewhere, all of them would be widened before the first product.
    """
    stored = {tensor.name for tensor in model.graph.initializer}
    nodes = sorted(model.graph.node, key=lambda node: node.op_type != "Cast" or node.input[0] not in stored)
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def quantize_rows(table: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Symmetric int8 with a scale a row: table [V,D] is close to codes [V,D] * scales [V,1]."""
    scales = np.maximum(np.abs(table).max(axis=1, keepdims=True), 1e-12).astype(np.float32) / np.float32(127)
    return np.rint(table / scales).astype(np.int8), scales


def content_key(array: NDArray[np.generic]) -> bytes:
    """What two arrays of one type, shape and content have in common."""
    content = np.ascontiguousarray(array)
    return hashlib.sha256(f"{content.dtype}{content.shape}".encode() + content.tobytes()).digest()


class WeightsFile:
    """A file that takes the large arrays of several graphs, each content once.

    Args:
        path: The file; it must not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.places: dict[bytes, int] = {}
        path.touch(mode=0o644, exist_ok=False)

    def save(self, model: onnx.ModelProto, path: Path, extend: bool = True) -> None:
        """Write a graph beside the file, with its large arrays in it; onnxruntime maps them into memory.

        Args:
            model: The graph.
            path: Where it is written.
            extend: Whether the file takes arrays that it does not hold yet; else they stay in the graph.
        """
        stored = onnx.ModelProto()
        stored.CopyFrom(model)
        with self.path.open("ab") as file:
            for tensor in stored.graph.initializer:
                array = numpy_helper.to_array(tensor)
                if array.nbytes < _EXTERNAL_FROM:
                    continue
                key = content_key(array)
                if key not in self.places and not extend:
                    continue
                if key not in self.places:
                    file.write(b"\0" * (-file.tell() % _ALIGNMENT))
                    self.places[key] = file.tell()
                    file.write(array.tobytes())
                tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
                set_external_data(tensor, self.path.name, self.places[key], array.nbytes)
                tensor.ClearField("raw_data")
        path.write_bytes(stored.SerializeToString(deterministic=True))
