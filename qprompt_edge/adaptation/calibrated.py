"""A tuned prompt with what its scores mean."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from qprompt_edge.cache import cache_folder
from qprompt_edge.data.features import Examples
from qprompt_edge.reporter import Reporter
from qprompt_edge.tuning.calibration import HeldOutScores, calibrate, held_out_scores
from qprompt_edge.tuning.config import TrainingConfig
from qprompt_runtime.backbone import Backbone
from qprompt_runtime.none_of_these import noun_features
from qprompt_runtime.prompt_file import PromptFile
from qprompt_runtime.text_features import text_features


def calibrated(
    prompt: PromptFile,
    photos: Examples,
    bursts: NDArray[np.int64],
    backbone: Backbone,
    training: TrainingConfig,
    accept: float | None,
    reporter: Reporter,
) -> tuple[PromptFile, HeldOutScores]:
    """The prompt with its logit scale, its accept scores, and how many photos each class was tuned on.

    Args:
        prompt: A `qtaskres` prompt.
        photos: What it was tuned on, N photos.
        bursts: int64 [N]; photos that are nearly the same have the same number.
        backbone: The frozen model.
        training: How it was tuned.
        accept: The share of known photos that is to pass by default, or None.
        reporter: Told how far it is.

    Returns:
        The prompt, and the cross-validated scores that say so.
    """
    text = text_features(backbone, prompt.classes, prompt.template)
    held_out = held_out_scores(
        text,
        photos,
        bursts,
        training,
        lambda done, total: reporter.stage("checking by cross-validation", done, total),
    )
    nouns = noun_features(backbone, prompt.classes, cache_folder("classes"))
    counts = np.bincount(photos.labels, minlength=len(prompt.classes))
    calibration = calibrate(held_out, nouns, backbone.manifest.logit_scale, accept)
    return replace(prompt, calibration=calibration, photos=tuple(counts.tolist())), held_out
