"""A ViT image tower behind its patches, as ONNX operators: tokens to unit features.

What comes before the first normalisation, patches or a stem, is traced from torch (`image_graph.stem_graph`).
Tokens of all images lie as rows of one matrix, so that normalisations and linear maps are one operation; only
attention tells images apart. In the last block only the rows that make the feature are computed, which is
exact: of a class token's tower that saves most of a block.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import spox.opset.ai.onnx.v18 as op
from spox import Tensor, Var, argument

from qprompt_exporters import vjp
from qprompt_exporters.storage import Weights
from qprompt_exporters.towers import ImageTransformer
from qprompt_exporters.vjp import dim, floats, ints

Values = dict[str, Var]


def vit_graph(tower: ImageTransformer, weights: Weights) -> tuple[Values, Values]:
    """Write the graph of the features.

    Args:
        tower: The image tower; only its facts are used here.
        weights: Its arrays, as graph values.

    Returns:
        The input `tokens` float32 [B,T,D], class token and patches with their positions, and the output
        `features` float32 [B,E], rows of length 1.
    """
    tokens = argument(Tensor(np.float32, ("B", tower.tokens, tower.width)))
    rows = ImageRows(tower, dim(tokens, 0), tower.tokens)
    x, _ = before_blocks(weights, rows, rows.flat(tokens))
    for layer in range(tower.layers):
        x, _ = block(weights, rows, layer, x)
    return {"tokens": tokens}, {"features": behind_blocks(weights, rows, x).unit}


class ImageRows:
    """B images of Q tokens each, as rows [B*Q, D]: class token and patches, then what prompts there are.

    Args:
        tower: The image tower; only its facts are used here.
        batch: B, int64 [1].
        tokens: Class token and patches of an image.
        prompts: Prompts of an image, int64 [1].
        sizes: float32 [B,tokens,1], of how many tokens each was merged (`token_merging.py`); None: of one.
    """

    def __init__(
        self,
        tower: ImageTransformer,
        batch: Var,
        tokens: int,
        prompts: Var | None = None,
        sizes: Var | None = None,
    ) -> None:
        self.tower, self.tokens, self.sizes = tower, tokens, sizes
        self.batch, self.own = batch, ints(tokens)
        self.queries = self.own if prompts is None else op.add(self.own, prompts)
        self.width = ints(tower.width)
        self.head_width = tower.width // tower.heads
        self.first_pooled, self.end_pooled = (ints(1), self.own) if tower.average else (ints(0), ints(1))
        self.pool_count = op.sub(self.end_pooled, self.first_pooled)

    def images(self, x: Var) -> Var:
        """Rows [B*Q, D] to [B,Q,D]."""
        return op.reshape(x, op.concat([self.batch, ints(-1), self.width], axis=0))

    def flat(self, x: Var) -> Var:
        """Undo `images`."""
        return op.reshape(x, ints(-1, self.tower.width))

    def heads(self, x: Var, parts: int, *, pooled: bool = False) -> Sequence[Var]:
        """All rows, or the pooled ones, [B*Q, parts*D] to `parts` times [B, H, 1, Q, hd].

        Heads are picked, not transposed: onnxruntime merges a transposition here with that of the keys into
        one that moves single numbers.
        """
        # row n, part k, head h is at (n * parts + k) * H + h
        table = op.reshape(x, ints(-1, self.head_width))
        count = op.mul(self.batch, self.pool_count if pooled else self.queries)
        numbers = op.range(op.const(np.int64(0)), op.squeeze(count), op.const(np.int64(1)))
        rows = op.reshape(numbers, op.concat([self.batch, ints(1, 1, -1)], axis=0))
        first = op.mul(rows, ints(parts * self.tower.heads))
        spots = [
            np.arange(k * self.tower.heads, (k + 1) * self.tower.heads).reshape(-1, 1, 1)
            for k in range(parts)
        ]
        return [op.gather(table, op.add(first, op.const(spot))) for spot in spots]

    def merge(self, parts: Sequence[Var]) -> Var:
        """Parts of [B, H, 1, Q, hd] back to rows [B*Q, len(parts)*D]."""
        flat = [self.flat(op.transpose(part, perm=[0, 2, 3, 1, 4])) for part in parts]
        return op.concat(flat, axis=1) if len(flat) > 1 else flat[0]

    def pooled(self, x: Var) -> Var:
        """The rows that make the feature: each image's class token, or its patches."""
        return self.flat(op.slice(self.images(x), self.first_pooled, self.end_pooled, ints(1)))

    def pooled_queries(self, q: Var) -> Var:
        """The same tokens of queries [B, H, 1, Q, hd]."""
        return op.slice(q, self.first_pooled, self.end_pooled, ints(3))

    def mean(self, rows: Var) -> Var:
        """One row [B,D] an image, of those that `pooled` gave."""
        if not self.tower.average:
            return rows
        if self.sizes is None:
            return op.reduce_mean(self.images(rows), ints(1), keepdims=0)
        sizes = op.slice(self.sizes, self.first_pooled, self.end_pooled, ints(1))
        total = op.reduce_sum(op.mul(self.images(rows), sizes), ints(1), keepdims=0)
        return op.div(total, floats(self.tower.tokens - 1.0))

    def key_weights(self) -> Var | None:
        """What is added to the scores of keys, [B, 1, 1, 1, Q]: a token counts as often as it stands for.

        None where every token stands for itself.
        """
        if self.sizes is None:
            return None
        return op.reshape(op.log(self.sizes), op.concat([self.batch, ints(1, 1, 1, -1)], axis=0))


