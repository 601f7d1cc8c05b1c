"""The text tower and its gradient as one ONNX graph.

The graph answers two questions about C classes: their unit features, and (only when `need_grad` is true,
behind an ONNX `If`) the loss on a batch of image features with its gradient with respect to the context
vectors. The backward pass is written by hand out of plain operators, so that stock onnxruntime trains.

Inputs (dimensions in brackets are dynamic):

    context         float32 [G, n, D]  context vectors; G = 1: one context for all classes, G = C: one each
    tokens          int64   [G, R, S]  what follows the context, per class: name, end token, padding (C = G*R)
    ends            int64   [G, R]     where in the S tokens the end token stands
    image_features  float32 [B, E]     unit features of a batch
    targets         float32 [B, C]     weight of each class as the true one; rows of a mean loss sum to 1/B
    logit_scale     float32 []         s in softmax(s * cos)
    cotangent       float32 [C, E]     added to the loss's gradient at the features (classes in chunks)
    need_grad       bool    []         run the backward part

Outputs: `features` float32 [C, E]; `embeddings` float32 [G, R, S, D], the rows of the token table;
`loss` float32 [] = -sum(targets * log softmax(s * image @ features^T)); `gradient` float32 [G, n, D] of
loss + sum(cotangent * features). The last two are zero or empty without `need_grad`.

A causal tower computes the prefix (start token and context: P = 1 + n rows) once a group instead of once a
class: rows lie as [G*P + C*S, D], normalisations and linear maps stay one operation, and only attention
tells the two parts apart (a suffix query sees the prefix's keys and its own class's). This is exact, since no
prefix row sees a class. A tower without a causal mask sees everything, padding too: there each class has all
its L = P + S rows, and the caller pads S to the full context length.

Two more savings are exact: in the last block only the end token's row is computed, and in the first block of
a causal tower the backward pass ends at the prefix rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import spox.opset.ai.onnx.v18 as op
from spox import Tensor, Var, argument

from qprompt_exporters import vjp
from qprompt_exporters.storage import Weights
from qprompt_exporters.towers import TextTower
from qprompt_exporters.vjp import dim, ints

_MASKED = -1e9  # added to a score that must not be seen; exp of it is exactly 0 in float32


def text_graph(tower: TextTower, weights: Weights, start_token: int) -> tuple[dict[str, Var], dict[str, Var]]:
    """Write the graph described at the top of this module.

    Args:
        tower: The text tower; only its facts are used here.
        weights: Its arrays, as graph values.
        start_token: Id of the start-of-text token.

    Returns:
        The graph's inputs and its outputs, by name.
    """
    width, embed = tower.width, tower.embed_dim
    inputs = {
        "context": argument(Tensor(np.float32, ("G", "n", width))),
        "tokens": argument(Tensor(np.int64, ("G", "R", "S"))),
        "ends": argument(Tensor(np.int64, ("G", "R"))),
        "image_features": argument(Tensor(np.float32, ("B", embed))),
        "targets": argument(Tensor(np.float32, ("B", "C"))),
        "logit_scale": argument(Tensor(np.float32, ())),
        "cotangent": argument(Tensor(np.float32, ("C", embed))),
        "need_grad": argument(Tensor(np.bool_, ())),
    }
    rows = _Rows(tower, inputs["context"], inputs["tokens"], inputs["ends"])
    suffix = weights.rows("token_embedding.weight", inputs["tokens"])
    x = rows.embed(weights, inputs["context"], suffix, start_token)
    tapes = []
    for layer in range(tower.layers):
        x, tape = _block(weights, rows, layer, x)
        tapes.append(tape)
    hidden, last_norm = _norm(weights, "ln_final", x, tower.epsilon)
    raw = op.matmul(hidden, weights["text_projection"])
    norm = op.reduce_l2(raw, ints(-1), keepdims=1)
    features = op.div(raw, norm)

    def with_gradient() -> Sequence[Var]:
        loss, d_features = _loss(inputs, features)
        along = op.reduce_sum(op.mul(features, d_features), ints(-1), keepdims=1)
        d_raw = op.div(op.sub(d_features, op.mul(features, along)), norm)
        d_hidden = op.matmul(d_raw, op.transpose(weights["text_projection"]))
        dx = vjp.layer_norm_backward(last_norm, d_hidden)
        for layer in reversed(range(tower.layers)):
            dx = _block_backward(weights, rows, layer, dx, tapes[layer])
        return [loss, rows.context_gradient(dx)]

    def without_gradient() -> Sequence[Var]:
        return [vjp.floats(0.0), op.const(np.zeros((0, 0, width), np.float32))]

    loss, gradient = op.if_(inputs["need_grad"], then_branch=with_gradient, else_branch=without_gradient)
    return inputs, {"features": features, "embeddings": suffix, "loss": loss, "gradient": gradient}


def _loss(inputs: dict[str, Var], features: Var) -> tuple[Var, Var]:
    """Cross-entropy of softmax(s * cos), and its gradient [C,E] with the given cotangent added."""
    image, targets, scale = inputs["image_features"], inputs["targets"], inputs["logit_scale"]
    logits = op.mul(op.matmul(image, op.transpose(features)), scale)
    log_p = op.log_softmax(logits, axis=-1)
    loss = op.neg(op.reduce_sum(op.mul(targets, log_p), keepdims=0))
    weight = op.reduce_sum(targets, ints(-1), keepdims=1)
    d_logits = op.mul(op.sub(op.mul(op.exp(log_p), weight), targets), scale)
    return loss, op.add(op.matmul(op.transpose(d_logits), image), inputs["cotangent"])


class _Rows:
    """How the tokens of all classes lie in one matrix of rows, and the masks and moves that follow from it."""

    def __init__(self, tower: TextTower, context: Var, tokens: Var, ends: Var) -> None:
        self.tower = tower
        self.heads = ints(tower.heads)
        self.head_width = tower.width // tower.heads
        self.groups, self.classes = dim(tokens, 0), dim(tokens, 1)
        self.prefix = op.add(dim(context, 1), ints(1))
        if tower.causal:  # own rows of a class: what follows the prefix
            self.own, first = dim(tokens, 2), op.mul(self.groups, self.prefix)
        else:  # own rows of a class: everything
            self.own, first = op.add(dim(tokens, 2), self.prefix), ints(0)
            ends = op.add(ends, self.prefix)
        self.shared_rows = first
        count = op.mul(self.groups, self.classes)
        ends = op.reshape(ends, ints(-1))
        self.end_rows = op.add(op.add(op.mul(_range(count), self.own), ends), first)
        ends = op.reshape(ends, op.concat([self.groups, ints(1), self.classes, ints(1, 1)], axis=0))
        at_end = op.equal(op.unsqueeze(_range(self.own), ints(1)), ends)
        self.at_end = op.cast(at_end, to=np.float32)  # [G, 1, R, own, 1]: 1 at the end token
        self.prefix_mask = self.own_mask = self.end_mask = None
        if tower.causal:
            self.prefix_mask = _causal_mask(self.prefix)
            self.own_mask = _causal_mask(self.own)
            self.end_mask = _mask(op.greater(_range(self.own), ends))

    def embed(self, weights: Weights, context: Var, suffix: Var, start_token: int) -> Var:
        """Input rows of the first block: token or context vector, plus position."""
        width, positions = ints(self.tower.width), weights["positional_embedding"]
        start = weights.rows("token_embedding.weight", ints(start_token))
        start = op.expand(start, op.concat([self.groups, ints(1), width], axis=0))
        prefix = op.concat([start, context], axis=1)
        flat = op.concat([ints(-1), width], axis=0)
        if self.tower.causal:
            prefix = op.add(prefix, op.slice(positions, ints(0), self.prefix))
            until = op.add(self.prefix, self.own)
            suffix = op.add(suffix, op.slice(positions, self.prefix, until))
            return op.concat([op.reshape(prefix, flat), op.reshape(suffix, flat)], axis=0)
        shape = op.concat([self.groups, self.classes, self.prefix, width], axis=0)
        every = op.concat([op.expand(op.unsqueeze(prefix, ints(1)), shape), suffix], axis=2)
        return op.reshape(op.add(every, op.slice(positions, ints(0), self.own)), flat)

    def context_gradient(self, dx: Var) -> Var:
        """Gradient [G,n,D] at the context vectors from that at the input rows."""
        width = ints(self.tower.width)
        if self.tower.causal:
            rows = op.slice(dx, ints(0), self.shared_rows, ints(0))
            rows = op.reshape(rows, op.concat([self.groups, self.prefix, width], axis=0))
        else:
            shape = op.concat([self.groups, self.classes, self.own, width], axis=0)
            rows = op.reduce_sum(op.reshape(dx, shape), ints(1), keepdims=0)
        return op.slice(rows, ints(1), self.prefix, ints(1))

    def split(self, x: Var) -> tuple[Var, Var]:
        """All rows to the shared prefix rows and the classes' own rows."""
        end = dim(x, 0)
        shared = op.slice(x, ints(0), self.shared_rows, ints(0))
        return shared, op.slice(x, self.shared_rows, end, ints(0))

    def prefix_heads(self, x: Var, count: int) -> Sequence[Var]:
        """[G*P, count*D] to `count` times [G, H, 1, P, hd]."""
        return self._heads(x, op.concat([self.groups, ints(1), self.prefix], axis=0), count)

    def own_heads(self, x: Var, count: int) -> Sequence[Var]:
        """[C*Q, count*D] to `count` times [G, H, R, Q, hd]; Q is S, or 1 in the last block."""
        return self._heads(x, op.concat([self.groups, self.classes, ints(-1)], axis=0), count)

    def _heads(self, x: Var, leading: Var, count: int) -> Sequence[Var]:
        shape = op.concat([leading, ints(count), self.heads, ints(self.head_width)], axis=0)
        stacked = op.transpose(op.reshape(x, shape), perm=[3, 0, 4, 1, 2, 5])
        return [op.gather(stacked, op.const(np.int64(k)), axis=0) for k in range(count)]

    def merge(self, parts: Sequence[Var]) -> Var:
        """Parts of [G, H, R, Q, hd] back to rows [G*R*Q, len(parts)*D]."""
        moved = [op.transpose(part, perm=[0, 2, 3, 1, 4]) for part in parts]
        flat = [op.reshape(part, ints(-1, self.tower.width)) for part in moved]
        return op.concat(flat, axis=1) if len(flat) > 1 else flat[0]


