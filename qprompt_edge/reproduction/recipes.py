"""Every method that the paper compares, as data.

A row says what is learned, how it is quantized, and what is changed about it. The loop, the objective and the
quantizer are the same for all of them; a row says which of their settings differ.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from qprompt_edge.tuning.config import TrainingConfig
from qprompt_edge.tuning.methods import DEFAULT_TRAINING
from qprompt_edge.tuning.qcoop import CONTEXT_INIT
from qprompt_edge.tuning.quantizer import UNQUANTIZED_BITS, Clustering
from qprompt_edge.tuning.regularizers import Regularizer

PAPER_TRAINING: Mapping[str, TrainingConfig] = {
    **DEFAULT_TRAINING,
    "qcoop": TrainingConfig(epochs=50, batch_size=32, relative_rate=650.0, warmup_epochs=1),
}
"""How each learner is trained where methods are compared.

Contexts take CoOp's epochs and batches, not the fewer steps of `adapt`. Residuals are tuned as by `adapt`.
"""

_ALWAYS = Clustering(interval=1, divergence=-1.0)  # a divergence is at least 0: reclustered after every step


@dataclass(frozen=True)
class Recipe:
    """A method.

    Attributes:
        title: For tables.
        learner: What is learned: `qtaskres`, `qcoop`, `qmaple`, `qmaple-coupled` (as in `adapt`),
            `zero-shot`, `ensemble`, `probe` or `tip-adapter`.
        bits: Bits a weight while learning; 32: no quantizer.
        bits_after: Bits a weight to which the result is quantized after training (PTQ); None leaves it as
            learned.
        noise: Standard deviation of Gaussian noise on the weights in the forward pass, in units of the
            initial weights' own.
        clustering: When and how the codebook is reclustered.
        per_class: Context vectors of each class's own.
        context_init: Words that the context starts from; one vector a token.
        regularizer: What else is charged for than wrong answers; None for nothing.
        averaged: Ship the average over the later steps.
    """

    title: str
    learner: str = "qcoop"
    bits: float = UNQUANTIZED_BITS
    bits_after: int | None = None
    noise: float = 0.0
    clustering: Clustering = field(default_factory=Clustering)
    per_class: bool = False
    context_init: str = CONTEXT_INIT
    regularizer: Regularizer | None = None
    averaged: bool = False

    @property
    def knows_new_classes(self) -> bool:
        """Whether it says anything about classes that it was not trained on."""
        return self.learner not in ("probe", "tip-adapter") and not self.per_class


WIDTHS = (1, 2, 4)
SIXTEEN_WORDS = "a good clear photo of one single object of the kind that people call by name"
"""As many vectors as CoOp learns from few shots.

They are words instead of CoOp's noise, so that tuning starts from zero-shot.
"""


def _widths(name: str, title: str, **settings: object) -> dict[str, Recipe]:
    """One row for each of the paper's bit widths."""
    return {f"{name}-{b}": Recipe(f"{title}, {b} bit", bits=b, **settings) for b in WIDTHS}  # type: ignore[arg-type]


def _steadier(name: str, title: str, **settings: object) -> dict[str, Recipe]:
    """A context that something holds back, unquantized and at 1 bit."""
    return {
        name: Recipe(f"CoOp, {title}", **settings),  # type: ignore[arg-type]
        f"{name}-1": Recipe(f"QCoOp, {title}, 1 bit", bits=1, **settings),  # type: ignore[arg-type]
    }


RECIPES: dict[str, Recipe] = {
    "zero-shot": Recipe("zero-shot", "zero-shot"),
    "ensemble": Recipe("zero-shot, ensemble", "ensemble"),
    "taskres": Recipe("TaskRes", "qtaskres"),
    "qtaskres-1.6": Recipe("QTaskRes, 1.6 bits", "qtaskres", bits=1.6),
    **_widths("qtaskres", "QTaskRes", learner="qtaskres"),
    "taskres-ptq-1": Recipe("TaskRes, PTQ, 1 bit", "qtaskres", bits_after=1),
    "coop": Recipe("CoOp"),
    **_widths("qcoop", "QCoOp"),
    "coop-16": Recipe("CoOp, 16 vectors", context_init=SIXTEEN_WORDS),
    "qcoop-16-1": Recipe("QCoOp, 16 vectors, 1 bit", bits=1, context_init=SIXTEEN_WORDS),
    "noise-weak": Recipe("CoOp, noise 0.1 sigma", noise=0.1),
    "noise-moderate": Recipe("CoOp, noise 1 sigma", noise=1.0),
    "noise-strong": Recipe("CoOp, noise 10 sigma", noise=10.0),
    **{f"ptq-{b}": Recipe(f"CoOp, PTQ, {b} bit", bits_after=b) for b in WIDTHS},
    **_widths("kmeans", "k-means only", clustering=Clustering(interval=1, divergence=-1.0, normalised=False)),
    **_widths("no-normalisation", "QCoOp without normalisation", clustering=Clustering(normalised=False)),
    **_widths("no-cac", "QCoOp without CAC", clustering=_ALWAYS),
    "coop-per-class": Recipe("CoOp, a context for each class", per_class=True),
    "qcoop-per-class-1": Recipe("QCoOp, a context for each class, 1 bit", bits=1, per_class=True),
    **_steadier("kgcoop", "KgCoOp's pull", regularizer=Regularizer(cosine=8.0)),
    **_steadier("kgcoop-half", "half KgCoOp's pull", regularizer=Regularizer(cosine=4.0)),
    **_steadier(
        "consistency", "PromptSRC's consistency", regularizer=Regularizer(distance=25.0, divergence=1.0)
    ),
    **_steadier("averaged", "averaged over time", averaged=True),
    **_steadier("lasp", "LASP's sentences", regularizer=Regularizer(sentences=5.0)),
    **_steadier(
        "lasp-names", "LASP's sentences, new names", regularizer=Regularizer(sentences=5.0, new_names=True)
    ),
    **_steadier("steady", "half KgCoOp's pull, averaged", regularizer=Regularizer(cosine=4.0), averaged=True),
    "maple": Recipe("MaPLe", "qmaple-coupled"),
    **_widths("qmaple-coupled", "QMaPLe coupled", learner="qmaple-coupled"),
    "maple-folded": Recipe("MaPLe folded", "qmaple"),
    **_widths("qmaple", "QMaPLe folded", learner="qmaple"),
    "probe": Recipe("linear probe", "probe"),
    "tip-adapter": Recipe("Tip-Adapter", "tip-adapter"),
}
"""By name; the order is that of tables."""
