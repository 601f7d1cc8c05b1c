"""A tuned prompt with what its scores mean, and what both need of the text tower."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from qprompt_edge.cache import cache_folder
from qprompt_edge.data.features import Examples
from qprompt_edge.reporter import Reporter
from qprompt_edge.tuning.calibration import HeldOutScores, calibrate, held_out_scores
from qprompt_edge.tuning.config import TrainingConfig
from qprompt_edge.tuning.levels import levelled
from qprompt_runtime.arrays import Array
from qprompt_runtime.backbone import Backbone
from qprompt_runtime.none_of_these import noun_features
from qprompt_runtime.prompt_file import ClassName, PromptFile
from qprompt_runtime.text_features import kept_text_features


@dataclass(frozen=True)
class WordFeatures:
    """All that residuals need of the text tower.

    Attributes:
        classes: float32 [C,E], text features of the classes.
        nouns: float32 [G,E], of what competes with them.
    """

    classes: Array
    nouns: Array


def word_features(
    backbone: Backbone, classes: Sequence[ClassName], template: tuple[str, str]
) -> WordFeatures:
    """Ask the text tower once, and close it: while residuals are tuned, no model is in memory.

    Args:
        backbone: The frozen model.
        classes: The C classes.
        template: The text before and after a class's words.

    Raises:
        TextError: A prompt is too long for the text tower.
    """
    cache = cache_folder("classes")
    found = WordFeatures(
        kept_text_features(backbone, classes, template, cache), noun_features(backbone, classes, cache)
    )
    backbone.close_text_tower()
    return found


def calibrated(
    prompt: PromptFile,
    photos: Examples,
    bursts: NDArray[np.int64],
    words: WordFeatures,
    training: TrainingConfig,
    accept: float | None,
    reporter: Reporter,
) -> tuple[PromptFile, HeldOutScores]:
    """The prompt with its level, logit scale, accept scores, and how many photos each class was tuned on.

    Args:
        prompt: A `qtaskres` prompt, with the backbone's logit scale.
        photos: What it was tuned on, N photos.
        bursts: int64 [N]; photos that are nearly the same have the same number.
        words: Text features of its classes.
        training: How it was tuned.
        accept: The share of known photos that is to pass by default, or None.
        reporter: Told how far it is.

    Returns:
        The prompt, and the cross-validated scores that say so.
    """
    held_out = held_out_scores(
        words.classes,
        photos,
        bursts,
        training,
        lambda done, total: reporter.stage("checking by cross-validation", done, total),
    )
    prompt, held_out = levelled(prompt, held_out, words.classes)
    counts = np.bincount(photos.labels, minlength=len(prompt.classes))
    calibration = calibrate(held_out, words.nouns, prompt.calibration.logit_scale, accept)
    return replace(prompt, calibration=calibration, photos=tuple(counts.tolist())), held_out