def _range(count: Var) -> Var:
    """0, 1, ... count - 1 for an int64 [1]."""
    return op.range(op.const(np.int64(0)), op.squeeze(count), op.const(np.int64(1)))


def _mask(hidden: Var) -> Var:
    """What to add to the scores: `_MASKED` where `hidden` is true, else 0."""
    return op.mul(op.cast(hidden, to=np.float32), vjp.floats(_MASKED))


def _causal_mask(count: Var) -> Var:
    """[count, count] mask that hides what comes later."""
    numbers = _range(count)
    return _mask(op.greater(op.unsqueeze(numbers, ints(0)), op.unsqueeze(numbers, ints(1))))


@dataclass(frozen=True)
class _BlockTape:
    """What a residual attention block keeps for its backward pass; `shared` is the prefix's own attention."""

    norm_1: vjp.NormTape
    shared: vjp.AttentionTape | None
    own: vjp.AttentionTape
    norm_2: vjp.NormTape
    gate: vjp.GateTape


def _norm(weights: Weights, name: str, x: Var, epsilon: float) -> tuple[Var, vjp.NormTape]:
    return vjp.layer_norm(x, weights[f"{name}.weight"], weights[f"{name}.bias"], epsilon)


def _block(weights: Weights, rows: _Rows, layer: int, x: Var) -> tuple[Var, _BlockTape]:
    """One residual attention block over all rows; the last one returns the end tokens' rows [C,D] only."""
    tower, last = rows.tower, layer == rows.tower.layers - 1
    name = f"transformer.resblocks.{layer}"

    def linear(part: str, value: Var, suffix: str = ".") -> Var:
        return vjp.linear(
            value, weights[f"{name}.{part}{suffix}weight"], weights[f"{name}.{part}{suffix}bias"]
        )

    hidden, norm_1 = _norm(weights, f"{name}.ln_1", x, tower.epsilon)
    qkv = linear("attn.in_proj", hidden, "_")
    shared_qkv, own_qkv = rows.split(qkv) if tower.causal else (None, qkv)
    q, k, v = rows.own_heads(own_qkv, 3)
    if last:
        x = op.gather(x, rows.end_rows)
        (q, _, _) = rows.own_heads(op.gather(qkv, rows.end_rows), 3)
    merged, prefix, shared = [], None, None
    if shared_qkv is not None:
        shared_q, *prefix = rows.prefix_heads(shared_qkv, 3)
        if not last:
            out, shared = vjp.attend(shared_q, prefix[0], prefix[1], rows.prefix_mask, rows.head_width)
            merged.append(rows.merge([out]))
    mask = rows.end_mask if last else rows.own_mask
    out, own = vjp.attend(q, k, v, mask, rows.head_width, prefix)
    merged.append(rows.merge([out]))
    x = op.add(x, linear("attn.out_proj", op.concat(merged, axis=0)))
    hidden, norm_2 = _norm(weights, f"{name}.ln_2", x, tower.epsilon)
    wide, gate = vjp.activation(tower.activation, linear("mlp.c_fc", hidden))
    return op.add(x, linear("mlp.c_proj", wide)), _BlockTape(norm_1, shared, own, norm_2, gate)


