"""A ViT image tower with prompts in its blocks (MaPLe), and the gradient at them, as ONNX operators.

Prompts stand behind the image's own tokens; before blocks 1 to J-1 those of the block take their places
(Khattak et al. 2023, Eq. 6). The blocks are those of `vit_graph.py`; the stem before them sees no prompt and
is a graph of its own (`image_graph.stem_graph`).

Inputs (B, n and C are free):

    tokens          float32 [B, T, D]  class token and patches with positions, as the stem's graph gives them
    prompts         float32 [J, n, D]  prompts of the first J blocks
    class_features  float32 [C, E]     unit features of the classes
    targets         float32 [B, C]     weight of each class as the true one; rows of a mean loss sum to 1/B
    logit_scale     float32 []         s in softmax(s * cos)
    need_grad       bool    []         run the backward part

Outputs: `features` float32 [B, E]; `loss` float32 []; `gradient` float32 [J, n, D] of the loss;
`class_gradient` float32 [C, E], which the text graph takes as its cotangent. The last three are zero or empty
without `need_grad`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import spox.opset.ai.onnx.v18 as op
from spox import Tensor, Var, argument

from qprompt_exporters import vjp
from qprompt_exporters.storage import Weights
from qprompt_exporters.towers import ImageTransformer
from qprompt_exporters.vit_graph import BlockTape, ImageRows, before_blocks, behind_blocks, block
from qprompt_exporters.vjp import dim, ints


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
        "tokens": argument(Tensor(np.float32, ("B", tower.tokens, width))),
        "prompts": argument(Tensor(np.float32, (depth, "n", width))),
        "class_features": argument(Tensor(np.float32, ("C", embed))),
        "targets": argument(Tensor(np.float32, ("B", "C"))),
        "logit_scale": argument(Tensor(np.float32, ())),
        "need_grad": argument(Tensor(np.bool_, ())),
    }
    rows = _PromptedRows(tower, inputs["tokens"], inputs["prompts"])
    x, pre_norm = before_blocks(weights, rows, rows.first(inputs["tokens"], inputs["prompts"]))
    tapes = []
    for layer in range(tower.layers):
        if 0 < layer < depth:
            x = rows.replace(x, _layer(inputs["prompts"], layer))
        x, tape = block(weights, rows, layer, x)
        tapes.append(tape)
    found = behind_blocks(weights, rows, x)
    features = found.unit

    def with_gradient() -> Sequence[Var]:
        classes = inputs["class_features"]
        loss, d_cosines = vjp.cross_entropy(features, classes, inputs["targets"], inputs["logit_scale"])
        d_raw = vjp.unit_backward(features, found.length, op.matmul(d_cosines, classes))
        d_pooled = rows.mean_backward(op.matmul(d_raw, op.transpose(weights["proj"])))
        dx = vjp.layer_norm_backward(found.norm, d_pooled)
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


class _PromptedRows(ImageRows):
    """Rows with n prompts behind each image's own T tokens."""

    def __init__(self, tower: ImageTransformer, tokens: Var, prompts: Var) -> None:
        self.count = dim(prompts, 1)
        super().__init__(tower, dim(tokens, 0), tower.tokens, self.count)

    def first(self, tokens: Var, prompts: Var) -> Var:
        """Rows of the first block."""
        return self._with_prompts(tokens, _layer(prompts, 0))

    def _with_prompts(self, own: Var, prompts: Var) -> Var:
        shape = op.concat([self.batch, self.count, self.width], axis=0)
        return self.flat(op.concat([own, op.expand(op.unsqueeze(prompts, ints(0)), shape)], axis=1))

    def replace(self, x: Var, prompts: Var) -> Var:
        """Put prompts [n,D] in the places of the earlier block's."""
        return self._with_prompts(op.slice(self.images(x), ints(0), self.own, ints(1)), prompts)

    def replace_backward(self, dx: Var) -> tuple[Var, Var]:
        """Gradient at the prompts [n,D], and at the rows that `replace` was given."""
        images = self.images(dx)
        own = op.slice(images, ints(0), self.own, ints(1))
        inner = op.slice(images, self.own, dim(images, 1), ints(1))
        kept = op.concat([own, op.expand(vjp.floats(0.0), op.shape(inner))], axis=1)
        return op.reduce_sum(inner, ints(0), keepdims=0), self.flat(kept)

    def pooled_backward(self, d_rows: Var) -> Var:
        """Gradient at all rows: zero at those that `pooled` left out."""
        return self.flat(op.pad(self.images(d_rows), self._left_out(before=1, after=1)))

    def pooled_queries_backward(self, d_q: Var) -> Var:
        """Gradient at all queries: zero at those that `pooled_queries` left out."""
        return op.pad(d_q, self._left_out(before=3, after=1))

    def _left_out(self, before: int, after: int) -> Var:
        """What to pad a dimension by, `before` others standing before it and `after` others behind it."""
        none_before, none_after = ints(*[0] * before), ints(*[0] * after)
        begin = [none_before, self.first_pooled, none_after]
        return op.concat([*begin, none_before, op.sub(self.queries, self.end_pooled), none_after], axis=0)

    def mean_backward(self, d_mean: Var) -> Var:
        """Gradient at the rows that `mean` was given."""
        if not self.tower.average:
            return d_mean
        share = op.div(d_mean, op.cast(self.pool_count, to=np.float32))
        shape = op.concat([self.batch, self.pool_count, self.width], axis=0)
        return self.flat(op.expand(op.unsqueeze(share, ints(1)), shape))


def _layer(prompts: Var, layer: int) -> Var:
    return op.gather(prompts, op.const(np.int64(layer)))


def _block_backward(weights: Weights, rows: _PromptedRows, layer: int, dx: Var, tape: BlockTape) -> Var:
    """Gradient at a block's input rows, from that at the rows it returns."""
    name = f"transformer.resblocks.{layer}"
    last = layer == rows.tower.layers - 1
    dx = vjp.feed_forward_backward(weights, name, tape.feed_forward, dx)
    (d_out,) = rows.heads(op.matmul(dx, weights[f"{name}.attn.out_proj.weight"]), 1, pooled=last)
    d_q, d_k, d_v = vjp.attend_backward(tape.attention, d_out)
    if last:
        d_q, dx = rows.pooled_queries_backward(d_q), rows.pooled_backward(dx)
    d_hidden = op.matmul(rows.merge([d_q, d_k, d_v]), weights[f"{name}.attn.in_proj_weight"])
    return op.add(dx, vjp.layer_norm_backward(tape.norm, d_hidden))
