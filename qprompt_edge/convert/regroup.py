"""Groups quantized again, with the same or other bits, and the prompt that holds them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from qprompt_edge.tuning.ptq import make_group
from qprompt_runtime.arrays import Array
from qprompt_runtime.errors import PromptFileError
from qprompt_runtime.packing import MAX_BITS
from qprompt_runtime.prompt_envelope import require
from qprompt_runtime.prompt_file import Calibration, PromptFile
from qprompt_runtime.prompt_group import ROLES, PromptGroup

OFFSETS = ROLES[4]
"""Always 16 bits, whatever bits are asked for."""


def bits_for(role: str, own: float, asked: float | None) -> float:
    """Bits of a group: those asked for.

    Offsets keep their own; they have other than 16 only in a damaged file.
    """
    return own if asked is None or role == OFFSETS else asked


def regrouped(
    role: str, weights: Array, bits: float, scales: Sequence[float] = (), rows: Sequence[int] = ()
) -> PromptGroup:
    """Make a group of weights that may have had a scale for each row.

    Args:
        role: What the weights are.
        weights: float32, finite, each times its row's scale.
        bits: 1 to 8 or 1.6, and the rows keep their scales; 16 or 32, and they are left out.
        scales: float16 numbers, one for each entry of the first dimension; empty for none.
        rows: The class that each row belongs to, ascending; empty for all classes.

    Raises:
        PromptFileError: There are no weights, more or fewer scales or rows than rows of them, or a weight is
            beyond half precision.
    """
    require(weights.size > 0, f"the shape of {role}", weights.shape, "one with weights")
    if bits > MAX_BITS or not scales:
        return replace(make_group(role, weights, bits), rows=tuple(rows))
    good = weights.ndim > 0 and len(scales) == len(weights)
    require(good, "the count of row scales", len(scales), f"one a row of weights of shape {weights.shape}")
    factors = np.array(scales, np.float64).reshape(-1, *[1] * (weights.ndim - 1))
    require(bool(np.isfinite(factors).all()), "a row scale", "not a number or infinite", "finite numbers")
    zero = factors.ravel() == 0
    with np.errstate(over="ignore"):
        normal = (weights / np.where(factors == 0, 1, factors)).astype(np.float32)
    if zero.any() and not zero.all():
        normal[zero] = normal[~zero].flat[0]  # they are nothing whatever they hold; this adds no centroid
    return replace(make_group(role, normal, bits), scales=tuple(scales), rows=tuple(rows))


def changed(prompt: PromptFile, **changes: Any) -> PromptFile:
    """A prompt for other classes or at other bits.

    The accept scores are left out, because they were measured with the old ones.

    Args:
        prompt: What was read.
        changes: New values of its fields.

    Raises:
        PromptFileError: The prompt has optional keys, and this version does not know whether they still hold.
    """
    if prompt.extras:
        raise PromptFileError(
            f"the file has the optional keys {sorted(prompt.extras)}, and this version does not know whether "
            "they hold for other classes or bits; update qprompt-edge, or leave out --classes, --class-names "
            "and --bits"
        )
    return replace(prompt, calibration=Calibration(prompt.calibration.logit_scale), **changes)
