"""A plain large product of matrices: the rate that the processor gives to whoever asks for nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from benchmarks.roofline import SGEMM_SIZE as SIZE


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
    session = _session(right, threads)
    if session is not None:
        found["onnxruntime"] = lambda: session.run(None, {"left": left})
    return found


def _session(right: NDArray[np.float32], threads: int) -> Any:
    """A session of one product with a constant matrix; None without the package onnx."""
    try:
        from onnx import TensorProto, helper, numpy_helper
    except ImportError:
        return None
    left, out = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [SIZE, SIZE]) for name in ("left", "out")
    )
    node = helper.make_node("MatMul", ["left", "right"], ["out"])
    graph = helper.make_graph([node], "sgemm", [left], [out], [numpy_helper.from_array(right, "right")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
