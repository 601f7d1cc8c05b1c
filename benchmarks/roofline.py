"""How much arithmetic a tuning step needs, and what share of the processor's rate it gets.

Counted is what the mathematics of CoOp's step cannot do without, in multiply-adds, on a causal text tower of
L blocks and width D with n shared context vectors and C classes, whose class c has s_c tokens behind the
context (end token included). The prefix (start token and context, P = 1 + n rows) is the same for all
classes, so it counts once; padding does not count. With R = P + sum s_c rows:

    linear maps    a block maps each row by 12 D^2 (4 for attention, 8 for the MLP): forward, and again for
                   the gradient at its input.
                   The last block needs queries, output and MLP for the C end rows only: 10 D^2 C + 2 D^2 R.
                   The first block's gradient at its input is needed at the n context rows only: 3 D^2 n
                   of the 3 D^2 R.
    attention      A row sees itself and what is before it, so there are
                   A = P (P + 1) / 2 + sum (s_c P + s_c (s_c + 1) / 2) pairs, and in the last block only
                   those of the end rows, sum (P + s_c). Each pair costs 2 D forward and 4 D backward.
    heads          C D E for the projection to E and B C E for the logits of B photos, each forward and
                   backward.

The start token's row takes no gradient (it sees no context), so the backward pass counts R - 1 rows.
Normalisation, softmax and activations are not counted: they are work, but not multiply-adds of products. No
weight gets a gradient.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.tables import median

SGEMM_SIZE = 2048
"""Rows and columns of the matrices of the plain product."""


def multiply_adds(
    rows: Sequence[int], context: int, width: int, layers: int, embed: int, batch: int
) -> dict[str, int]:
    """Multiply-adds of one step; see the module's text.

    Args:
        rows: s_c, tokens of each class behind the context.
        context: n, shared context vectors.
        width: D.
        layers: L.
        embed: E.
        batch: B, photos in the batch.

    Returns:
        `linear`, `attention`, `heads`, and `total`.
    """
    square, prefix, classes = width * width, 1 + context, len(rows)
    every = prefix + sum(rows)
    moved = every - 1
    forward = (layers - 1) * 12 * square * every + 10 * square * classes + 2 * square * every
    backward = (layers - 1) * 12 * square * moved + 10 * square * classes + 2 * square * moved
    backward -= 3 * square * (moved - context)
    pairs = prefix * (prefix + 1) // 2 + sum(s * prefix + s * (s + 1) // 2 for s in rows)
    ends = sum(prefix + s for s in rows)
    attention = 6 * width * ((layers - 1) * pairs + ends)
    heads = 2 * classes * width * embed + 2 * batch * classes * embed
    linear = forward + backward
    return {
        "linear": linear,
        "attention": attention,
        "heads": heads,
        "total": linear + attention + heads,
    }


def against_sgemm(answer: Mapping[str, Any]) -> dict[str, Any]:
    """Rates of the text step and of a plain product.

    From one child's answer with the parts `text` and `sgemm`.

    Raises:
        ValueError: The tower is not causal.
    """
    if not answer["causal"]:
        raise ValueError("the count is for causal text towers, which share their prefix")
    keys = ("rows", "context", "width", "layers", "embed", "batch")
    needed = multiply_adds(*(answer[key] for key in keys))
    step = median(answer["seconds"]["text"])
    rates = {
        name.removeprefix("sgemm "): SGEMM_SIZE**3 / median(seconds)
        for name, seconds in answer["seconds"].items()
        if name.startswith("sgemm ")
    }
    fastest = max(rates, key=lambda name: rates[name])
    rate = needed["total"] / step
    return {
        "classes": answer["classes"],
        "multiply_adds": needed,
        "seconds": step,
        "rate": rate,
        "sgemm": rates,
        "sgemm_by": fastest,
        "share": rate / rates[fastest],
    }
