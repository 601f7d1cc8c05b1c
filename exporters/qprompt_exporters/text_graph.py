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

A deep graph (MaPLe) has one more input, `deep_prompts` float32 [J-1, n, D], which take the context's places before
blocks 1 to J-1, and one more output, `deep_gradient`.

How rows lie and what a causal tower saves is in `text_rows.py`. Two more savings are exact: in the last block only the end token's row is computed, and in the first block of
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
from qprompt_exporters.text_rows import Rows
from qprompt_exporters.towers import TextTower
from qprompt_exporters.vjp import ints


def text_graph(
    tower: TextTower, weights: Weights, start_token: int, depth: int = 1
) -> tuple[dict[str, Var], dict[str, Var]]:
    """Write the graph described at the top of this module.

    Args:
        tower: The text tower; only its facts are used here.
        weights: Its arrays, as graph values.
        start_token: Id of the start-of-text token.
        depth: Blocks that have prompts of their own, J; 1: only the input.

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
    deep = argument(Tensor(np.float32, (depth - 1, "n", width)))
    if depth > 1:
        inputs["deep_prompts"] = deep
    rows = Rows(tower, inputs["context"], inputs["tokens"], inputs["ends"])
    suffix = weights.rows("token_embedding.weight", inputs["tokens"])
    x = rows.embed(weights, inputs["context"], suffix, start_token)
    tapes = []
    for layer in range(tower.layers):
        if 0 < layer < depth:
            x = rows.replace_context(x, op.gather(deep, op.const(np.int64(layer - 1))))
        x, tape = _block(weights, rows, layer, x)
        tapes.append(tape)
    hidden, last_norm = _norm(weights, "ln_final", x, tower.epsilon)
    raw = op.matmul(hidden, weights["text_projection"])
    features, norm = vjp.unit(raw)

    def with_gradient() -> Sequence[Var]:
        image, targets = inputs["image_features"], inputs["targets"]
        loss, d_cosines = vjp.cross_entropy(image, features, targets, inputs["logit_scale"])
        d_features = op.add(op.matmul(op.transpose(d_cosines), image), inputs["cotangent"])
        d_raw = vjp.unit_backward(features, norm, d_features)
        d_hidden = op.matmul(d_raw, op.transpose(weights["text_projection"]))
        dx = vjp.layer_norm_backward(last_norm, d_hidden)
        d_deep: list[Var] = []
        for layer in reversed(range(tower.layers)):
            dx = _block_backward(weights, rows, layer, dx, tapes[layer])
            if 0 < layer < depth:
                d_prompts, dx = rows.replace_context_backward(dx)
                d_deep.insert(0, op.unsqueeze(d_prompts, ints(0)))
        gradients = [rows.context_gradient(dx)] + ([op.concat(d_deep, axis=0)] if d_deep else [])
        return [loss, *gradients]

    def without_gradient() -> Sequence[Var]:
        empty = op.const(np.zeros((0, 0, width), np.float32))
        return [vjp.floats(0.0), *([empty] * min(depth, 2))]

    answers = op.if_(inputs["need_grad"], then_branch=with_gradient, else_branch=without_gradient)
    names = ("loss", "gradient", "deep_gradient")
    return inputs, {"features": features, "embeddings": suffix, **dict(zip(names, answers, strict=False))}


@dataclass(frozen=True)
class _BlockTape:
    """What a residual attention block keeps for its backward pass; `shared` is the prefix's own attention."""

    norm_1: vjp.NormTape
    shared: vjp.AttentionTape | None
    own: vjp.AttentionTape
    feed_forward: vjp.FeedForwardTape


def _norm(weights: Weights, name: str, x: Var, epsilon: float) -> tuple[Var, vjp.NormTape]:
    return vjp.layer_norm(x, weights[f"{name}.weight"], weights[f"{name}.bias"], epsilon)


def _block(weights: Weights, rows: Rows, layer: int, x: Var) -> tuple[Var, _BlockTape]:
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
    x, feed_forward = vjp.feed_forward(weights, name, tower.activation, tower.epsilon, x)
    return x, _BlockTape(norm_1, shared, own, feed_forward)


def _block_backward(weights: Weights, rows: Rows, layer: int, dx: Var, tape: _BlockTape) -> Var:
    """Gradient at a block's input rows; in the first block of a causal tower, at the prefix rows only."""
    tower, last = rows.tower, layer == rows.tower.layers - 1
    name = f"transformer.resblocks.{layer}"
    only_prefix = tower.causal and layer == 0
    dx = vjp.feed_forward_backward(weights, name, tape.feed_forward, dx)
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
