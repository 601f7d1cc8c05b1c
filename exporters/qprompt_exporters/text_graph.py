"""The text tower as one ONNX graph, and its gradient as another.

The first gives the unit features of C classes. The second gives the loss on a batch of image features and its
gradient with respect to the context vectors. Its backward pass is written by hand with plain operators, so
that ordinary onnxruntime can train. They are two graphs over one file of weights, not one with a branch,
because a session keeps memory for all that its graph can compute. Prediction needs neither the tape of a
backward pass nor weights packed for two directions.

Inputs of both (dimensions in brackets are dynamic):

    context         float32 [G, n, D]  context vectors; G = 1: one context for all classes, G = C: one each
    tokens          int64   [G, R, S]  what follows the context, per class: name, end token, padding (C = G*R)
    ends            int64   [G, R]     where in the S tokens the end token stands

and of the gradient:

    image_features  float32 [B, E]     unit features of a batch
    targets         float32 [B, C]     weight of each class as the true one; rows of a mean loss sum to 1/B
    logit_scale     float32 []         s in softmax(s * cos)
    cotangent       float32 [C, E]     added to the loss's gradient at the features (classes in chunks)

Outputs of the first: `features` float32 [C, E]; `embeddings` float32 [G, R, S, D], the rows of the token
table. Of the second: `loss` float32 [] = -sum(targets * log softmax(s * image @ features^T)); `gradient`
float32 [G, n, D] of loss + sum(cotangent * features).

Deep graphs (MaPLe) have one more input, `deep_prompts` float32 [J-1, n, D], which replaces the context before
blocks 1 to J-1. The second has one more output, `deep_gradient`.

`text_rows.py` says how rows lie and what a causal tower saves. Two more savings are exact: in the last block
only the end token's row is computed, and in the first block of a causal tower the backward pass ends at the
prefix rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import spox.opset.ai.onnx.v18 as op
from spox import Tensor, Var, argument

from qprompt_exporters import vjp
from qprompt_exporters.storage import Weights
from qprompt_exporters.text_rows import Rows
from qprompt_exporters.towers import TextTower
from qprompt_exporters.vjp import ints

Values = dict[str, Var]


def text_graph(tower: TextTower, weights: Weights, start_token: int, depth: int = 1) -> tuple[Values, Values]:
    """Write the graph of the features.

    Args:
        tower: The text tower; only its facts are used here.
        weights: Its arrays, as graph values.
        start_token: Id of the start-of-text token.
        depth: Blocks that have prompts of their own, J; 1: only the input.

    Returns:
        The graph's inputs and its outputs, by name.
    """
    inputs = _class_inputs(tower, depth)
    forward = _forward(tower, weights, start_token, depth, inputs)
    return inputs, {"features": forward.features, "embeddings": forward.suffix}


def text_gradient_graph(
    tower: TextTower, weights: Weights, start_token: int, depth: int = 1
) -> tuple[Values, Values]:
    """Write the graph of the loss and its gradient; arguments and return value as those of `text_graph`."""
    embed = tower.embed_dim
    inputs = _class_inputs(tower, depth) | {
        "image_features": argument(Tensor(np.float32, ("B", embed))),
        "targets": argument(Tensor(np.float32, ("B", "C"))),
        "logit_scale": argument(Tensor(np.float32, ())),
        "cotangent": argument(Tensor(np.float32, ("C", embed))),
    }
    forward = _forward(tower, weights, start_token, depth, inputs)
    image, rows = inputs["image_features"], forward.rows
    loss, d_cosines = vjp.cross_entropy(image, forward.features, inputs["targets"], inputs["logit_scale"])
    d_features = op.add(op.matmul(op.transpose(d_cosines), image), inputs["cotangent"])
    d_raw = vjp.unit_backward(forward.features, forward.norm, d_features)
    d_hidden = op.matmul(d_raw, op.transpose(weights["text_projection"]))
    dx = vjp.layer_norm_backward(forward.last_norm, d_hidden)
    d_deep: list[Var] = []
    for layer in reversed(range(tower.layers)):
        dx = _block_backward(weights, rows, layer, dx, forward.tapes[layer])
        if 0 < layer < depth:
            d_prompts, dx = rows.replace_context_backward(dx)
            d_deep.insert(0, op.unsqueeze(d_prompts, ints(0)))
    outputs = {"loss": loss, "gradient": rows.context_gradient(dx)}
    return inputs, outputs | ({"deep_gradient": op.concat(d_deep, axis=0)} if d_deep else {})


def _class_inputs(tower: TextTower, depth: int) -> Values:
    """The inputs of both graphs, which say what the classes' prompts are."""
    inputs = {
        "context": argument(Tensor(np.float32, ("G", "n", tower.width))),
        "tokens": argument(Tensor(np.int64, ("G", "R", "S"))),
        "ends": argument(Tensor(np.int64, ("G", "R"))),
    }
    if depth > 1:
        inputs["deep_prompts"] = argument(Tensor(np.float32, (depth - 1, "n", tower.width)))
    return inputs


