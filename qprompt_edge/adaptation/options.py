"""What `adapt` can be told."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from qprompt_edge.tuning.config import TrainingConfig
from qprompt_edge.tuning.methods import DEFAULT_TRAINING, METHODS
from qprompt_edge.tuning.qcoop import CONTEXT_INIT
from qprompt_runtime.bundle import DEFAULT_BACKBONE
from qprompt_runtime.prompt_file import CONTEXT

SHARED = "shared"
CONTEXTS = (SHARED, "per-class")


@dataclass(frozen=True)
class AdaptOptions:
    """What `adapt` does with the photos; the command line's options have these names.

    Attributes:
        backbone: Name or folder.
        method: `qcoop`; `qmaple` (deep prompts of both towers, image prompts projected before they are shipped); or
            `qmaple-coupled`, which ships the projections instead, as the paper does.
        contexts: `shared`, or `per-class` for context vectors of each class's own.
        context_init: Words that the context vectors start from.
        shots: Photos of each class to train on; None takes all that are not held out.
        holdout: Share of each class's photos to judge by.
        views: Augmented views of each training photo beside the plain one.
        training: How the prompt is tuned; None takes the method's own defaults.
        provider: `auto`, or an execution provider's short name.
        threads: Threads within an operator; 0 takes one for each core.
        max_memory: Most resident memory in MB of 10^6 bytes; None sets no limit.
    """

    backbone: str | Path = DEFAULT_BACKBONE
    method: str = CONTEXT
    contexts: str = SHARED
    context_init: str = CONTEXT_INIT
    shots: int | None = None
    holdout: float = 0.2
    views: int = 0
    training: TrainingConfig = field(default=None)  # type: ignore[assignment]
    provider: str = "auto"
    threads: int = 0
    max_memory: float | None = None

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"method is {self.method!r}, expected one of {', '.join(METHODS)}")
        if self.method != CONTEXT and self.contexts != SHARED:
            raise ValueError(f"method {self.method!r} has shared contexts only, got {self.contexts!r}")
        if self.contexts not in CONTEXTS:
            raise ValueError(f"contexts is {self.contexts!r}, expected one of {CONTEXTS}")
        if self.views < 0 or (self.shots is not None and self.shots < 1):
            raise ValueError(f"views ({self.views}) must be at least 0, shots ({self.shots}) at least 1")
        if self.training is None:
            object.__setattr__(self, "training", DEFAULT_TRAINING[self.method])
