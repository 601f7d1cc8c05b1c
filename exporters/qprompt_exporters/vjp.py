"""Forward and backward of a transformer's parts, as pairs of functions on ONNX values.

Each `f` returns its result and what its `f_backward` needs (the tape). Products run over the last two
dimensions; `d_x` is the gradient of the loss at `x`. Backward products use the forward's own weights, so the
graph holds one copy of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import spox.opset.ai.onnx.v18 as op
from spox import Var

from qprompt_exporters.storage import Weights

_QUICK_GELU = 1.702  # gelu(x) is close to x * sigmoid(1.702 x): Hendrycks & Gimpel 2016, section 2
_LOG_SLOPE = float(np.log(2 / np.pi**0.5))


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
    """Swap the last two of the five dimensions that heads have: [G, H, K, Q, m] to [G, H, K, m, Q]."""
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
    """What an activation keeps: x * gate, where the gate is a function of z, and z is x times a constant."""

    kind: str
    z: Var
    gate: Var


def activation(kind: str, x: Var) -> tuple[Var, GateTape]:
    """`gelu` (x times the normal distribution function) or `quick_gelu` (x * sigmoid(1.702 x)).

    In a graph without the backward pass, onnxruntime runs either as one operator; it knows them in this form.
    """
    if kind == "quick_gelu":
        z = op.mul(x, floats(_QUICK_GELU))
        gate = op.sigmoid(z)
        return op.mul(x, gate), GateTape(kind, z, gate)
    z = op.div(x, floats(2**0.5))
    gate = op.add(op.erf(z), floats(1.0))
    return op.mul(op.mul(x, gate), floats(0.5)), GateTape(kind, z, gate)


def activation_backward(tape: GateTape, d_y: Var) -> Var:
    """d_y * (gate + z * gate'), for `gelu` half of that; the product behind it takes the half for nothing."""
    z, gate = tape.z, tape.gate
    if tape.kind == "quick_gelu":  # gate' = gate * (1 - gate)
        rest = op.mul(z, op.sub(floats(1.0), gate))
        return op.mul(d_y, op.mul(gate, op.add(rest, floats(1.0))))
    slope = op.exp(op.sub(floats(_LOG_SLOPE), op.mul(z, z)))  # gate' = 2 / sqrt(pi) * exp(-z^2)
    return op.mul(op.mul(d_y, op.add(gate, op.mul(z, slope))), floats(0.5))


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
class AttentionTape:
    """What an attention keeps for its backward pass."""

    scale: float
    q: Var
    k: Var
    v: Var
    weights: Var


def attend(q: Var, k: Var, v: Var, mask: Var | None, head_width: int) -> tuple[Var, AttentionTape]:
    """softmax(q k^T / sqrt(head_width) + mask) v.

    Args:
        q: Queries [G, H, K, Q, head_width].
        k: Keys [G, H, K, L, head_width].
        v: Values, as the keys.
        mask: Added to the scores; broadcasts to [G, H, K, Q, L].
        head_width: Width of one head.
    """
    scale = head_width**-0.5
    scores = _scaled_product(q, k, scale)
    if mask is not None:
        scores = op.add(scores, mask)
    weights = op.softmax(scores, axis=-1)
    return op.matmul(weights, v), AttentionTape(scale, q, k, v, weights)


def attend_backward(tape: AttentionTape, d_out: Var) -> tuple[Var, Var, Var]:
    """Gradients at queries, keys and values."""
    d_weights = _scaled_product(d_out, tape.v, tape.scale)
    along = op.reduce_sum(op.mul(tape.weights, d_weights), ints(-1), keepdims=1)
    d_scores = op.mul(tape.weights, op.sub(d_weights, along))  # times the scale, as d_weights are
    d_k = op.matmul(transposed(d_scores), tape.q)
    return op.matmul(d_scores, tape.k), d_k, op.matmul(transposed(tape.weights), d_out)


def _scaled_product(a: Var, b: Var, scale: float) -> Var:
    """scale * a b^T; onnxruntime runs all of it as one product."""
    return op.mul(op.matmul(a, transposed(b)), floats(scale))