@dataclass(frozen=True)
class _Forward:
    """The features of the classes, and what their backward pass needs."""

    rows: Rows
    suffix: Var
    tapes: list[_BlockTape]
    last_norm: vjp.NormTape
    features: Var
    norm: Var


def _forward(tower: TextTower, weights: Weights, start_token: int, depth: int, inputs: Values) -> _Forward:
    """From prompts to unit features."""
    rows = Rows(tower, inputs["context"], inputs["tokens"], inputs["ends"])
    suffix = weights.rows("token_embedding.weight", inputs["tokens"])
    x = rows.embed(weights, inputs["context"], suffix, start_token)
    tapes = []
    for layer in range(tower.layers):
        if 0 < layer < depth:
            prompts = op.gather(inputs["deep_prompts"], op.const(np.int64(layer - 1)))
            x = rows.replace_context(x, prompts)
        x, tape = _block(weights, rows, layer, x)
        tapes.append(tape)
    hidden, last_norm = _norm(weights, "ln_final", x, tower.epsilon)
    features, norm = vjp.unit(op.matmul(hidden, weights["text_projection"]))
    return _Forward(rows, suffix, tapes, last_norm, features, norm)


@dataclass(frozen=True)
class _BlockTape:
    """What a residual attention block keeps for its backward pass."""

    norm_1: vjp.NormTape
    attention: vjp.AttentionTape
    feed_forward: vjp.FeedForwardTape


def _norm(weights: Weights, name: str, x: Var, epsilon: float) -> tuple[Var, vjp.NormTape]:
    return vjp.layer_norm(x, weights[f"{name}.weight"], weights[f"{name}.bias"], epsilon)


def _block(weights: Weights, rows: Rows, layer: int, x: Var) -> tuple[Var, _BlockTape]:
    """One residual attention block over all rows; the last one returns the end tokens' rows [C,D] only."""
    tower, last = rows.tower, layer == rows.tower.layers - 1
    name, head_width = f"transformer.resblocks.{layer}", tower.width // tower.heads

    def linear(part: str, value: Var, suffix: str = ".") -> Var:
        return vjp.linear(
            value, weights[f"{name}.{part}{suffix}weight"], weights[f"{name}.{part}{suffix}bias"]
        )

    hidden, norm_1 = _norm(weights, f"{name}.ln_1", x, tower.epsilon)
    queries, *others = rows.every[3]
    q, k, v = rows.heads(linear("attn.in_proj", hidden, "_"), [rows.ends[3][0] if last else queries, *others])
    out, attention = vjp.attend(q, k, v, rows.end_mask if last else rows.mask, head_width)
    merged = rows.merge(out, rows.answer_rows if last else rows.all_rows)
    if last:
        x = op.gather(x, rows.end_rows)
    x = op.add(x, linear("attn.out_proj", merged))
    x, feed_forward = vjp.feed_forward(weights, name, tower.activation, tower.epsilon, x)
    return x, _BlockTape(norm_1, attention, feed_forward)


def _block_backward(weights: Weights, rows: Rows, layer: int, dx: Var, tape: _BlockTape) -> Var:
    """Gradient at a block's input rows; in the first block of a causal tower, at the prefix rows only."""
    tower, last = rows.tower, layer == rows.tower.layers - 1
    name = f"transformer.resblocks.{layer}"
    only_prefix = tower.causal and layer == 0
    dx = vjp.feed_forward_backward(weights, name, tape.feed_forward, dx)
    d_merged = op.matmul(dx, weights[f"{name}.attn.out_proj.weight"])
    (d_out,) = rows.heads(d_merged, rows.answers[1] if last else rows.every[1])
    used = rows.used_answers if last else rows.used
    if used is not None:
        d_out = op.mul(d_out, used)  # a place that repeats a row was not read
    d_q, d_k, d_v = vjp.attend_backward(tape.attention, d_out)
    if last:
        d_q = op.matmul(rows.at_end, d_q)
    d_qkv = rows.merge_gradients([d_q, d_k, d_v], only_shared=only_prefix)
    d_hidden = op.matmul(d_qkv, weights[f"{name}.attn.in_proj_weight"])
    if not only_prefix:
        d_in = vjp.layer_norm_backward(tape.norm_1, d_hidden)
        if last:
            return op.scatter_nd(d_in, op.unsqueeze(rows.end_rows, ints(1)), dx, reduction="add")
        return op.add(d_in, dx)
    norm = tape.norm_1
    norm = vjp.NormTape(rows.shared(norm.x), rows.shared(norm.mean), rows.shared(norm.rstd), norm.scale)
    return op.add(vjp.layer_norm_backward(norm, d_hidden), rows.shared(dx))
