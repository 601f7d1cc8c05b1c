"""What turns cosines into answers (key 6 of the file).

That is the logit scale, and the scores by which "none of these" is decided. The accept scores are those that
shares of the known photos reach: 80% the first, 99% the last. For a share in between, the score is
interpolated where it is applied. `docs/prompt-file.md` defines the score.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from qprompt_runtime.errors import PromptFileError
from qprompt_runtime.prompt_envelope import require, typed

ACCEPT_SHARES = (0.80, 0.90, 0.95, 0.98, 0.99)
"""The shares of known photos whose scores a file holds."""
ACCEPT_KIND = 1
"""The definition of the score that the accept scores are of; there is one so far."""
# 100 for CLIP. cbor2 5.x does not write floats of 32,768 and more in their shortest form; this stays below.
MAX_CALIBRATION = 10_000.0

_SCALE, _SCORES, _ACCEPT = 0, 1, 2  # keys of the calibration's map


@dataclass(frozen=True)
class Calibration:
    """Probabilities are softmax(logit_scale * cosine).

    Attributes:
        logit_scale: Above 0, up to 10,000.
        accept_scores: The score that each of `ACCEPT_SHARES` of the known photos reaches, each a float16
            number and none larger than the one before; empty if the file cannot tell "none of these".
        accept: The share of known photos that is to pass by default, 0.8 to 0.99; None if nothing is refused
            by default.

    Raises:
        PromptFileError: On construction, if a part breaks the format or contradicts another.
    """

    logit_scale: float
    accept_scores: tuple[float, ...] = ()
    accept: float | None = None

    def __post_init__(self) -> None:
        good = 0 < self.logit_scale <= MAX_CALIBRATION
        require(good, "the logit scale", self.logit_scale, f"above 0 and up to {MAX_CALIBRATION:g}")
        scores, shares = self.accept_scores, ACCEPT_SHARES
        good = len(scores) in (0, len(shares))
        require(good, "the count of accept scores", len(scores), f"{len(shares)} or none")
        good = all(abs(score) <= MAX_CALIBRATION and float(np.float16(score)) == score for score in scores)
        require(
            good,
            "the list of accept scores",
            scores,
            f"float16 numbers of at most {MAX_CALIBRATION:g} in size",
        )
        good = all(a >= b for a, b in pairwise(scores))
        require(good, "the list of accept scores", scores, "none larger than the one before")
        if self.accept is not None:
            require(bool(scores), "the share that is accepted", self.accept, "none without accept scores")
            good = shares[0] <= self.accept <= shares[-1]
            require(good, "the share that is accepted", self.accept, f"{shares[0]:g} to {shares[-1]:g}")


def encode_calibration(calibration: Calibration) -> dict[int, Any]:
    """Return the calibration as the file's map."""
    encoded: dict[int, Any] = {_SCALE: float(calibration.logit_scale)}
    if calibration.accept_scores:
        encoded[_SCORES] = [ACCEPT_KIND, *map(float, calibration.accept_scores)]
    if calibration.accept is not None:
        encoded[_ACCEPT] = float(calibration.accept)
    return encoded


def decode_calibration(version: int, value: object) -> Calibration:
    """Read what `encode_calibration` gives, from a file of this format version that is not trusted.

    Raises:
        PromptFileError: A part is missing, unknown, of another type, or breaks the format.
    """
    found = typed(dict, value, "the calibration")
    require(_SCALE in found, "the logit scale", "missing", "a float")
    if version == 1 and _SCORES in found:
        raise PromptFileError(
            'the file has a threshold for "none of these", which this version does not apply; update '
            "qprompt-edge, "
            "or have the prompt written without it"
        )
    known = [_SCALE] if version == 1 else [_SCALE, _SCORES, _ACCEPT]
    unknown = [key for key in found if type(key) is not int or key not in known]
    expected = "0 alone" if version == 1 else f"only {known}; update qprompt-edge"
    require(not unknown, "the calibration's keys", list(found), expected)
    accept = found.get(_ACCEPT)
    return Calibration(
        typed(float, found[_SCALE], "the logit scale"),
        _decode_scores(found[_SCORES]) if _SCORES in found else (),
        accept if accept is None else typed(float, accept, "the share that is accepted"),
    )


def _decode_scores(value: object) -> tuple[float, ...]:
    entries = typed(list, value, "the accept scores")
    count = 1 + len(ACCEPT_SHARES)
    require(len(entries) >= 1, "the count of parts of the accept scores", len(entries), str(count))
    kind = typed(int, entries[0], "the kind of the accept scores")
    require(kind == ACCEPT_KIND, "the kind of the accept scores", kind, f"{ACCEPT_KIND}; update qprompt-edge")
    require(len(entries) == count, "the count of parts of the accept scores", len(entries), str(count))
    return tuple(typed(float, score, "an accept score") for score in entries[1:])
