"""How the tokens of all classes lie in one matrix of rows, and the masks and moves that follow from it.

A causal tower computes the prefix (start token and context: P = 1 + n rows) once a group instead of once a
class, and of a class only the rows up to its end token: rows lie as [N, D], N = G*P + T, where T counts the
tokens of all classes without padding; normalisations and linear maps stay one operation. Only attention tells
the parts apart (a suffix query sees the prefix's keys and its own class's): for it the classes' rows move to
[C*S] places, as many for each class as for the longest, and back. This is exact, since no prefix row sees a
class, and nothing sees what comes later.

A tower without a causal mask sees everything, padding too: there each class has all its L = P + S rows (T =
C*L, and no row is shared), and the caller pads S to the full context length.

Every move is one gather. Its indices, like masks and shapes, depend on no block: all are computed here, once
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

_MASKED = -1e9  # added to a score that must not be seen; exp of it is exactly 0 in float32
_COUNTS = (1, 3)  # matrices side by side in a row: an attention's output, or its queries, keys and values

Spots = dict[int, list[Var]]
"""Which heads to read for each of k matrices that lie side by side in rows [N, k*D].

By their number k: for each matrix, indices [G, H, R, Q].
"""


class Rows:
    """The rows of C = G * R classes.

    G contexts [G, n, D] stand before tokens [G, R, S], which end at `ends` [G, R].

    Attributes:
        prefix_heads: Places of the shared rows, [G, H, 1, P]; nothing in a tower without a causal mask.
        own_heads: Of the classes' own rows, [G, H, R, S]; places behind an end repeat it.
        end_heads: Of each class's end token, [G, H, R, 1].
        answer_heads: The same in a matrix that holds the end tokens' rows only, [C, k*D].
        all_rows: By k, what `merge` reads to undo `prefix_heads` and `own_heads`; of ends, `answer_rows` [C,
            H].
        prefix_rows: As `all_rows` for three matrices and the shared rows alone.
        own_shape: int64 [5], unfolds [G, H, 1, R*S, m] to [G, H, R, S, m]; `end_shape` the same for one row a
            class.
    """

    def __init__(self, tower: TextTower, context: Var, tokens: Var, ends: Var) -> None:
        self.tower = tower
        self.heads_count = ints(tower.heads)
        self.groups, self.classes = dim(tokens, 0), dim(tokens, 1)
        self.count = op.mul(self.groups, self.classes)
        self.vectors = dim(context, 1)
        self.prefix = op.add(self.vectors, ints(1))
        self.own, self.shared_rows = dim(tokens, 2), op.mul(self.groups, self.prefix)
        if not tower.causal:  # own rows of a class: everything, not only what follows the prefix
            self.own, self.shared_rows = op.add(self.own, self.prefix), ints(0)
            ends = op.add(ends, self.prefix)
        self._place_rows(op.reshape(ends, ints(-1, 1)))
        self._place_context()
        lead = ints(0, 0)
        self.own_shape = op.concat([lead, self.classes, self.own, ints(-1)], axis=0)
        self.end_shape = op.concat([lead, self.classes, ints(1, -1)], axis=0)
        self._mask(self._by_class(ends))

    def _place_rows(self, ends: Var) -> None:
        """Find where each row stands; `ends` [C, 1] are counted within a class's own rows."""
        numbers, places = _range(self.own), _range(self.own)
        lengths = op.expand(self.own, op.shape(ends))
        used = _range(op.mul(self.count, self.own))
        shared = []
        self.prefix_heads: Spots = {count: [] for count in _COUNTS}
        self.used: Var | None = None
        if self.tower.causal:
            reached = op.less_or_equal(numbers, ends)  # [C, own]
            places, lengths = op.min([numbers, ends]), op.add(ends, ints(1))
            used = op.squeeze(op.non_zero(op.reshape(reached, ints(-1))), ints(0))
            self.used = op.unsqueeze(self._by_class(op.cast(reached, to=np.float32)), ints(4))
            shared = [(_range(self.shared_rows), self.prefix)]
            of_prefix = op.concat([self.groups, ints(1, 1, -1)], axis=0)
            self.prefix_heads = self._spots(op.reshape(shared[0][0], of_prefix))
            self.prefix_rows = self._back(shared, 3)
        starts = op.add(op.cumsum(lengths, op.const(np.int64(0)), exclusive=1), self.shared_rows)
        self.end_rows = op.reshape(op.add(starts, ends), ints(-1))
        self.own_heads = self._spots(self._by_class(op.add(starts, places)))
        self.end_heads = self._spots(self._by_class(self.end_rows))
        self.answer_heads = self._spots(self._by_class(_range(self.count)))
        everything = [*shared, (used, op.mul(self.classes, self.own))]
        self.all_rows = {count: self._back(everything, count) for count in _COUNTS}
        self.answer_rows = self._back([(_range(self.count), self.classes)], 1)
        self._used_rows = used

    def _place_context(self) -> None:
        """Find the rows of the context vectors, [G, 1, n] or, where each class has its own, [G, R, n]."""
        copies, step = (ints(1), self.prefix) if self.tower.causal else (self.classes, self.own)
        starts = op.mul(_range(op.mul(self.groups, copies)), step)
        starts = op.reshape(starts, op.concat([self.groups, copies, ints(1)], axis=0))
        self._context_rows = op.add(op.add(starts, ints(1)), _range(self.vectors))
        self._context_spots = op.unsqueeze(self._context_rows, ints(-1))
        self._context_shape = op.concat([op.shape(self._context_rows), ints(self.tower.width)], axis=0)

    def _mask(self, ends: Var) -> None:
        """Write the masks; `ends` is [G, 1, R, 1]."""
        numbers, ends = _range(self.own), op.unsqueeze(ends, ints(4))
        at_end = op.equal(op.unsqueeze(numbers, ints(1)), ends)
        self.at_end = op.cast(at_end, to=np.float32)  # [G, 1, R, own, 1]: 1 at the end token
        self.prefix_mask = self.own_mask = self.end_mask = None
        if self.tower.causal:
            self.prefix_mask = _causal_mask(self.prefix)
            self.own_mask = _causal_mask(self.own)
            self.end_mask = _mask(op.greater(numbers, ends))

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
            suffix = op.gather(op.reshape(suffix, flat), self._used_rows)
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

    def merge(self, parts: Sequence[Var], spots: Var) -> Var:
        """Undo `heads`: back to rows [N, k*D].

        Takes k parts of the prefix, where there is one, then k parts of the classes.
        """
        flat = [op.reshape(part, ints(-1, self.tower.width // self.tower.heads)) for part in parts]
        table = op.concat(flat, axis=0) if len(flat) > 1 else flat[0]
        return op.reshape(op.gather(table, spots), ints(0, -1))

    def _by_class(self, x: Var) -> Var:
        """[C*Q], [C,Q] or [G,R] to [G, 1, R, Q]."""
        return op.reshape(x, op.concat([self.groups, ints(1), self.classes, ints(-1)], axis=0))

    def _spots(self, places: Var) -> Spots:
        """What `heads` reads; `places` [G, 1, R, Q] says which row stands where."""
        # row n, matrix i, head h is at (n * k + i) * H + h
        heads = self.tower.heads
        head = op.reshape(_range(self.heads_count), ints(1, -1, 1, 1))
        return {
            count: [
                op.add(op.mul(places, ints(count * heads)), op.add(head, ints(i * heads)))
                for i in range(count)
            ]
            for count in _COUNTS
        }

    def _back(self, kinds: Sequence[tuple[Var, Var]], count: int) -> Var:
        """What `merge` reads, [N, k*H].

        A kind's rows [M] say which of its places they come from, R*Q in each group.
        """
        first, spots = ints(0), []
        for rows, of_group in kinds:
            # place (g, r, q) of head h in matrix i is at ((i * G + g) * H + h) * R * Q + r * Q + q
            group = op.mul(op.div(rows, of_group), op.mul(of_group, ints(self.tower.heads - 1)))
            head = op.mul(_range(self.heads_count), of_group)
            matrix_size = op.mul(op.mul(self.groups, self.heads_count), of_group)
            matrix = op.reshape(op.mul(_range(ints(count)), matrix_size), ints(-1, 1))
            row = op.reshape(op.add(op.add(rows, group), first), ints(-1, 1))
            spots.append(op.add(row, op.reshape(op.add(matrix, head), ints(-1))))
            first = op.add(first, op.mul(matrix_size, ints(count)))
        return op.concat(spots, axis=0) if len(spots) > 1 else spots[0]


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
