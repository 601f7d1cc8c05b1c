"""How the tokens of all classes lie in one matrix of rows, and the masks and moves that follow from it.

A causal tower computes the prefix (start token and context: P = 1 + n rows) once a group instead of once a
class, and of a class only the rows up to its end token: rows lie as [N, D], N = G*P + T, where T counts the
tokens of all classes without padding; normalisations and linear maps stay one operation. This is exact, since
no prefix row sees a class, and nothing sees what comes later.

Only attention tells the parts apart. For it, the rows of a group move to K blocks of L places, and back. A
block has the prefix, then the rows of b classes as they lie, and a mask that hides each class from the
others. So attention multiplies a few matrices of middle size, not a tiny one for each class and two more for
its view of the prefix. Of the prefix, each block computes the same. It is read from the first one; gradients
at its keys and values are summed over all.

A tower without a causal mask sees everything, padding too: there each class has all its L = P + S rows (T =
C*L, and no row is shared) and is a block of its own. The caller pads S to the full context length.

Every move is one gather. Its indices, like masks and shapes, depend on no layer: all are computed here, once
a run.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import spox.opset.ai.onnx.v18 as op
from spox import Var

from qprompt_exporters import vjp
from qprompt_exporters.storage import Weights
from qprompt_exporters.towers import TextTower
from qprompt_exporters.vjp import dim, ints

BLOCK_ROWS = 24
"""Rows of classes in a block of attention: at most so many, or twice as many as the prefix, or one class."""
_MASKED = -1e9  # added to a score that must not be seen; exp of it is exactly 0 in float32
_COUNTS = (1, 3)  # matrices side by side in a row: an attention's output, or its queries, keys and values

Spots = dict[int, list[Var]]
"""Which heads to read for each of k matrices that lie side by side in rows [N, k*D].

