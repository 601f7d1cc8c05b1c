"""Many prompts on one backbone: a picture is compared with the classes of all of them in one product."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qprompt_runtime.arrays import Array
from qprompt_runtime.class_head import ClassHead, softmax
from qprompt_runtime.none_of_these import known_beside

MOST_PREDICTIONS = 5


@dataclass(frozen=True)
class Head:
    """A prompt, ready to answer.

    Attributes:
        name: The prompt's name.
        labels: Its C classes.
        classes: What image features are compared with.
        least_score: The score below which a picture shows none of the classes; None if it does not tell.
        nouns: Which of the common nouns compete with the classes, bool [1000].
    """

    name: str
    labels: tuple[str, ...]
    classes: ClassHead
    least_score: float | None
    nouns: NDArray[np.bool_]


@dataclass(frozen=True)
class Verdict:
    """What a prompt says about a picture: the likeliest classes, and whether it shows none of them."""

    predictions: tuple[tuple[str, float], ...]
    none_of_these: bool | None


class Heads:
    """The heads of all P prompts, side by side: whatever their number, each step is one operation on arrays.

    Args:
        heads: One for each prompt, of the same backbone.
        nouns: float32 [1000,E], the common nouns' features; None if no head tells "none of these".
    """

    def __init__(self, heads: Sequence[Head], nouns: Array | None) -> None:
        self.heads = tuple(heads)
        counts = [len(head.labels) for head in heads]
        most, ends = max(counts), np.cumsum(counts)
        self._features = np.concatenate([head.classes.features for head in heads])
        self._offsets = np.concatenate([head.classes.offsets for head in heads])
        self._scales = np.array([[head.classes.logit_scale] for head in heads], np.float32)
        # columns of each prompt's classes [P,C]; where it has fewer, one behind the last, which never wins
        self._columns = np.full((len(heads), most), ends[-1])
        for row, count, end in zip(self._columns, counts, ends, strict=True):
            row[:count] = np.arange(end - count, end)
        self._shown = [min(count, MOST_PREDICTIONS) for count in counts]
        self._nouns = nouns
        if nouns is not None:
            least = [-np.inf if head.least_score is None else head.least_score for head in heads]
            self._least = np.array(least, np.float32)
            self._silent = np.where([head.nouns for head in heads], np.float32(0), np.float32(-np.inf))

    def judge(self, image_features: Array) -> list[list[Verdict]]:
        """Verdicts on pictures, from their unit features [B,E]: for each picture one for each prompt."""
        scores = image_features @ self._features.T + self._offsets
        nowhere = np.full((len(scores), 1), -np.inf, np.float32)
        by_prompt = np.concatenate([scores, nowhere], axis=1)[:, self._columns]  # [B,P,C]
        refused = self._refused(image_features, by_prompt)
        return [
            self._verdicts(softmax(self._scales * rows), none)
            for rows, none in zip(by_prompt, refused, strict=True)
        ]

    def _refused(self, image_features: Array, scores: Array) -> list[list[bool]]:
        """Whether a picture shows none of a prompt's classes, from scores [B,P,C].

        It means nothing where a head does not tell.
        """
        if self._nouns is None:
            return [[False] * len(self.heads)] * len(scores)
        nouns = image_features @ self._nouns.T
        return [
            (known_beside(rows, row + self._silent) < self._least).tolist()
            for rows, row in zip(scores, nouns, strict=True)
        ]

    def _verdicts(self, probabilities: Array, refused: list[bool]) -> list[Verdict]:
        """One picture's, from probabilities [P,C]."""
        order = np.argsort(-probabilities, axis=1, kind="stable")[:, :MOST_PREDICTIONS]
        values = np.take_along_axis(probabilities, order, axis=1).tolist()
        verdicts = []
        for head, best, shares, shown, none in zip(
            self.heads, order.tolist(), values, self._shown, refused, strict=True
        ):
            named = zip([head.labels[place] for place in best[:shown]], shares[:shown], strict=True)
            verdicts.append(Verdict(tuple(named), None if head.least_score is None else none))
        return verdicts
