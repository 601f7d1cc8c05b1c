"""Groups of classes that run through the text tower together, so that activations fit a memory budget.

For its gradient, a block of the tower keeps at most 14 numbers for each token and unit of its width, and 7
more for each place that a token could take. In attention, the longest class of a run decides how many places
there are for the others. So classes of similar length run together, and one long name does not enlarge all
others. The loss over the classes of all runs is computed here too.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qprompt_runtime.arrays import Array
from qprompt_runtime.manifest import TextLayout
from qprompt_runtime.tokenizer import ClassTokens

FLOATS_PER_TOKEN = 14
"""Activations that a block keeps per token, in widths of the tower (measured with 12 blocks of width 512)."""
FLOATS_PER_PLACE = 7
"""The same per place in attention, whether a token stands there or not."""
_FLOAT_BYTES = 4
_IMAGES_PER_BLOCK = 1024
"""Photos whose logits over all classes are held at a time."""


def class_chunks(
    tokens: ClassTokens, layout: TextLayout, context_vectors: int, budget: int
) -> list[NDArray[np.int64]]:
    """Divide C classes into runs: one if all fit, else shorter names first.

    Args:
        tokens: The classes' tokens.
        layout: Of the text tower.
        context_vectors: How many stand before the classes' tokens.
        budget: Bytes that activations may take. One run for all classes may take all of it, several take half
            each: then two graphs are open, and their runs in turn. A run has at least one class.

    Returns:
        Positions of each run's classes, int64; together every class once.
    """
    count, width = tokens.tokens.shape
    own = 0 if layout.causal else 1 + context_vectors
    lengths = tokens.ends + 1 if layout.causal else np.full(count, width + own)
    unit = layout.width * layout.layers * _FLOAT_BYTES
    if (
        unit * (FLOATS_PER_TOKEN * int(lengths.sum()) + FLOATS_PER_PLACE * count * int(lengths.max()))
        <= budget
    ):
        return [np.arange(count)]
    order = np.argsort(lengths, kind="stable")
    chunks, first, used = [], 0, 0
    for position, length in enumerate(lengths[order].tolist()):
        places = (position - first + 1) * length
        needed = unit * (FLOATS_PER_TOKEN * (used + length) + FLOATS_PER_PLACE * places)
        if position > first and needed > budget // 2:
            chunks.append(order[first:position])
            first, used = position, 0
        used += length
    return [*chunks, order[first:]]


def cut(tokens: ClassTokens, chunk: NDArray[np.int64], layout: TextLayout) -> ClassTokens:
    """Tokens of a run's classes, no longer than the longest of them needs."""
    ends = tokens.ends[chunk]
    length = int(ends.max()) + 1 if layout.causal else tokens.tokens.shape[1]
    return ClassTokens(tokens.tokens[chunk, :length], ends)


def cross_entropy(
    class_features: Array, image_features: Array, targets: Array, logit_scale: Array
) -> tuple[float, Array]:
    """Loss -sum(targets * log softmax(s * image @ class^T)) and its gradient at the class features.

    Args:
        class_features: float32 [C,E].
        image_features: float32 [B,E].
        targets: float32 [B,C].
        logit_scale: s, a 0-d float32 array (a Python or numpy 2 float64 scalar would widen the result).

    Returns:
        The loss, and float32 [C,E].
    """
    loss, gradient = 0.0, np.zeros_like(class_features)
    for start in range(0, len(image_features), _IMAGES_PER_BLOCK):
        images, wanted = (rows[start : start + _IMAGES_PER_BLOCK] for rows in (image_features, targets))
        shares = (logit_scale * images) @ class_features.T  # logits now, in place softmax, then the gradient
        shares -= shares.max(axis=1, keepdims=True)
        weight = wanted.sum(axis=1, keepdims=True)
        loss -= float(np.vdot(wanted, shares))
        np.exp(shares, out=shares)
        total = shares.sum(axis=1, keepdims=True)
        loss += float((weight * np.log(total)).sum())
        shares *= weight / total
        shares -= wanted
        gradient += shares.T @ images
    gradient *= logit_scale
    return loss, gradient