def _block_backward(weights: Weights, rows: _Rows, layer: int, dx: Var, tape: _BlockTape) -> Var:
    """Gradient at a block's input rows; in the first block of a causal tower, at the prefix rows only."""
    tower, last = rows.tower, layer == rows.tower.layers - 1
    name = f"transformer.resblocks.{layer}"
    only_prefix = tower.causal and layer == 0
    d_wide = vjp.activation_backward(tape.gate, op.matmul(dx, weights[f"{name}.mlp.c_proj.weight"]))
    d_hidden = op.matmul(d_wide, weights[f"{name}.mlp.c_fc.weight"])
    dx = op.add(dx, vjp.layer_norm_backward(tape.norm_2, d_hidden))
    d_merged = op.matmul(dx, weights[f"{name}.attn.out_proj.weight"])
    d_shared, d_own = rows.split(d_merged) if tape.shared is not None else (None, d_merged)
    (d_out,) = rows.own_heads(d_own, 1)
    (d_q, d_k, d_v), d_prefix = vjp.attend_backward(tape.own, d_out)
    d_qkv = []
    if d_prefix:
        d_shared_q = op.expand(vjp.floats(0.0), op.shape(d_prefix[0]))
        if tape.shared is not None and d_shared is not None:
            (d_shared_out,) = rows.prefix_heads(d_shared, 1)
            (d_shared_q, *d_self), _ = vjp.attend_backward(tape.shared, d_shared_out)
            d_prefix = [op.add(a, b) for a, b in zip(d_prefix, d_self, strict=True)]
        d_qkv.append(rows.merge([d_shared_q, *d_prefix]))
    if not only_prefix:
        d_qkv.append(rows.merge([op.mul(d_q, rows.at_end) if last else d_q, d_k, d_v]))
    d_hidden = op.matmul(op.concat(d_qkv, axis=0), weights[f"{name}.attn.in_proj_weight"])
    if not only_prefix:
        d_in = vjp.layer_norm_backward(tape.norm_1, d_hidden)
        if last:
            return op.scatter_nd(d_in, op.unsqueeze(rows.end_rows, ints(1)), dx, reduction="add")
        return op.add(d_in, dx)
    norm, (first, _) = tape.norm_1, rows.split(dx)
    norm = vjp.NormTape(rows.split(norm.x)[0], rows.split(norm.mean)[0], rows.split(norm.rstd)[0], norm.scale)
    return op.add(vjp.layer_norm_backward(norm, d_hidden), first)
