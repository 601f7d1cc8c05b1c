"""Class features from hand-written prompts: one template, or the mean over an ensemble."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from qprompt_runtime.arrays import Array
from qprompt_runtime.backbone import Backbone
from qprompt_runtime.prompt_file import ClassName
from qprompt_runtime.text_features import text_features

PHOTO_TEMPLATE = "a photo of a {}."
ENSEMBLE = (
    "itap of a {}.",
    "a bad photo of the {}.",
    "a origami {}.",
    "a photo of the large {}.",
    "a {} in a video game.",
    "art of the {}.",
    "a photo of the small {}.",
)
"""CLIP's seven best templates for ImageNet (CoOp: trainers/imagenet_templates.py).

The data set's own template joins them.
"""


def class_features(backbone: Backbone, classes: Sequence[ClassName], template: str = PHOTO_TEMPLATE) -> Array:
    """Class features of one hand-written prompt: float32 [C,E], rows of length 1.

    Args:
        backbone: The frozen model.
        classes: The C classes.
        template: The prompt; `{}` stands for the name.

    Raises:
        TextError: A prompt is too long for the text tower.
    """
    before, after = template.split("{}")
    return text_features(backbone, classes, (before, after))


def ensemble_features(
    backbone: Backbone, classes: Sequence[ClassName], template: str = PHOTO_TEMPLATE
) -> Array:
    """The mean over `ENSEMBLE` and the data set's own template, of length 1 again: float32 [C,E].

    Args:
        backbone: The frozen model.
        classes: The C classes.
        template: The data set's own template.

    Raises:
        TextError: A prompt is too long for the text tower.
    """
    templates = (*ENSEMBLE, template)
    total = np.sum([class_features(backbone, classes, each) for each in templates], axis=0)
    mean: Array = total / np.linalg.norm(total, axis=1, keepdims=True)
    return mean
