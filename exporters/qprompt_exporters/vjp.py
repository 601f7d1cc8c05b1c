"""Forward and backward of a transformer's parts, as pairs of functions on ONNX values.

Each `f` returns its result and what its `f_backward` needs (the tape). Products run over the last two
dimensions; `d_x` is the gradient of the loss at `x`. Backward products use the forward's own weights, so the
graph holds one copy of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import spox.opset.ai.onnx.v18 as op
from spox import Var

from qprompt_exporters.storage import Weights

_QUICK_GELU = 1.702  # gelu(x) is close to x * sigmoid(1.702 x): Hendrycks & Gimpel 2016, section 2


@cache
def ints(*values: int) -> Var:
    """A constant vector of int64, the form in which ONNX takes shapes and axes."""
    return op.const(np.array(values, np.int64))


@cache
def floats(value: float) -> Var:
    """A constant float32 scalar."""
    return op.const(np.array(value, np.float32))


def dim(x: Var, axis: int) -> Var:
    """Size of one dimension of `x`, as int64 [1]."""
    return op.shape(x, start=axis, end=axis + 1)


def transposed(x: Var) -> Var:
    """Swap the last two of the five dimensions that heads have: [G, H, R, Q, m] to [G, H, R, m, Q]."""
    return op.transpose(x, perm=[0, 1, 2, 4, 3])


def linear(x: Var, weight: Var, bias: Var) -> Var:
    """x [N,I] times weight [O,I] transposed, plus bias [O]; its gradient at x is `d_y @ weight`."""
    return op.gemm(x, weight, bias, transB=1)


@dataclass(frozen=True)
class NormTape:
    """What a layer normalisation keeps: its input [N,D], statistics [N,1] and scale [D]."""

    x: Var
    mean: Var
    rstd: Var
    scale: Var


def layer_norm(x: Var, scale: Var, bias: Var, epsilon: float) -> tuple[Var, NormTape]:
    """Normalise each row of x [N,D]."""
    y, mean, rstd = op.layer_normalization(x, scale, bias, axis=-1, epsilon=epsilon)
    return y, NormTape(x, mean, rstd, scale)


def layer_norm_backward(tape: NormTape, d_y: Var) -> Var:
    """rstd * (g - mean(g) - x_hat * mean(g * x_hat)) with g = d_y * scale, means over a row."""
    g = op.mul(d_y, tape.scale)
    x_hat = op.mul(op.sub(tape.x, tape.mean), tape.rstd)
    level = op.reduce_mean(g, ints(-1), keepdims=1)
    slope = op.reduce_mean(op.mul(g, x_hat), ints(-1), keepdims=1)
    return op.mul(op.sub(op.sub(g, level), op.mul(x_hat, slope)), tape.rstd)


@dataclass(frozen=True)
class GateTape:
    """What an activation keeps: x * gate(x), for `gelu` half of that."""

    kind: str
    x: Var
    gate: Var


def activation(kind: str, x: Var) -> tuple[Var, GateTape]:
    """`gelu` (x times the normal distribution function) or `quick_gelu` (x * sigmoid(1.702 x)).

    In a graph without the backward pass, onnxruntime runs either as one operator; it knows them in this form.
    """
    if kind == "quick_gelu":
        gate = op.sigmoid(op.mul(x, floats(_QUICK_GELU)))
        return op.mul(x, gate), GateTape(kind, x, gate)
    gate = op.add(op.erf(op.div(x, floats(2**0.5))), floats(1.0))
    return op.mul(op.mul(x, gate), floats(0.5)), GateTape(kind, x, gate)


def activation_backward(tape: GateTape, d_y: Var) -> Var:
    """d_y * (gate + x * gate'), for `gelu` half of that; the product behind it takes the half for nothing."""
    x, gate = tape.x, tape.gate
    if tape.kind == "quick_gelu":
        slope = op.mul(op.mul(gate, op.sub(floats(1.0), gate)), floats(_QUICK_GELU))
        return op.mul(d_y, op.add(gate, op.mul(x, slope)))
    slope = op.mul(op.exp(op.mul(op.mul(x, x), floats(-0.5))), floats((2 / np.pi) ** 0.5))
    return op.mul(op.mul(d_y, op.add(gate, op.mul(x, slope))), floats(0.5))


@dataclass(frozen=True)
class FeedForwardTape:
    """What the second half of a residual block keeps."""

    norm: NormTape
    gate: GateTape


def feed_forward(
    weights: Weights, block: str, kind: str, epsilon: float, x: Var
) -> tuple[Var, FeedForwardTape]:
    """x + c_proj(activation(c_fc(ln_2(x)))) over rows [N,D]; `block` is the prefix of the weights' names."""
    hidden, norm = layer_norm(x, weights[f"{block}.ln_2.weight"], weights[f"{block}.ln_2.bias"], epsilon)
    wide = linear(hidden, weights[f"{block}.mlp.c_fc.weight"], weights[f"{block}.mlp.c_fc.bias"])
    wide, gate = activation(kind, wide)
    out = linear(wide, weights[f"{block}.mlp.c_proj.weight"], weights[f"{block}.mlp.c_proj.bias"])
    return op.add(x, out), FeedForwardTape(norm, gate)


def feed_forward_backward(weights: Weights, block: str, tape: FeedForwardTape, d_y: Var) -> Var:
    """Gradient at the rows that `feed_forward` was given."""
    d_wide = activation_backward(tape.gate, op.matmul(d_y, weights[f"{block}.mlp.c_proj.weight"]))
    d_hidden = op.matmul(d_wide, weights[f"{block}.mlp.c_fc.weight"])
    return op.add(d_y, layer_norm_backward(tape.norm, d_hidden))


def unit(raw: Var) -> tuple[Var, Var]:
    """Rows of length 1, and the lengths [N,1] that they had."""
    norm = op.reduce_l2(raw, ints(-1), keepdims=1)
    return op.div(raw, norm), norm


def unit_backward(rows: Var, norm: Var, d_rows: Var) -> Var:
    """Gradient at what `unit` was given: (d - rows * <rows, d>) / norm."""
    along = op.reduce_sum(op.mul(rows, d_rows), ints(-1), keepdims=1)
    return op.div(op.sub(d_rows, op.mul(rows, along)), norm)


def cross_entropy(image: Var, classes: Var, targets: Var, scale: Var) -> tuple[Var, Var]:
    """-sum(targets * log softmax(scale * image @ classes^T)), and its gradient [B,C] at image @ classes^T."""
    logits = op.mul(op.matmul(image, op.transpose(classes)), scale)
    log_p = op.log_softmax(logits, axis=-1)
    loss = op.neg(op.reduce_sum(op.mul(targets, log_p), keepdims=0))
    weight = op.reduce_sum(targets, ints(-1), keepdims=1)
    return loss, op.mul(op.sub(op.mul(op.exp(log_p), weight), targets), scale)


@dataclass(frozen=True)
class Prefix:
    """Keys that every query of a group sees.

    Attributes:
        k: Keys [G, H, 1, P, head_width].
        v: Values, as the keys.
        count: P, int64 [1].
        shape: int64 [5], unfolds [G, H, 1, R*Q, m] to [G, H, R, Q, m].
    """

    k: Var
    v: Var
    count: Var
    shape: Var


@dataclass(frozen=True)
class AttentionTape:
    """What one attention keeps for its backward pass.

    `parts` are the attention weights of the prefix's keys and of the class's own keys.
    """

    scale: float
    q: Var
    k: Var
    v: Var
    weights: Var
    prefix: Prefix | None = None
    parts: Sequence[Var] = ()


def _flat(x: Var) -> Var:
    """[G, H, R, Q, m] to [G, H, 1, R*Q, m]: one matrix product against a group's prefix."""
    return op.reshape(x, ints(0, 0, 1, -1, 0))


def attend(
    q: Var, k: Var, v: Var, mask: Var | None, head_width: int, prefix: Prefix | None = None
) -> tuple[Var, AttentionTape]:
    """softmax(q k^T / sqrt(head_width)) v over own keys and, where given, the group's prefix keys.

    Args:
        q: Queries [G, H, R, Q, head_width].
        k: Own keys [G, H, R, S, head_width].
        v: Own values, as the keys.
        mask: Added to the own scores; broadcasts to [G, H, R, Q, S].
        head_width: Width of one head.
        prefix: Keys and values that every query of a group sees.
    """
    scale = head_width**-0.5
    scores = _scaled_product(q, k, scale)
    if mask is not None:
        scores = op.add(scores, mask)
    if prefix is None:
        weights = op.softmax(scores, axis=-1)
        return op.matmul(weights, v), AttentionTape(scale, q, k, v, weights)
    before = op.reshape(_scaled_product(_flat(q), prefix.k, scale), prefix.shape)
    weights = op.softmax(op.concat([before, scores], axis=-1), axis=-1)
    parts = _split_keys(weights, prefix)
    out = op.add(op.matmul(parts[1], v), op.reshape(op.matmul(_flat(parts[0]), prefix.v), prefix.shape))
    return out, AttentionTape(scale, q, k, v, weights, prefix, parts)


def attend_backward(tape: AttentionTape, d_out: Var) -> tuple[list[Var], list[Var]]:
    """Gradients at [q, k, v] and at the prefix's [k, v] (empty without a prefix)."""
    prefix = tape.prefix
    d_weights = _scaled_product(d_out, tape.v, tape.scale)
    if prefix is not None:
        before = _scaled_product(_flat(d_out), prefix.v, tape.scale)
        d_weights = op.concat([op.reshape(before, prefix.shape), d_weights], axis=-1)
    along = op.reduce_sum(op.mul(tape.weights, d_weights), ints(-1), keepdims=1)
    d_scores = op.mul(tape.weights, op.sub(d_weights, along))  # times the scale, as d_weights are
    if prefix is None:
        return _products_backward(tape, tape.weights, d_scores, d_out), []
    d_before, d_own = _split_keys(d_scores, prefix)
    before, own = _flat(tape.parts[0]), tape.parts[1]
    d_before = _flat(d_before)
    d_q, d_k, d_v = _products_backward(tape, own, d_own, d_out)
    d_q = op.add(d_q, op.reshape(op.matmul(d_before, prefix.k), prefix.shape))
    d_prefix_k = op.matmul(transposed(d_before), _flat(tape.q))
    return [d_q, d_k, d_v], [d_prefix_k, op.matmul(transposed(before), _flat(d_out))]


def _split_keys(x: Var, prefix: Prefix) -> tuple[Var, Var]:
    """Split the last dimension into the prefix's keys and own ones."""
    axis, end = ints(4), ints(np.iinfo(np.int64).max)
    return op.slice(x, ints(0), prefix.count, axis), op.slice(x, prefix.count, end, axis)


def _scaled_product(a: Var, b: Var, scale: float) -> Var:
    """scale * a b^T; onnxruntime runs all of it as one product."""
    return op.mul(op.matmul(a, transposed(b)), floats(scale))


def _products_backward(tape: AttentionTape, weights: Var, d_scores: Var, d_out: Var) -> list[Var]:
    """Gradients at own q, k and v from those at the scores q k^T and at the product of weights and v."""
    return [
        op.matmul(d_scores, tape.k),
        op.matmul(transposed(d_scores), tape.q),
        op.matmul(transposed(weights), d_out),
    ]
