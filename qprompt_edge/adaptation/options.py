"""The options of `adapt`, checked before anything is read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from qprompt_edge.tuning.config import TrainingConfig
from qprompt_runtime.prompt_file import ACCEPT_SHARES, CONTEXT, RESIDUAL

SHARED = "shared"
CONTEXTS = (SHARED, "per-class")
MOST_HELD_OUT = 0.9


@dataclass(frozen=True, kw_only=True)
class AdaptOptions:
    """What `adapt` does with the photos; it makes this of its arguments, where the defaults stand too.

    Attributes:
        photos: A folder with one sub-folder of photos per class; with `labels`, where its paths start.
        labels: A CSV file with the columns `path,label`, or None.
        test_images: Photos to judge by, or None.
        class_names: A CSV file with words for labels, or None.
        backbone: Name or folder.
        method: One of `tuning.methods.METHODS`.
        contexts: One of `CONTEXTS`.
        context_init: Words that the context vectors start from.
        shots: Photos of each class to train on; None takes all that are not held out.
        holdout: Share of each class's photos to judge by.
        views: Augmented views of each training photo beside the plain one.
        accept: Share of known photos that "none of these" lets pass, in force unless a command asks for
            another; None leaves it off.
        training: How the prompt is tuned.
        resume: Continue this very task if the work directory holds its checkpoint.
        work_dir: Folder for checkpoints; None takes one in the user's cache.
        provider: `auto`, or an execution provider's short name.
        threads: Threads within an operator; 0 takes one for each core.
        max_memory: Most resident memory in MB of 10^6 bytes; None sets no limit.

    Raises:
        ValueError: A value is out of its range, or does not suit the method.
    """

    photos: Path
    labels: Path | None
    test_images: Path | None
    class_names: Path | None
    backbone: str | Path
    method: str
    contexts: str
    context_init: str
    shots: int | None
    holdout: float
    views: int
    accept: float | None
    training: TrainingConfig
    resume: bool
    work_dir: Path | None
    provider: str
    threads: int
    max_memory: float | None

    def __post_init__(self) -> None:
        if self.contexts not in CONTEXTS:
            raise ValueError(f"contexts is {self.contexts!r}, expected one of {', '.join(CONTEXTS)}")
        if self.method != CONTEXT and self.contexts != SHARED:
            raise ValueError(f"method {self.method!r} has shared contexts only, got {self.contexts!r}")
        if self.views < 0 or (self.shots is not None and self.shots < 1):
            raise ValueError(f"views ({self.views}) must be at least 0, shots ({self.shots}) at least 1")
        if self.accept is not None:
            if self.method != RESIDUAL:
                raise ValueError(f"accept is for method {RESIDUAL!r}, got {self.method!r}")
            if not ACCEPT_SHARES[0] <= self.accept <= ACCEPT_SHARES[-1]:
                raise ValueError(
                    f"accept is {self.accept}, expected a share from {ACCEPT_SHARES[0]} to "
                    f"{ACCEPT_SHARES[-1]}"
                )
        if not 0 <= self.holdout <= MOST_HELD_OUT:
            raise ValueError(f"holdout is {self.holdout}, expected a share from 0 to {MOST_HELD_OUT}")
