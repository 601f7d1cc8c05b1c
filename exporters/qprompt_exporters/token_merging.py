"""A ViT image tower that merges alike tokens between attention and feed-forward part of its blocks.

Bipartite soft matching (Bolya et al. 2023, "Token Merging: Your ViT But Faster", section 3), without
training. Tokens are dealt alternately to two sets, A and B. The R tokens of A that are most like some token
of B, by the cosine of their keys (the mean over heads), are merged into that one: a mean, weighted by how
many patches each of the two stands for. In attention a token counts as often as it stands for patches (Eq. 1:
the logarithm of that number is added to its scores). The class token is never merged. Every image has the
same number of tokens at the same place, so shapes do not depend on it.

The last block merges nothing: it computes only the rows that make the feature.
"""

from __future__ import annotations

import numpy as np
import spox.opset.ai.onnx.v18 as op
from spox import Tensor, Var, argument
from torch import nn

from qprompt_exporters import vjp
from qprompt_exporters.storage import Weights
from qprompt_exporters.towers import ImageTransformer, read_image_transformer
from qprompt_exporters.vit_graph import (
    ImageRows,
    Values,
    attention_half,
    before_blocks,
    behind_blocks,
    feed_forward_half,
)
from qprompt_exporters.vjp import dim, ints
from qprompt_runtime.errors import BundleError


def check_merged(merged: int, model: nn.Module, name: str) -> None:
    """Refuse a tower that cannot merge R tokens in every block but the last.

    Before the last of these, T - R (L - 2) of T tokens are left, and half of their patches must be R or more.

    Raises:
        BundleError: It is no plain ViT, or has too few tokens; says how many it can merge.
    """
    tower = read_image_transformer(model, "--merge-tokens", "merge tokens")
    most = (tower.tokens - 1) // tower.layers if tower.layers > 1 else 0
    if not 1 <= merged <= most:
        raise BundleError(
            f"--merge-tokens {merged} does not fit {name}, whose image tower has {tower.tokens} tokens and "
            f"{tower.layers} blocks; it can merge 1 to {most} a block"
        )


def merged_vit_graph(tower: ImageTransformer, weights: Weights, merged: int) -> tuple[Values, Values]:
    """Write the graph of the features, as `vit_graph` does.

    Args:
        tower: The image tower; only its facts are used here.
        weights: Its arrays, as graph values.
        merged: Tokens merged in every block but the last, R; see `check_merged`.
    """
    tokens = argument(Tensor(np.float32, ("B", tower.tokens, tower.width)))
    rows = ImageRows(tower, dim(tokens, 0), tower.tokens)
    x, _ = before_blocks(weights, rows, rows.flat(tokens))
    for layer in range(tower.layers):
        x, _, attention = attention_half(weights, rows, layer, x)
        if layer < tower.layers - 1:
            rows, x = _merge(rows, x, attention.k, merged)
        x, _ = feed_forward_half(weights, rows, layer, x)
    return {"tokens": tokens}, {"features": behind_blocks(weights, rows, x).unit}


def _merge(rows: ImageRows, x: Var, keys: Var, merged: int) -> tuple[ImageRows, Var]:
    """Merge R tokens of each image: rows [B*Q,D] and keys [B,H,1,Q,hd] to rows [B*(Q-R),D].

    What is left stands in this order: the class token, the rest of A, B.
    """
    kept, taken, targets = _match(keys, rows.tokens, merged)
    images = rows.images(x)
    places = op.const(np.arange(rows.tokens // 2).reshape(1, -1, 1))
    shares = op.cast(op.equal(op.unsqueeze(targets, ints(1)), places), to=np.float32)  # [B,|B|,R]
    others, added = _set_b(images), _rows_at(images, taken)
    if rows.sizes is None:
        counts = op.add(op.reduce_sum(shares, ints(2)), vjp.floats(1.0))
        total = op.add(others, op.matmul(shares, added))
        alone = op.expand(vjp.floats(1.0), op.shape(op.unsqueeze(kept, ints(2))))
    else:
        weights, own = _rows_at(rows.sizes, taken), _set_b(rows.sizes)
        counts = op.add(op.matmul(shares, weights), own)
        total = op.add(op.mul(others, own), op.matmul(shares, op.mul(added, weights)))
        alone = _rows_at(rows.sizes, kept)
    left = op.concat([_rows_at(images, kept), op.div(total, counts)], axis=1)
    sizes = op.concat([alone, counts], axis=1)
    fewer = ImageRows(rows.tower, rows.batch, rows.tokens - merged, sizes=sizes)
    return fewer, fewer.flat(left)


def _match(keys: Var, tokens: int, merged: int) -> tuple[Var, Var, Var]:
    """Choose what is merged, and into what, by keys [B,H,1,Q,hd].

    Returns:
        int64, numbers of tokens [B,*] in ascending order that stay, the class token and the rest of A; [B,R]
        that go; and [B,R], the place in B where each goes.
    """
    metric, _ = vjp.unit(op.reduce_mean(keys, ints(1, 2), keepdims=0))
    set_a = op.slice(metric, ints(2), ints(tokens), ints(1), ints(2))
    scores = op.matmul(set_a, op.transpose(_set_b(metric), perm=[0, 2, 1]))
    best = op.reduce_max(scores, ints(2), keepdims=0)
    count = (tokens - 1) // 2
    _, order = op.top_k(best, ints(count))
    taken = op.slice(order, ints(0), ints(merged), ints(1))
    targets = op.gather_elements(op.arg_max(scores, axis=2, keepdims=0), taken, axis=1)
    rest, _ = op.top_k(op.slice(order, ints(merged), ints(count), ints(1)), ints(count - merged), largest=0)
    numbers = op.add(op.mul(rest, ints(2)), ints(2))
    kept = op.pad(numbers, ints(0, 1, 0, 0))  # with 0, the class token
    return kept, op.add(op.mul(taken, ints(2)), ints(2)), targets


def _set_b(images: Var) -> Var:
    """Every second token of [B,Q,*], from the first patch."""
    return op.slice(images, ints(1), ints(np.iinfo(np.int64).max), ints(1), ints(2))


def _rows_at(images: Var, numbers: Var) -> Var:
    """Rows [B,N,*] of [B,Q,*] that are numbered by int64 [B,N]."""
    return op.gather_nd(images, op.unsqueeze(numbers, ints(2)), batch_dims=1)