By their number k: for each matrix, indices [G, H, K, Q].
"""


class Rows:
    """The rows of C = G * R classes.

    G contexts [G, n, D] stand before tokens [G, R, S], which end at `ends` [G, R].

    Attributes:
        every: Where the rows of a block stand, [G, H, K, L]; places behind the last row repeat it.
        ends: Where the end tokens of its classes stand, [G, H, K, b]; the last block may repeat one.
        answers: The same in a matrix that holds the end tokens' rows only, [C, k*D].
        all_rows: By k, what `merge` reads to undo `every`, [N, k*H]; of `answers`, `answer_rows` [C, H].
        mask: Added to the scores, [G, 1, K, L, L]; for `ends` alone, `end_mask` [G, 1, K, b, L].
        used: float32 [G, 1, K, L, 1], 0 where a place repeats a row; for `answers`, `used_answers` [1, 1, K,
            b, 1]. Masks and both of these are None in a tower without a causal mask.
        at_end: float32 [G, 1, K, L, b], moves what stands at `ends` to its place among `every`.
    """

    def __init__(self, tower: TextTower, context: Var, tokens: Var, ends: Var) -> None:
        self.tower = tower
        self.groups, self.classes = dim(tokens, 0), dim(tokens, 1)
        self.count = op.mul(self.groups, self.classes)
        self.vectors = dim(context, 1)
        self.prefix = op.add(self.vectors, ints(1))
        self.own, self._shared = dim(tokens, 2), self.prefix
        ends = op.reshape(ends, ints(-1))
        if tower.causal:
            lengths = op.add(ends, ints(1))
            reached = op.less_or_equal(_range(self.own), op.unsqueeze(ends, ints(1)))  # [C, S]
            self._used_tokens = op.squeeze(op.non_zero(op.reshape(reached, ints(-1))), ints(0))
            rows = op.max([ints(BLOCK_ROWS), op.mul(self.prefix, ints(2))])
            self._divide(op.max([op.div(rows, self.own), ints(1)]))
        else:  # own rows of a class: everything, not only what follows the prefix
            self.own, self._shared = op.add(self.own, self.prefix), ints(0)
            ends, lengths = op.add(ends, self.prefix), op.expand(self.own, op.shape(ends))
            self._used_tokens = _range(op.mul(self.count, self.own))
            self._divide(ints(1))
        self.shared_rows = op.mul(self.groups, self._shared)
        self._class_of = op.div(self._used_tokens, self.own)  # [T]
        edges = op.concat([ints(0), op.cumsum(lengths, op.const(np.int64(0)))], axis=0)
        edges = op.add(edges, self.shared_rows)  # [C + 1]: where the rows of a class begin
        self.end_rows = op.add(op.gather(edges, _range(self.count)), ends)
        self._place_rows(edges)
        self._place_back()
        self._place_context()

    def _divide(self, most: Var) -> None:
        """Divide the R classes of a group into blocks of at most so many, int64 [1]."""
        self._blocks = _ceil_div(self.classes, most)
        self._of_block = _ceil_div(self.classes, self._blocks)
        self._block = op.reshape(_range(self._blocks), ints(1, 1, -1, 1))
        self._group = op.reshape(_range(self.groups), ints(-1, 1, 1, 1))

    def _place_rows(self, edges: Var) -> None:
        """Find which rows stand in the blocks [G, 1, K, L], and what each of them sees."""
        begin = op.mul(self._block, self._of_block)
        group = op.mul(self._group, self.classes)
        until = op.min([op.add(begin, self._of_block), self.classes])
        first, last = (op.gather(edges, op.add(group, number)) for number in (begin, until))
        counts = op.sub(last, first)
        self._length = op.add(self._shared, op.reshape(op.reduce_max(counts, keepdims=0), ints(1)))
        self._first = op.sub(op.reshape(first, ints(-1)), self._shared)
        places = _range(self._length)
        own = op.sub(places, self._shared)
        rows = op.min([op.add(first, own), op.sub(last, ints(1))])
        classes = op.min([op.add(begin, _range(self._of_block)), op.sub(self.classes, ints(1))])
        classes = op.add(group, classes)  # [G, 1, K, b]
        end_rows = op.gather(self.end_rows, classes)
        end_places = op.add(op.sub(end_rows, first), self._shared)
        at_end = op.equal(op.unsqueeze(places, ints(1)), op.unsqueeze(end_places, ints(3)))
        self.mask = self.end_mask = self.used = self.used_answers = None
        if self.tower.causal:
            in_prefix = op.less(own, ints(0))
            rows = op.where(in_prefix, op.add(op.mul(self._group, self.prefix), places), rows)
            of_prefix = op.expand(ints(-1), self.shared_rows)
            owners = op.gather(op.concat([of_prefix, self._class_of], axis=0), rows)
            self.mask = _mask(places, owners, places, owners, in_prefix)
            self.end_mask = _mask(end_places, classes, places, owners, in_prefix)
            again = op.and_(in_prefix, op.greater(self._block, ints(0)))
            self.used = _share(op.and_(op.less(own, counts), op.not_(again)))
            real = op.less(op.add(begin, _range(self._of_block)), self.classes)
            self.used_answers = _share(real)
            at_end = op.and_(at_end, op.unsqueeze(real, ints(3)))
        self.at_end = op.cast(at_end, to=np.float32)
        self.every, self.ends = self._spots(rows), self._spots(end_rows)
        self.answers = self._spots(classes)

    def _place_back(self) -> None:
        """Find at which places the rows stand; a group's places are counted through its blocks."""
        of_group = op.mul(self._blocks, self._length)
        numbers = _range(op.shape(self._class_of))
        group = op.div(self._class_of, self.classes)
        block = op.div(op.sub(self._class_of, op.mul(group, self.classes)), self._of_block)
        block = op.add(op.mul(group, self._blocks), block)
        places = op.sub(op.add(numbers, self.shared_rows), op.gather(self._first, block))
        places = op.add(places, op.mul(block, self._length))
        self._own_rows = self._back(places, of_group, 3)
        if self.tower.causal:
            start = op.mul(op.reshape(self._group, ints(-1, 1)), of_group)
            prefix = op.reshape(op.add(start, _range(self.prefix)), ints(-1))  # [G*P], in the first block
            again = op.mul(op.reshape(self._block, ints(-1, 1)), self._length)
            everywhere = op.reshape(op.add(prefix, again), ints(-1))
            self._prefix_rows = self._back(everywhere, of_group, 3)  # [K*G*P, 3*H]
            self._prefix_shape = op.concat([self._blocks, ints(-1)], axis=0)
            self._ones = op.expand(vjp.floats(1.0), op.concat([ints(1), self._blocks], axis=0))
            places = op.concat([prefix, places], axis=0)
        self.all_rows = self._back(places, of_group, 1)
        block_answers = op.mul(self._blocks, self._of_block)
        group = op.mul(op.reshape(self._group, ints(-1, 1)), block_answers)
        answers = op.reshape(op.add(group, _range(self.classes)), ints(-1))
        self.answer_rows = self._back(answers, block_answers, 1)

    def _place_context(self) -> None:
        """Find the rows of the context vectors, [G, 1, n] or, where each class has its own, [G, R, n]."""
        copies, step = (ints(1), self.prefix) if self.tower.causal else (self.classes, self.own)
        starts = op.mul(_range(op.mul(self.groups, copies)), step)
        starts = op.reshape(starts, op.concat([self.groups, copies, ints(1)], axis=0))
        self._context_rows = op.add(op.add(starts, ints(1)), _range(self.vectors))
        self._context_spots = op.unsqueeze(self._context_rows, ints(-1))
        self._context_shape = op.concat([op.shape(self._context_rows), ints(self.tower.width)], axis=0)

    def embed(self, weights: Weights, context: Var, suffix: Var, start_token: int) -> Var:
        """Input rows of the first block: token or context vector, plus position."""
        width, positions = ints(self.tower.width), weights["positional_embedding"]
        start = weights.row("token_embedding.weight", start_token)
        start = op.expand(start, op.concat([self.groups, ints(1), width], axis=0))
        prefix, flat = op.concat([start, context], axis=1), ints(-1, self.tower.width)
        if self.tower.causal:
            prefix = op.add(prefix, op.slice(positions, ints(0), self.prefix))
            until = op.add(self.prefix, self.own)
            suffix = op.add(suffix, op.slice(positions, self.prefix, until))
            suffix = op.gather(op.reshape(suffix, flat), self._used_tokens)
            return op.concat([op.reshape(prefix, flat), suffix], axis=0)
        shape = op.concat([self.groups, self.classes, self.prefix, width], axis=0)
        every = op.concat([op.expand(op.unsqueeze(prefix, ints(1)), shape), suffix], axis=2)
        return op.reshape(op.add(every, op.slice(positions, ints(0), self.own)), flat)

    def context_gradient(self, dx: Var) -> Var:
        """Gradient [G,n,D] at the context vectors from that at the input rows; the shared rows are enough."""
        return op.reduce_sum(op.gather(dx, self._context_rows), ints(1), keepdims=0)

    def replace_context(self, x: Var, prompts: Var) -> Var:
        """Put prompts [n,D] in the places of every context.

        MaPLe does so between blocks (Khattak et al. 2023, Eq. 3).
        """
        return op.scatter_nd(x, self._context_spots, op.expand(prompts, self._context_shape))

    def replace_context_backward(self, dx: Var) -> tuple[Var, Var]:
        """Gradient at the prompts [n,D], and at the rows that `replace_context` was given."""
        inner = op.gather(dx, self._context_rows)
        cut = op.scatter_nd(dx, self._context_spots, op.expand(vjp.floats(0.0), self._context_shape))
        return op.reduce_sum(inner, ints(0, 1), keepdims=0), cut

    def shared(self, x: Var) -> Var:
        """The shared prefix rows of all rows."""
        return op.slice(x, ints(0), self.shared_rows, ints(0))

    def heads(self, x: Var, spots: Sequence[Var]) -> list[Var]:
        """Rows [N, k*D] to one [G, H, R, Q, hd] for each of the spots; see `Spots`."""
        table = op.reshape(x, ints(-1, self.tower.width // self.tower.heads))
        return [op.gather(table, spot) for spot in spots]

    def merge(self, part: Var, spots: Var) -> Var:
        """Undo `heads` for one matrix: back to rows [N, D]."""
        table = op.reshape(part, ints(-1, self.tower.width // self.tower.heads))
        return op.reshape(op.gather(table, spots), ints(0, -1))

    def merge_gradients(self, parts: Sequence[Var], *, only_shared: bool) -> Var:
        """Gradients at queries, keys and values of all blocks to rows [N, 3*D], or to the shared ones."""
        table = op.reshape(op.concat(parts, axis=0), ints(-1, self.tower.width // self.tower.heads))
        own = None if only_shared else op.reshape(op.gather(table, self._own_rows), ints(0, -1))
        if not self.tower.causal:
            return own
        prefix = op.reshape(op.gather(table, self._prefix_rows), self._prefix_shape)
        prefix = op.matmul(self._ones, prefix)  # the sum over blocks; a product is quicker than ReduceSum
        prefix = op.reshape(prefix, ints(-1, 3 * self.tower.width))
        return prefix if own is None else op.concat([prefix, own], axis=0)

    def _spots(self, places: Var) -> Spots:
        """What `heads` reads; `places` [G, 1, K, Q] says which row stands where."""
        # row n, matrix i, head h is at (n * k + i) * H + h
        heads = self.tower.heads
        head = op.reshape(_range(ints(heads)), ints(1, -1, 1, 1))
        return {
            count: [
                op.add(op.mul(places, ints(count * heads)), op.add(head, ints(i * heads)))
                for i in range(count)
            ]
            for count in _COUNTS
        }

    def _back(self, places: Var, of_group: Var, count: int) -> Var:
        """What `merge` reads: [M, count*H] for rows at `places` [M], of which a group has so many."""
        # place p of group g, head h in matrix i is at ((i * G + g) * H + h) * of_group + p % of_group
        heads = ints(self.tower.heads)
        group = op.mul(op.div(places, of_group), op.mul(of_group, op.sub(heads, ints(1))))
        matrix = op.mul(op.mul(self.groups, heads), op.reshape(_range(ints(count)), ints(-1, 1)))
        head = op.mul(op.reshape(op.add(matrix, _range(heads)), ints(-1)), of_group)
        return op.add(op.unsqueeze(op.add(places, group), ints(1)), head)


def _range(count: Var) -> Var:
    """0, 1, ... count - 1 for an int64 [1]."""
    return op.range(op.const(np.int64(0)), op.squeeze(count), op.const(np.int64(1)))


def _ceil_div(a: Var, b: Var) -> Var:
    return op.div(op.sub(op.add(a, b), ints(1)), b)


def _share(seen: Var) -> Var:
    """A bool [..., Q] as a factor 1 or 0 of rows [..., Q, m]."""
    return op.unsqueeze(op.cast(seen, to=np.float32), ints(-1))


def _mask(places: Var, classes: Var, key_places: Var, key_classes: Var, in_prefix: Var) -> Var:
    """What to add to the scores [..., Q, L]: 0 for what comes no later, in the prefix or the same class."""
    places, classes = (op.unsqueeze(x, ints(-1)) for x in (places, classes))
    same = op.or_(op.equal(classes, op.unsqueeze(key_classes, ints(-2))), in_prefix)
    seen = op.and_(op.less_or_equal(key_places, places), same)
    return op.where(seen, vjp.floats(0.0), vjp.floats(_MASKED))
