"""How the tokens of all classes lie in one matrix of rows, and the masks and moves that follow from it.

A causal tower computes the prefix (start token and context: P = 1 + n rows) once a group instead of once a
class, and of a class only the rows up to its end token: rows lie as [G*P + T, D], where T counts the tokens of all
classes without padding; normalisations and linear maps stay one operation. Only attention tells the parts
apart (a suffix query sees the prefix's keys and its own class's): for it the classes' rows move to [C*S] places, as
many for each class as for the longest, and back. This is exact, since no prefix row sees a class, and nothing sees
what comes later.

A tower without a causal mask sees everything, padding too: there each class has all its L = P + S rows, and
the caller pads S to the full context length.
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


class Rows:
    """The rows of C = G * R classes; G contexts [G, n, D] stand before tokens [G, R, S], which end at `ends` [G, R]."""

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
        flat_ends = op.reshape(ends, ints(-1, 1))
        used = op.less_or_equal(_range(self.own), flat_ends)  # [C, own]
        lengths = op.add(flat_ends, ints(1)) if tower.causal else op.expand(self.own, op.shape(flat_ends))
        starts = op.cumsum(lengths, op.const(np.int64(0)), exclusive=1)
        self.end_rows = op.add(op.reshape(op.add(starts, flat_ends), ints(-1)), first)
        places = op.add(starts, op.min([_range(self.own), flat_ends]) if tower.causal else _range(self.own))
        self._own_places = self._by_class(places)
        self._end_places = self._by_class(_range(count))
        self._prefix_places = op.reshape(
            _range(op.mul(self.groups, self.prefix)),
            op.concat([self.groups, ints(1, 1), self.prefix], axis=0),
        )
        if tower.causal:
            self._used = op.squeeze(op.non_zero(op.reshape(used, ints(-1))), ints(0))
            self._in_use = op.unsqueeze(self._by_class(op.cast(used, to=np.float32)), ints(4))
        else:
            self._used = _range(op.mul(count, self.own))
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
        start = weights.row("token_embedding.weight", start_token)
        start = op.expand(start, op.concat([self.groups, ints(1), width], axis=0))
        prefix = op.concat([start, context], axis=1)
        flat = op.concat([ints(-1), width], axis=0)
        if self.tower.causal:
            prefix = op.add(prefix, op.slice(positions, ints(0), self.prefix))
            until = op.add(self.prefix, self.own)
            suffix = op.add(suffix, op.slice(positions, self.prefix, until))
            suffix = op.gather(op.reshape(suffix, flat), self._used)
            return op.concat([op.reshape(prefix, flat), suffix], axis=0)
        shape = op.concat([self.groups, self.classes, self.prefix, width], axis=0)
        every = op.concat([op.expand(op.unsqueeze(prefix, ints(1)), shape), suffix], axis=2)
        return op.reshape(op.add(every, op.slice(positions, ints(0), self.own)), flat)

    def _by_class(self, x: Var) -> Var:
        """[C*Q], or [C,Q], to [G, 1, R, Q]."""
        return op.reshape(x, op.concat([self.groups, ints(1), self.classes, ints(-1)], axis=0))

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

    def replace_context(self, x: Var, prompts: Var) -> Var:
        """Put prompts [n,D] in the places of every context, as MaPLe does between blocks (Khattak et al. 2023, Eq. 3)."""
        width = ints(self.tower.width)
        shaped = self._with_prefixes(x)
        count = op.shape(shaped, start=0, end=1)
        start = op.slice(shaped, ints(0), ints(1), ints(1))
        rest = op.slice(shaped, self.prefix, dim(shaped, 1), ints(1))
        inner = op.expand(op.unsqueeze(prompts, ints(0)), op.concat([count, dim(prompts, 0), width], axis=0))
        return self._without_prefixes(op.concat([start, inner, rest], axis=1), x)

    def replace_context_backward(self, dx: Var) -> tuple[Var, Var]:
        """Gradient at the prompts [n,D], and at the rows that `replace_context` was given."""
        shaped = self._with_prefixes(dx)
        inner = op.slice(shaped, ints(1), self.prefix, ints(1))
        start = op.slice(shaped, ints(0), ints(1), ints(1))
        rest = op.slice(shaped, self.prefix, dim(shaped, 1), ints(1))
        cut = op.concat([start, op.expand(vjp.floats(0.0), op.shape(inner)), rest], axis=1)
        return op.reduce_sum(inner, ints(0), keepdims=0), self._without_prefixes(cut, dx)

    def _with_prefixes(self, x: Var) -> Var:
        """The rows that begin with a prefix: [G,P,D] in a causal tower, else [C,L,D]."""
        width = ints(self.tower.width)
        if self.tower.causal:
            return op.reshape(self.split(x)[0], op.concat([self.groups, self.prefix, width], axis=0))
        return op.reshape(x, op.concat([ints(-1), self.own, width], axis=0))

    def _without_prefixes(self, shaped: Var, x: Var) -> Var:
        """Undo `_with_prefixes`; the classes' own rows come from `x`."""
        flat = op.reshape(shaped, ints(-1, self.tower.width))
        return op.concat([flat, self.split(x)[1]], axis=0) if self.tower.causal else flat

    def split(self, x: Var) -> tuple[Var, Var]:
        """All rows to the shared prefix rows and the classes' own rows."""
        end = dim(x, 0)
        shared = op.slice(x, ints(0), self.shared_rows, ints(0))
        return shared, op.slice(x, self.shared_rows, end, ints(0))

    def prefix_heads(self, x: Var, count: int) -> Sequence[Var]:
        """The shared rows [G*P, count*D] to `count` times [G, H, 1, P, hd]."""
        return self._heads(x, self._prefix_places, count)

    def own_heads(self, x: Var, count: int) -> Sequence[Var]:
        """The classes' own rows [T, count*D] to `count` times [G, H, R, S, hd]; places behind an end repeat it."""
        return self._heads(x, self._own_places, count)

    def own_heads_backward(self, d_x: Var) -> Var:
        """Gradient [T,D] at the classes' rows to [G, H, R, S, hd]; zero behind an end, where nothing was read."""
        (heads,) = self._heads(d_x, self._own_places, 1)
        return op.mul(heads, self._in_use) if self.tower.causal else heads

    def end_heads(self, x: Var, count: int) -> Sequence[Var]:
        """One row a class, [C, count*D], to `count` times [G, H, R, 1, hd]."""
        return self._heads(x, self._end_places, count)

    def merge_prefix(self, parts: Sequence[Var]) -> Var:
        """Parts of [G, H, 1, P, hd] back to the shared rows [G*P, len(parts)*D]."""
        return self._merge(parts, _range(op.mul(self.groups, self.prefix)), self.prefix)

    def merge_own(self, parts: Sequence[Var]) -> Var:
        """Parts of [G, H, R, S, hd] back to the classes' own rows [T, len(parts)*D]."""
        return self._merge(parts, self._used, op.mul(self.classes, self.own))

    def merge_ends(self, part: Var) -> Var:
        """[G, H, R, 1, hd] back to one row a class, [C, D]."""
        return self._merge([part], _range(op.mul(self.groups, self.classes)), self.classes)

    def _heads(self, x: Var, places: Var, count: int) -> Sequence[Var]:
        """Rows [N, count*D] to `count` times [G, H, R, Q, hd]; `places` [G, 1, R, Q] says which row stands where."""
        # row n, part k, head h is at (n * count + k) * H + h
        table = op.reshape(x, ints(-1, self.head_width))
        head = op.reshape(_range(self.heads), ints(1, -1, 1, 1))
        first = op.add(op.mul(places, op.mul(self.heads, ints(count))), head)
        return [op.gather(table, op.add(first, op.mul(self.heads, ints(k)))) for k in range(count)]

    def _merge(self, parts: Sequence[Var], rows: Var, of_group: Var) -> Var:
        """Undo `_heads`; `rows` [N] says which of G * R * Q places each row comes from, R * Q = `of_group` a group."""
        table = op.concat([op.reshape(part, ints(-1, self.head_width)) for part in parts], axis=0)
        group = op.div(rows, of_group)  # place (g, r, q) of head h is at (g * H + h) * R * Q + r * Q + q
        first = op.add(rows, op.mul(op.mul(group, op.sub(self.heads, ints(1))), of_group))
        head = op.mul(_range(self.heads), of_group)
        part = op.mul(_range(ints(len(parts))), op.mul(op.mul(self.groups, self.heads), of_group))
        spots = op.add(op.reshape(first, ints(-1, 1, 1)), op.add(op.reshape(part, ints(-1, 1)), head))
        return op.reshape(op.gather(table, spots), ints(-1, len(parts) * self.tower.width))


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
