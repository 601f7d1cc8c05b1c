"""How high tuned classes score beside names that were not tuned.

Residuals are learned among the tuned classes only. A constant on all offsets changes no answer there, so
nothing is learned about how high these classes score beside other names. Cross-validation sets that constant
so that the mean energy of the tuned classes is the same as by their words:

    mean over x of 1/k log sum_c exp(k z_c)  =  mean over x of 1/k log sum_c exp(k cos(x, t_c))
        x: photos that were kept away while residuals were tuned; k: half of the backbone's logit scale

Both are how well the likeliest classes fit, and what a further name has to beat. Measured in
`docs/defaults.md`.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from qprompt_edge.tuning.calibration import FEWEST, HeldOutScores
from qprompt_runtime.arrays import Array
from qprompt_runtime.none_of_these import energy
from qprompt_runtime.prompt_file import PromptFile, PromptGroup

_SOFTER = 2  # than the backbone's own softmax


def level(held_out: HeldOutScores, text: Array, logit_scale: float) -> np.float32:
    """How much higher photos score by residuals than by words, as mean energies of the tuned classes.

    0 if fewer than 20 photos could be held out.

    Args:
        held_out: From `calibration.held_out_scores`.
        text: float32 [C,E], text features of the classes.
        logit_scale: The backbone's.
    """
    if len(held_out.labels) < FEWEST:
        return np.float32(0)
    sharpness = np.float32(logit_scale / _SOFTER)
    by_words = energy(held_out.features @ text.T, sharpness)
    return np.float32((energy(held_out.scores, sharpness) - by_words).mean())


def levelled(prompt: PromptFile, held_out: HeldOutScores, text: Array) -> tuple[PromptFile, HeldOutScores]:
    """A prompt whose classes score as high as by their words, beside other names.

    Answers among its own classes stay the same, but for the rounding of offsets to half precision.

    Args:
        prompt: A `qtaskres` prompt as it was tuned, with the backbone's logit scale.
        held_out: From `calibration.held_out_scores`.
        text: float32 [C,E], text features of its classes.

    Returns:
        The prompt, and the held-out scores as it would give them.
    """
    excess = level(held_out, text, prompt.calibration.logit_scale)
    residuals, offsets = prompt.groups
    moved = (offsets.values() - excess).astype(np.float16)
    groups = residuals, PromptGroup.plain(offsets.role, moved, offsets.rows)
    return replace(prompt, groups=groups), replace(held_out, scores=held_out.scores - excess)
