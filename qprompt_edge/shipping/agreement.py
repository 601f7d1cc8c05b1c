"""Which of several prompts says something else than the others: it is poisoned, or its folders are wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median

import numpy as np
from numpy.typing import NDArray

from qprompt_runtime.prompt_file import RESIDUAL, PromptFile

_LEAST = 0.25
"""Of the usual agreement."""
_FEWEST = 3


@dataclass(frozen=True)
class Agreement:
    """How far a prompt says what the others say.

    Attributes:
        cosine: Mean cosine of its residuals to the direction of the others', over the classes that others
            know too; None without such a class, or where that is not defined.
        usual: The median over the prompts, at least 0.
    """

    cosine: float | None
    usual: float

    @property
    def merged(self) -> bool:
        """Whether the prompt is merged; one that agrees far less than the usual one is left out."""
        return self.cosine is None or self.cosine >= _LEAST * self.usual


def agreements(prompts: Sequence[PromptFile]) -> list[Agreement]:
    """How far each prompt agrees with the others; of fewer than three nobody can say which one is wrong.

    Measured, one with labels exchanged or numbers turned round has at most 0.15 times the usual agreement, an
    honest one 0.36 times and more (`docs/fleet.md`). Only prompts with class residuals are looked at.
    """
    if len(prompts) < _FEWEST or prompts[0].method != RESIDUAL:
        return [Agreement(None, 0.0)] * len(prompts)
    units = list(map(_unit_rows, prompts))
    known = Counter(label for rows in units for label in rows)
    total: dict[str, NDArray[np.float64]] = {}
    for number in sorted(
        range(len(prompts)), key=lambda place: prompts[place].to_bytes()
    ):  # sums depend on it
        for label, row in units[number].items():
            total[label] = total[label] + row if label in total else row
    cosines = [
        [float(row @ _unit(total[label] - row)) for label, row in sorted(rows.items()) if known[label] > 1]
        for rows in units
    ]
    means = [fmean(each) if each else None for each in cosines]
    usual = median([mean for mean in means if mean is not None] or [0.0])
    return [Agreement(mean, max(0.0, usual)) for mean in means]


def _unit_rows(prompt: PromptFile) -> dict[str, NDArray[np.float64]]:
    """Label to residual of length 1, of the classes that have one."""
    owners = prompt.groups[0].rows or range(len(prompt.classes))
    values = prompt.groups[0].values()
    return {prompt.classes[owner].label: _unit(row) for owner, row in zip(owners, values, strict=True)}


def _unit(row: NDArray[np.floating]) -> NDArray[np.float64]:
    """A row brought to length 1, or zeros."""
    wide = row.astype(np.float64)
    length = float(np.linalg.norm(wide))
    return wide / length if length else wide
