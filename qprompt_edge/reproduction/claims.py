"""The paper's claims as data, and the test of each against the outcomes.

A claim names two methods and a figure. It holds if the whole 95% interval of their difference is on the
claimed side of a threshold. It is refuted if the whole interval is on the other side, and undecided
otherwise. There are two kinds:

    greater      the better method is ahead by more than a margin (mostly 0)
    not worse    non-inferiority: the better method is at most a margin behind

A claim about size has to hold too: bytes are counted, not estimated. Each interval is for its claim alone.
Nothing is corrected for the number of claims, so among many claims some verdicts are due to chance.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from qprompt_edge.reproduction.bootstrap import Difference, Resampling, compare
from qprompt_edge.reproduction.jobs import Outcome
from qprompt_edge.reproduction.measures import Measure
from qprompt_edge.reproduction.summary import stored_bytes

GREATER, NOT_WORSE = "greater", "not worse"
HOLDS, REFUTED, UNDECIDED = "holds", "refuted", "undecided"

POINT = 0.01
"""One per cent, as accuracies are counted."""

_HEADLINE = Measure()


@dataclass(frozen=True)
class Claim:
    """That one method is better than another, or as good.

    Attributes:
        text: In words.
        better: The method that is claimed to be better; of several, the one with the largest difference is
            taken.
        worse: What it is compared with.
        measure: The figure.
        kind: `greater` or `not worse`.
        margin: By more than how much, or than how much at most; a fraction, from 0.
        bytes_under: The better method stores less than this share of the other's bytes; None claims nothing.
    """

    text: str
    better: tuple[str, ...]
    worse: str
    measure: Measure = _HEADLINE
    kind: str = GREATER
    margin: float = 0.0
    bytes_under: float | None = None

    @property
    def threshold(self) -> float:
        """The difference that the claim says is passed."""
        return self.margin if self.kind == GREATER else -self.margin


@dataclass(frozen=True)
class Verdict:
    """What outcomes say about a claim.

    Attributes:
        claim: The claim.
        better: Which of its better methods was taken.
        difference: Better minus worse.
        bytes_share: Bytes that the better method stores, by those of the other; None if that stores nothing.
        verdict: `holds`, `refuted` or `undecided`.
    """

    claim: Claim
    better: str
    difference: Difference
    bytes_share: float | None
    verdict: str

    def to_json(self) -> dict[str, Any]:
        """As JSON can hold it."""
        claim = self.claim
        return {
            "text": claim.text,
            **vars(claim.measure),
            "better": self.better,
            "worse": claim.worse,
            "kind": claim.kind,
            "margin": claim.margin,
            "bytes_under": claim.bytes_under,
            "difference": vars(self.difference),
            "bytes_share": self.bytes_share,
            "verdict": self.verdict,
        }


def judge(
    outcomes: Iterable[Outcome], claims: Sequence[Claim], resampling: Resampling | None = None
) -> list[Verdict]:
    """Judge claims by outcomes.

    Args:
        outcomes: Of any protocols and methods.
        claims: For instance `claim_list.CLAIMS`.
        resampling: How intervals are found; None takes the defaults.

    Returns:
        Verdicts in the claims' order. A claim is left out if no run of one of its methods can be compared
        with a run of the other.

    Raises:
        ValueError: Runs that are compared were judged on different numbers of photos, or one is there twice.
    """
    outcomes = list(outcomes)
    found = (_judge(outcomes, claim, resampling) for claim in claims)
    return [verdict for verdict in found if verdict is not None]


def _judge(outcomes: list[Outcome], claim: Claim, resampling: Resampling | None) -> Verdict | None:
    compared = {
        name: compare(outcomes, name, claim.worse, claim.measure, resampling) for name in claim.better
    }
    candidates = {name: difference for name, difference in compared.items() if difference is not None}
    if not candidates:
        return None
    best = max(candidates, key=lambda name: candidates[name].value)
    share = _bytes_share(outcomes, claim, best)
    return Verdict(claim, best, candidates[best], share, decide(claim, candidates[best], share))


def decide(claim: Claim, difference: Difference, bytes_share: float | None) -> str:
    """The verdict on a claim.

    Args:
        claim: The claim.
        difference: Better minus worse.
        bytes_share: Bytes of the better by bytes of the other; None if that stores nothing, which nothing is
            under.
    """
    too_large = claim.bytes_under is not None and (bytes_share is None or bytes_share >= claim.bytes_under)
    if too_large or difference.high < claim.threshold:
        return REFUTED
    passed = difference.low > claim.threshold if claim.kind == GREATER else difference.low >= claim.threshold
    return HOLDS if passed else UNDECIDED


def _bytes_share(outcomes: list[Outcome], claim: Claim, better: str) -> float | None:
    measure = claim.measure
    ours, theirs = (
        stored_bytes(
            [
                outcome
                for outcome in outcomes
                if (outcome.job.method, outcome.job.protocol) == (method, measure.protocol)
                and measure.shots in (None, outcome.job.shots)
            ]
        )
        for method in (better, claim.worse)
    )
    return ours / theirs if theirs else None
