"""A ViT image tower with prompts in its blocks (MaPLe), and the gradient at them, as ONNX operators.

Prompts stand behind the image's own tokens; before blocks 1 to J-1 those of the block take their places (Khattak et
al. 2023, Eq. 6). What comes before the first normalisation, patches or a stem, is traced from torch: it sees no prompt.

Inputs (dimensions in brackets are dynamic):

    tokens          float32 [B, T, D]  class token and patches with their positions; a merged graph has `pixels` instead
    prompts         float32 [J, n, D]  prompts of the first J blocks
    class_features  float32 [C, E]     unit features of the classes
    targets         float32 [B, C]     weight of each class as the true one; rows of a mean loss sum to 1/B
    logit_scale     float32 []         s in softmax(s * cos)
    need_grad       bool    []         run the backward part

Outputs: `features` float32 [B, E]; `loss` float32 []; `gradient` float32 [J, n, D] of the loss; `class_gradient`
float32 [C, E], which the text graph takes as its cotangent. The last three are zero or empty without `need_grad`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import spox.opset.ai.onnx.v18 as op
from onnx import compose
from spox import Tensor, Var, argument

from qprompt_exporters import vjp
from qprompt_exporters.storage import Weights
from qprompt_exporters.towers import ImageTransformer
from qprompt_exporters.vjp import dim, ints


def with_stem(stem: onnx.ModelProto, deep: onnx.ModelProto) -> onnx.ModelProto:
    """Feed the output `tokens` of a traced stem to the input of the same name."""
    merged: onnx.ModelProto = compose.merge_models(stem, deep, io_map=[("tokens", "tokens")])
    return merged


def deep_image_graph(
    tower: ImageTransformer, weights: Weights, depth: int
) -> tuple[dict[str, Var], dict[str, Var]]:
    """Write the graph described at the top of this module.

    Args:
        tower: The image tower; only its facts are used here.
        weights: Its arrays, as graph values.
        depth: Blocks that have prompts, J.

    Returns:
        The graph's inputs and its outputs, by name.
    """
    width, embed = tower.width, tower.embed_dim
    inputs = {
        "tokens": argument(Tensor(np.float32, ("B", "T", width))),
        "prompts": argument(Tensor(np.float32, (depth, "n", width))),
        "class_features": argument(Tensor(np.float32, ("C", embed))),
        "targets": argument(Tensor(np.float32, ("B", "C"))),
        "logit_scale": argument(Tensor(np.float32, ())),
        "need_grad": argument(Tensor(np.bool_, ())),
    }
    rows = _Rows(tower, inputs["tokens"], inputs["prompts"])
    x = rows.first(inputs["tokens"], inputs["prompts"])
    pre_norm = None
    if tower.norm_before:
        x, pre_norm = _norm(weights, "ln_pre", x, tower.epsilon)
    tapes = []
    for layer in range(tower.layers):
        if 0 < layer < depth:
            x = rows.replace(x, _layer(inputs["prompts"], layer))
        x, tape = _block(weights, rows, layer, x)
        tapes.append(tape)
    pooled, post_norm = _norm(weights, "ln_post", rows.pooled(x), tower.epsilon)
    features, norm = vjp.unit(op.matmul(rows.mean(pooled), weights["proj"]))

    def with_gradient() -> Sequence[Var]:
        classes = inputs["class_features"]
        loss, d_cosines = vjp.cross_entropy(features, classes, inputs["targets"], inputs["logit_scale"])
        d_raw = vjp.unit_backward(features, norm, op.matmul(d_cosines, classes))
        d_pooled = rows.mean_backward(op.matmul(d_raw, op.transpose(weights["proj"])))
        dx = rows.pooled_backward(vjp.layer_norm_backward(post_norm, d_pooled))
        gradients: list[Var] = []
        for layer in reversed(range(tower.layers)):
            dx = _block_backward(weights, rows, layer, dx, tapes[layer])
            if 0 < layer < depth:
                d_prompts, dx = rows.replace_backward(dx)
                gradients.insert(0, d_prompts)
        if pre_norm is not None:
            dx = vjp.layer_norm_backward(pre_norm, dx)
        gradients.insert(0, rows.replace_backward(dx)[0])
        gradient = op.concat([op.unsqueeze(part, ints(0)) for part in gradients], axis=0)
        return [loss, gradient, op.matmul(op.transpose(d_cosines), features)]

    def without_gradient() -> Sequence[Var]:
        nothing = [op.const(np.zeros(shape, np.float32)) for shape in ((0, 0, width), (0, embed))]
        return [vjp.floats(0.0), *nothing]

    loss, gradient, class_gradient = op.if_(
        inputs["need_grad"], then_branch=with_gradient, else_branch=without_gradient
    )
    outputs = {"features": features, "loss": loss, "gradient": gradient, "class_gradient": class_gradient}
    return inputs, outputs


class _Rows:
    """B images of Q = T + n tokens each, as rows [B*Q, D]: the image's own tokens first, then the prompts."""

    def __init__(self, tower: ImageTransformer, tokens: Var, prompts: Var) -> None:
        self.tower = tower
        self.batch, self.own, self.count = dim(tokens, 0), dim(tokens, 1), dim(prompts, 1)
        self.width = ints(tower.width)
        self.first_pooled, self.end_pooled = (ints(1), self.own) if tower.average else (ints(0), ints(1))
        self.pool_count = op.sub(self.end_pooled, self.first_pooled)

    def _images(self, x: Var) -> Var:
        return op.reshape(x, op.concat([self.batch, ints(-1), self.width], axis=0))

    def _flat(self, x: Var) -> Var:
        return op.reshape(x, ints(-1, self.tower.width))

    def first(self, tokens: Var, prompts: Var) -> Var:
        """Rows of the first block."""
        return self._with_prompts(tokens, _layer(prompts, 0))

    def _with_prompts(self, own: Var, prompts: Var) -> Var:
        shape = op.concat([self.batch, self.count, self.width], axis=0)
        return self._flat(op.concat([own, op.expand(op.unsqueeze(prompts, ints(0)), shape)], axis=1))

    def replace(self, x: Var, prompts: Var) -> Var:
        """Put prompts [n,D] in the places of the earlier block's."""
        return self._with_prompts(op.slice(self._images(x), ints(0), self.own, ints(1)), prompts)

    def replace_backward(self, dx: Var) -> tuple[Var, Var]:
        """Gradient at the prompts [n,D], and at the rows that `replace` was given."""
        images = self._images(dx)
        own = op.slice(images, ints(0), self.own, ints(1))
        inner = op.slice(images, self.own, dim(images, 1), ints(1))
        kept = op.concat([own, op.expand(vjp.floats(0.0), op.shape(inner))], axis=1)
        return op.reduce_sum(inner, ints(0), keepdims=0), self._flat(kept)

    def heads(self, x: Var, parts: int) -> Sequence[Var]:
        """[B*Q, parts*D] to `parts` times [B, H, 1, Q, hd]."""
        heads, head_width = self.tower.heads, self.tower.width // self.tower.heads
        shape = op.concat([self.batch, ints(1, -1, parts, heads, head_width)], axis=0)
        stacked = op.transpose(op.reshape(x, shape), perm=[3, 0, 4, 1, 2, 5])
        return [op.gather(stacked, op.const(np.int64(k)), axis=0) for k in range(parts)]

    def merge(self, parts: Sequence[Var]) -> Var:
        """Parts of [B, H, 1, Q, hd] back to rows [B*Q, len(parts)*D]."""
        flat = [self._flat(op.transpose(part, perm=[0, 2, 3, 1, 4])) for part in parts]
        return op.concat(flat, axis=1) if len(flat) > 1 else flat[0]

    def pooled(self, x: Var) -> Var:
        """The rows that make the feature: each image's class token, or its patches."""
        return self._flat(op.slice(self._images(x), self.first_pooled, self.end_pooled, ints(1)))

    def pooled_backward(self, d_rows: Var) -> Var:
        """Gradient at all rows: zero at those that `pooled` left out."""
        before = op.concat([ints(0), self.first_pooled, ints(0)], axis=0)
        total = op.add(self.own, self.count)
        after = op.concat([ints(0), op.sub(total, self.end_pooled), ints(0)], axis=0)
        return self._flat(op.pad(self._images(d_rows), op.concat([before, after], axis=0)))

    def mean(self, rows: Var) -> Var:
        """One row [B,D] an image."""
        return op.reduce_mean(self._images(rows), ints(1), keepdims=0)

    def mean_backward(self, d_mean: Var) -> Var:
        """Gradient at the rows that `mean` was given."""
        share = op.div(d_mean, op.cast(self.pool_count, to=np.float32))
        shape = op.concat([self.batch, self.pool_count, self.width], axis=0)
        return self._flat(op.expand(op.unsqueeze(share, ints(1)), shape))