@dataclass(frozen=True)
class BlockTape:
    """What a residual attention block keeps for its backward pass."""

    norm: vjp.NormTape
    attention: vjp.AttentionTape
    feed_forward: vjp.FeedForwardTape


@dataclass(frozen=True)
class Features:
    """Unit features [B,E], the lengths [B,1] that they had, and what the normalisation before them keeps."""

    unit: Var
    length: Var
    norm: vjp.NormTape


def before_blocks(weights: Weights, rows: ImageRows, x: Var) -> tuple[Var, vjp.NormTape | None]:
    """The normalisation before the first block, in towers that have one."""
    return _norm(weights, "ln_pre", x, rows.tower.epsilon) if rows.tower.norm_before else (x, None)


def block(weights: Weights, rows: ImageRows, layer: int, x: Var) -> tuple[Var, BlockTape]:
    """One residual attention block over all rows; the last one returns the pooled rows only."""
    x, norm, attention = attention_half(weights, rows, layer, x)
    x, feed_forward = feed_forward_half(weights, rows, layer, x)
    return x, BlockTape(norm, attention, feed_forward)


def attention_half(
    weights: Weights, rows: ImageRows, layer: int, x: Var
) -> tuple[Var, vjp.NormTape, vjp.AttentionTape]:
    """A block's attention over all rows, and what it keeps; the last block returns the pooled rows only."""
    tower, name = rows.tower, _name(layer)
    hidden, norm = _norm(weights, f"{name}.ln_1", x, tower.epsilon)
    qkv = vjp.linear(hidden, weights[f"{name}.attn.in_proj_weight"], weights[f"{name}.attn.in_proj_bias"])
    q, k, v = rows.heads(qkv, 3)
    if layer == tower.layers - 1:
        q, x = rows.pooled_queries(q), rows.pooled(x)
    out, attention = vjp.attend(q, k, v, rows.key_weights(), rows.head_width)
    projection = (weights[f"{name}.attn.out_proj.{part}"] for part in ("weight", "bias"))
    return op.add(x, vjp.linear(rows.merge([out]), *projection)), norm, attention


def feed_forward_half(
    weights: Weights, rows: ImageRows, layer: int, x: Var
) -> tuple[Var, vjp.FeedForwardTape]:
    """What stands behind a block's attention."""
    return vjp.feed_forward(weights, _name(layer), rows.tower.activation, rows.tower.epsilon, x)


def behind_blocks(weights: Weights, rows: ImageRows, x: Var) -> Features:
    """The pooled rows that the last block returns to unit features."""
    hidden, norm = _norm(weights, "ln_post", x, rows.tower.epsilon)
    unit, length = vjp.unit(op.matmul(rows.mean(hidden), weights["proj"]))
    return Features(unit, length, norm)


def _name(layer: int) -> str:
    return f"transformer.resblocks.{layer}"


def _norm(weights: Weights, name: str, x: Var, epsilon: float) -> tuple[Var, vjp.NormTape]:
    return vjp.layer_norm(x, weights[f"{name}.weight"], weights[f"{name}.bias"], epsilon)
