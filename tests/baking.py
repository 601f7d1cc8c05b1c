"""Prompts without a training, as objects, for the tests of baked classifiers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from qprompt_runtime.backbone import Backbone
from qprompt_runtime.prompt_file import Calibration, ClassName, PromptFile, PromptGroup

EXAMPLES = Path(__file__).parent.parent / "examples" / "photos"
LABELS = ("bolt", "bottle", "carrot", "glove", "leaf", "potato", "stone", "tomato")
SCORES = (0.5, 0.25, 0.125, 0.0, -0.5)


def residual_prompt(
    backbone: Backbone, labels: tuple[str, ...] = LABELS, seed: int = 1, accept: float | None = None
) -> PromptFile:
    """The method of `adapt`'s default, with small residuals and offsets at random."""
    rng = np.random.default_rng(seed)
    residuals = rng.normal(0, 0.02, (len(labels), backbone.manifest.embed_dim)).astype(np.float32)
    return PromptFile(
        method="qtaskres",
        groups=(
            PromptGroup.plain("class-residuals", residuals),
            PromptGroup.plain("class-offsets", rng.normal(0, 0.02, len(labels)).astype(np.float16)),
        ),
        classes=tuple(ClassName.from_label(label) for label in labels),
        template=("a photo of a ", "."),
        backbone_name=backbone.manifest.name,
        fingerprint=backbone.fingerprint,
        calibration=Calibration(30.0, SCORES, accept),
    )


def deep_prompt(backbone: Backbone, *, coupled: bool) -> PromptFile:
    """Deep prompts at random, folded or with their projections."""
    deep, width = backbone.manifest.deep, backbone.manifest.text.width
    rng = np.random.default_rng(2)

    def group(role: str, *shape: int) -> PromptGroup:
        return PromptGroup.plain(role, rng.normal(0, 0.05, shape).astype(np.float32))

    text = group("text-context", deep.depth, 2, width)
    if coupled:
        second = group("projections", deep.depth, deep.image_width, width + 1)
    else:
        second = group("image-prompts", deep.depth, 2, deep.image_width)
    return replace(
        residual_prompt(backbone),
        method="qmaple-coupled" if coupled else "qmaple",
        groups=(text, second),
        template=("", "."),
        calibration=Calibration(30.0),
    )
