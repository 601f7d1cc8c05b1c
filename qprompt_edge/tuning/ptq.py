"""Quantize an array of weights after training, as a group of a prompt file.

Weights that already have no more values than fit, of half precision, are kept to the bit, because clustering
would move them. Weights from a prompt file are of this kind.
"""

from __future__ import annotations

import numpy as np

from qprompt_edge.tuning.quantizer import UNQUANTIZED_BITS, cluster, quantize
from qprompt_runtime.arrays import Array
from qprompt_runtime.errors import PromptFileError
from qprompt_runtime.packing import levels
from qprompt_runtime.prompt_group import PromptGroup

_LARGEST_HALF = 65504.0


def make_group(role: str, weights: Array, bits: float, *, by_row: bool = False) -> PromptGroup:
    """A group of a prompt file.

    Args:
        role: What the weights are.
        weights: float32, finite, of any shape.
        bits: 1 to 8 or 1.6; 16 and 32 store the weights as floats.
        by_row: With a scale for each row.

    Raises:
        PromptFileError: A weight is beyond half precision (65504), in which codebooks are stored.
    """
    if bits == UNQUANTIZED_BITS:
        return PromptGroup.plain(role, weights)
    largest = float(np.abs(weights).max())
    if not largest <= _LARGEST_HALF:
        raise PromptFileError(
            f"a weight is {largest:g}, expected up to {_LARGEST_HALF:g}; --bits 32 keeps larger ones"
        )
    if bits == 16:
        return PromptGroup.plain(role, weights.astype(np.float16))
    if by_row:
        codes = quantize(weights, cluster(weights, bits, step=0, by_row=True))
        by_weight = codes.indices.reshape(weights.shape)
        return PromptGroup.quantized(role, codes.codebook, by_weight, bits, codes.scales)
    values, indices = np.unique(weights, return_inverse=True)
    exact = values.astype(np.float16)
    spare = levels(bits) - len(values)
    if spare >= 0 and np.array_equal(exact, values):
        codebook = np.pad(exact, (0, spare), mode="edge")
        return PromptGroup.quantized(role, codebook, indices.reshape(weights.shape).astype(np.uint8), bits)
    codes = quantize(weights, cluster(weights, bits, step=0))
    return PromptGroup.quantized(role, codes.codebook, codes.indices.reshape(weights.shape), bits)
