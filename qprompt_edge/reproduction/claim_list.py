"""The claims that are tested: the paper's, those about class residuals, and two about this implementation."""

from __future__ import annotations

from qprompt_edge.reproduction.claims import NOT_WORSE, POINT, Claim
from qprompt_edge.reproduction.jobs import NEW
from qprompt_edge.reproduction.measures import CROSS_DATASET, DOMAIN, FEW_SHOT, GENERALISED, TOP1, H, Measure
from qprompt_edge.reproduction.recipes import WIDTHS

_HEADLINE = Measure()


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


def _beyond_the_paper() -> list[Claim]:
    """Comparisons that the paper does not make."""
    return [
        Claim("QCoOp at 1 bit is 2 points of H ahead of CoOp", ("qcoop-1",), "coop", margin=2 * POINT),
        Claim("QCoOp at 1 bit is not behind zero-shot on H", ("qcoop-1",), "zero-shot", kind=NOT_WORSE),
        Claim(
            "The best width of folded QMaPLe is not behind MaPLe on H, at under 1/100 of its bytes",
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
                f"QTaskRes at 1.6 bits is {ahead} {title}{where}",
                ("qtaskres-1.6",),
                worse,
                measure,
                margin=margin * POINT,
            )
            for ahead, title, worse, measure, where, margin in (
                ("3 points of H ahead of", "CoOp", "coop", _HEADLINE, "", 3),
                ("2 points of H ahead of", "zero-shot", "zero-shot", _HEADLINE, "", 2),
                ("2 points of H ahead of", "CoOp", "coop", generalised, ", among all names", 2),
                ("ahead of", "zero-shot", "zero-shot", generalised, " on H, among all names", 0),
            )
        ),
        *(
            Claim(
                f"Few-shot: QTaskRes at 1.6 bits is at most {behind} points behind the linear probe with "
                f"{shots} shots",
                ("qtaskres-1.6",),
                "probe",
                Measure(TOP1, FEW_SHOT, shots),
                NOT_WORSE,
                behind * POINT,
            )
            for shots, behind in ((16, 0.5), (4, 0.5))
        ),
        Claim(
            "QTaskRes at 1.6 bits is at most 1 point behind TaskRes with 16 shots",
            ("qtaskres-1.6",),
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
    *_beyond_the_paper(),
    *_other_protocols(),
    *_residuals(),
)