@dataclass(frozen=True)
class _BlockTape:
    """What a residual attention block keeps for its backward pass."""

    norm: vjp.NormTape
    attention: vjp.AttentionTape
    feed_forward: vjp.FeedForwardTape


def _layer(prompts: Var, layer: int) -> Var:
    return op.gather(prompts, op.const(np.int64(layer)))


def _norm(weights: Weights, name: str, x: Var, epsilon: float) -> tuple[Var, vjp.NormTape]:
    return vjp.layer_norm(x, weights[f"{name}.weight"], weights[f"{name}.bias"], epsilon)


def _block(weights: Weights, rows: _Rows, layer: int, x: Var) -> tuple[Var, _BlockTape]:
    """One residual attention block."""
    tower, name = rows.tower, f"transformer.resblocks.{layer}"
    hidden, norm = _norm(weights, f"{name}.ln_1", x, tower.epsilon)
    qkv = vjp.linear(hidden, weights[f"{name}.attn.in_proj_weight"], weights[f"{name}.attn.in_proj_bias"])
    q, k, v = rows.heads(qkv, 3)
    out, attention = vjp.attend(q, k, v, None, tower.width // tower.heads)
    merged = rows.merge([out])
    x = op.add(
        x,
        vjp.linear(merged, weights[f"{name}.attn.out_proj.weight"], weights[f"{name}.attn.out_proj.bias"]),
    )
    x, feed_forward = vjp.feed_forward(weights, name, tower.activation, tower.epsilon, x)
    return x, _BlockTape(norm, attention, feed_forward)


def _block_backward(weights: Weights, rows: _Rows, layer: int, dx: Var, tape: _BlockTape) -> Var:
    """Gradient at a block's input rows."""
    name = f"transformer.resblocks.{layer}"
    dx = vjp.feed_forward_backward(weights, name, tape.feed_forward, dx)
    (d_out,) = rows.heads(op.matmul(dx, weights[f"{name}.attn.out_proj.weight"]), 1)
    d_parts, _ = vjp.attend_backward(tape.attention, d_out)
    d_hidden = op.matmul(rows.merge(d_parts), weights[f"{name}.attn.in_proj_weight"])
    return op.add(dx, vjp.layer_norm_backward(tape.norm, d_hidden))
