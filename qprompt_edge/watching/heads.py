"""Many prompts on one backbone: a picture is compared with the classes of all of them in one product."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qprompt_runtime.arrays import Array
from qprompt_runtime.class_head import ClassHead, cosines, softmax
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
        scored: Whether verdicts have the score by which "none of these" is decided; always where it is told.
    """

    name: str
    labels: tuple[str, ...]
    classes: ClassHead
    least_score: float | None
    nouns: NDArray[np.bool_]
    scored: bool


@dataclass(frozen=True)
class Verdict:
    """What a prompt says about a picture: the likeliest classes, and whether it shows none of them.

    `score` is what that is decided by; None if the head is not scored.
    """

    predictions: tuple[tuple[str, float], ...]
    none_of_these: bool | None
    score: float | None = None


class Heads:
    """The heads of all P prompts, side by side: whatever their number, each step is one operation on arrays.

    Args:
        heads: One for each prompt, of the same backbone.
        nouns: float32 [1000,E], the common nouns' features; None if no head is scored.
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
        scores = cosines(image_features, self._features) + self._offsets
        nowhere = np.full((len(scores), 1), -np.inf, np.float32)
        by_prompt = np.concatenate([scores, nowhere], axis=1)[:, self._columns]  # [B,P,C]
        known = self._known(image_features, by_prompt)
        return [
            self._verdicts(softmax(self._scales * rows), of_picture)
            for rows, of_picture in zip(by_prompt, known, strict=True)
        ]

    def _known(self, image_features: Array, scores: Array) -> Array:
        """How much pictures look like a prompt's classes [B,P], from scores [B,P,C].

        It means nothing where a head is not scored.
        """
        if self._nouns is None:
            return np.zeros(scores.shape[:2], np.float32)
        nouns = cosines(image_features, self._nouns)
        rows = [known_beside(rows, row + self._silent) for rows, row in zip(scores, nouns, strict=True)]
        return np.stack(rows)

    def _verdicts(self, probabilities: Array, known: Array) -> list[Verdict]:
        """One picture's, from probabilities [P,C] and scores [P]."""
        refused = (known < self._least).tolist() if self._nouns is not None else [False] * len(self.heads)
        order = np.argsort(-probabilities, axis=1, kind="stable")[:, :MOST_PREDICTIONS]
        values = np.take_along_axis(probabilities, order, axis=1).tolist()
        verdicts = []
        for head, best, shares, shown, none, score in zip(
            self.heads, order.tolist(), values, self._shown, refused, known.tolist(), strict=True
        ):
            named = zip([head.labels[place] for place in best[:shown]], shares[:shown], strict=True)
            told = None if head.least_score is None else none
            verdicts.append(Verdict(tuple(named), told, score if head.scored else None))
        return verdicts
