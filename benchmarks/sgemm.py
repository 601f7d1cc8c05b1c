"""Plain large products of matrices: the rates that the processor gives to whoever asks for nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from benchmarks.roofline import SGEMM_SIZE as SIZE

_RANGE = 64
"""Signed bytes below this do not saturate where two products are added in 16 bits."""


def products(threads: int) -> dict[str, Callable[[], object]]:
    """The product of two float32 [2048,2048] matrices, by library.

    Args:
        threads: For onnxruntime; numpy's library reads its number from the environment when it is loaded.

    Returns:
        `numpy`, and, where the package onnx is there to write the graph, `onnxruntime` with the second matrix
        as a constant that is packed beforehand, as a weight is.
    """
    rng = np.random.default_rng(0)
    left, right = (rng.standard_normal((SIZE, SIZE), np.float32) for _ in range(2))
    out = np.empty_like(left)
    found: dict[str, Callable[[], object]] = {"numpy": lambda: np.matmul(left, right, out=out)}
    session = _session("MatMul", left, right, np.float32, threads)
    if session is not None:
        found["onnxruntime"] = lambda: session.run(None, {"left": left})
    return found


def byte_product() -> Callable[[], object]:
    """Unsigned by signed bytes, [2048,2048] each, on one core, summed in int32, by onnxruntime.

    numpy has none that is fast. Needs the package onnx.
    """
    rng = np.random.default_rng(0)
    left = rng.integers(0, 256, (SIZE, SIZE), np.uint8)
    right = rng.integers(-_RANGE, _RANGE, (SIZE, SIZE), np.int8)
    session = _session("MatMulInteger", left, right, np.int32, 1)
    return lambda: session.run(None, {"left": left})


def _session(operator: str, left: NDArray[Any], right: NDArray[Any], result: type, threads: int) -> Any:
    """A session of one product with a constant matrix; None without the package onnx."""
    try:
        from onnx import helper, numpy_helper
    except ImportError:
        return None
    given, out = (
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(kind)), [SIZE, SIZE])
        for name, kind in (("left", left.dtype), ("out", result))
    )
    node = helper.make_node(operator, ["left", "right"], ["out"])
    graph = helper.make_graph([node], "product", [given], [out], [numpy_helper.from_array(right, "right")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
