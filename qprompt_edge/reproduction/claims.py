"""The paper's claims as data, and what the outcomes say about each.

A claim names two methods and a figure. It holds if the whole 95% interval of their difference lies on the claimed
side of a threshold, is refuted if the whole interval lies on the other side, and is undecided else. Two kinds:

    greater      the better method is ahead by more than a margin (mostly 0)
    not worse    non-inferiority: the better method is at most a margin behind

A claim about size has to hold too: bytes are counted, not estimated. Each interval is for its claim alone; nothing is
corrected for their number, so among many claims some verdicts are chance.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from qprompt_edge.reproduction.bootstrap import Difference, Resampling, compare
from qprompt_edge.reproduction.jobs import NEW, Outcome
from qprompt_edge.reproduction.measures import CROSS_DATASET, DOMAIN, FEW_SHOT, GENERALISED, TOP1, H, Measure
from qprompt_edge.reproduction.recipes import WIDTHS
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
        better: The method that is claimed to be better; of several, the one with the largest difference is taken.
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
    outcomes: Iterable[Outcome], claims: Sequence[Claim] | None = None, resampling: Resampling | None = None
) -> list[Verdict]:
    """Judge claims by outcomes.

    Args:
        outcomes: Of any protocols and methods.
        claims: None takes `CLAIMS`.
        resampling: How intervals are found; None takes the defaults.

    Returns:
        Verdicts in the claims' order. A claim is left out if no run of one of its methods can be compared with a run
        of the other.

    Raises:
        ValueError: Runs that are compared were judged on different numbers of photos, or one is there twice.
    """
    outcomes = list(outcomes)
    found = (_judge(outcomes, claim, resampling) for claim in (CLAIMS if claims is None else claims))
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
        bytes_share: Bytes of the better by bytes of the other; None if that stores nothing, which nothing is under.
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


def _quantizing() -> list[Claim]:
    """Quantized against unquantized, against noise, and against quantizing afterwards."""
    new = Measure(NEW)
    return [
        *(
            Claim(
                f"Quantizing helps: QCoOp at {b} bit is ahead of CoOp on {where}",
                (f"qcoop-{b}",),
                "coop",
                measure,
            )
            for where, measure in (("new classes", new), ("H", _HEADLINE))
            for b in WIDTHS
        ),
        Claim("Moderate noise helps on new classes", ("noise-moderate",), "coop", new),
        Claim("Moderate noise helps on H", ("noise-moderate",), "coop"),
        Claim("Strong noise hurts on base classes", ("coop",), "noise-strong", Measure("base")),
        Claim("Strong noise hurts on H", ("coop",), "noise-strong"),
        *(
            Claim(
                f"Quantizing while training is ahead of quantizing afterwards at {b} bit, on {where}",
                (f"qcoop-{b}",),
                f"ptq-{b}",
                measure,
            )
            for where, measure in (("new classes", new), ("H", _HEADLINE))
            for b in WIDTHS
        ),
    ]


def _quantizer() -> list[Claim]:
    """The parts of the quantizer, and its width."""
    parts = (
        ("Normalisation helps (codebook renewed at every step)", "no-cac", "kmeans"),
        ("Normalisation helps (with CAC)", "qcoop", "no-normalisation"),
        ("CAC helps", "qcoop", "no-cac"),
    )
    return [
        *(
            Claim(f"{text}, at {b} bit, on H", (f"{better}-{b}",), f"{worse}-{b}")
            for text, better, worse in parts
            for b in WIDTHS
        ),
        *(
            Claim(
                f"1 bit is as good as {b} on H: at most 1 point behind",
                ("qcoop-1",),
                f"qcoop-{b}",
                kind=NOT_WORSE,
                margin=POINT,
            )
            for b in WIDTHS[1:]
        ),
    ]


def _deep() -> list[Claim]:
    """QMaPLe, and what folding costs."""
    folded = [("maple-folded", "maple", "unquantized")]
    folded += [(f"qmaple-{b}", f"qmaple-coupled-{b}", f"at {b} bit") for b in WIDTHS]
    return [
        *(
            Claim(f"QMaPLe (coupled, {b} bit) is ahead of MaPLe on H", (f"qmaple-coupled-{b}",), "maple")
            for b in WIDTHS
        ),
        *(
            Claim(
                f"Folding loses nothing, {width}: at most 1 point of H behind coupled prompts",
                (better,),
                worse,
                kind=NOT_WORSE,
                margin=POINT,
            )
            for better, worse, width in folded
        ),
    ]


def _targets() -> list[Claim]:
    """What was asked of this implementation, beyond the paper."""
    return [
        Claim(
            "Target: QCoOp at 1 bit is 2 points of H ahead of CoOp", ("qcoop-1",), "coop", margin=2 * POINT
        ),
        Claim(
            "Target: QCoOp at 1 bit is not behind zero-shot on H", ("qcoop-1",), "zero-shot", kind=NOT_WORSE
        ),
        Claim(
            "Target: the best width of folded QMaPLe is not behind MaPLe on H, at under 1/100 of its bytes",
            tuple(f"qmaple-{b}" for b in WIDTHS),
            "maple",
            kind=NOT_WORSE,
            bytes_under=0.01,
        ),
    ]


def _other_protocols() -> list[Claim]:
    """Few shots, other data sets, other domains."""
    return [
        *(
            Claim(
                f"Few-shot: QCoOp at 1 bit is ahead of {title} with {shots} shot{'s' * (shots > 1)} a class",
                ("qcoop-1",),
                worse,
                Measure(TOP1, FEW_SHOT, shots),
            )
            for title, worse in (("zero-shot", "zero-shot"), ("CoOp", "coop"))
            for shots in (1, 2, 4, 8, 16)
        ),
        *(
            Claim(f"{title} on other {targets}", (better,), worse, Measure(TOP1, protocol))
            for title, better, worse in (
                ("QCoOp at 1 bit is ahead of CoOp", "qcoop-1", "coop"),
                ("QMaPLe (folded, 1 bit) is ahead of MaPLe", "qmaple-1", "maple"),
            )
            for targets, protocol in (("data sets", CROSS_DATASET), ("domains", DOMAIN))
        ),
    ]


def _residuals() -> list[Claim]:
    """Class residuals, the default of `adapt`."""
    generalised = Measure(H, GENERALISED)
    return [
        *(
            Claim(
                f"QTaskRes at 1 bit is ahead of {title} by {margin} points of H{where}",
                ("qtaskres-1",),
                worse,
                measure,
                margin=margin * POINT,
            )
            for title, worse, measure, where, margin in (
                ("CoOp", "coop", _HEADLINE, "", 3),
                ("zero-shot", "zero-shot", _HEADLINE, "", 2),
                ("CoOp", "coop", generalised, " among all names", 2),
                ("zero-shot", "zero-shot", generalised, " among all names", 0),
            )
        ),
        *(
            Claim(
                f"Few-shot: QTaskRes at 1 bit is at most {behind} points behind the linear probe with {shots} shots",
                ("qtaskres-1",),
                "probe",
                Measure(TOP1, FEW_SHOT, shots),
                NOT_WORSE,
                behind * POINT,
            )
            for shots, behind in ((16, 0.5), (4, 0.5))
        ),
        Claim(
            "QTaskRes at 1 bit is at most 1 point behind TaskRes with 16 shots",
            ("qtaskres-1",),
            "taskres",
            Measure(TOP1, FEW_SHOT, 16),
            NOT_WORSE,
            POINT,
        ),
        Claim(
            "Quantizing while training is ahead of quantizing afterwards: QTaskRes at 1 bit, 16 shots",
            ("qtaskres-1",),
            "taskres-ptq-1",
            Measure(TOP1, FEW_SHOT, 16),
        ),
    ]


CLAIMS: tuple[Claim, ...] = (
    *_quantizing(),
    *_quantizer(),
    *_deep(),
    *_targets(),
    *_other_protocols(),
    *_residuals(),
)
