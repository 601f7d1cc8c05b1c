"""Features under a prompt: of its classes, of other names, and of photos."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from qprompt_runtime.arrays import Array
from qprompt_runtime.backbone import Backbone
from qprompt_runtime.deep_backbone import require_deep
from qprompt_runtime.errors import PromptFileError
from qprompt_runtime.prompt_file import COUPLED, FOLDED, RESIDUAL, ClassName, PromptFile
from qprompt_runtime.text_features import text_features


def prompt_features(
    prompt: PromptFile, backbone: Backbone, names: Sequence[ClassName], text: Array | None = None
) -> Array:
    """Class features [C,E] of a prompt for some class names.

    Args:
        prompt: A folded prompt.
        backbone: The backbone it was tuned for.
        names: The C names.
        text: float32 [C,E], their text features where they are known; read for a prompt of residuals, which
            otherwise asks the text tower for them.

    Raises:
        PromptFileError: The prompt is not folded yet, or does not fit the backbone or the names.
        TextError: A name does not fit the text tower.
    """
    check_fit(prompt, backbone)
    if prompt.method == RESIDUAL:
        known = text_features(backbone, names, prompt.template) if text is None else text
        return _residual_features(prompt, known, names)
    context = prompt.groups[0].values()
    texts = [name.text for name in names]
    if prompt.method == FOLDED:
        tokens = backbone.tokenize(texts, prompt.template, context.shape[1])
        return require_deep(backbone).encode_prompted_classes(context, tokens)
    if context.ndim == 3 and tuple(names) != prompt.classes:
        raise PromptFileError("a prompt with a context for each class works with its own classes only")
    context = context if context.ndim == 3 else context[None]
    tokens = backbone.tokenize(texts, prompt.template, context.shape[1])
    return backbone.encode_classes(context, tokens)


def _residual_features(prompt: PromptFile, text: Array, names: Sequence[ClassName]) -> Array:
    """norm(t_c + r_c) where a residual was learned, t_c elsewhere."""
    features = text.copy()
    residuals = prompt.groups[0].values()
    for place, row in class_rows(prompt, names):
        features[place] += residuals[row]
        features[place] /= np.linalg.norm(features[place])
    return features


def class_offsets(prompt: PromptFile, names: Sequence[ClassName]) -> Array:
    """What a prompt adds to the cosines of classes: float32 [C], zeros where nothing was learned."""
    offsets = np.zeros(len(names), np.float32)
    for place, row in class_rows(prompt, names):
        offsets[place] = prompt.groups[1].values()[row]
    return offsets


def class_rows(prompt: PromptFile, names: Sequence[ClassName]) -> list[tuple[int, int]]:
    """Which of some names were tuned: pairs of a place in `names` and a row of the prompt's residuals.

    A name is a class of the prompt if it is its label, or if it means the same words. Prompts without
    residuals have none.
    """
    if prompt.method != RESIDUAL:
        return []
    rows = prompt.groups[0].rows or range(len(prompt.classes))
    tuned = [(prompt.classes[index], row) for row, index in enumerate(rows)]
    known = {name.text: row for name, row in tuned} | {name.label: row for name, row in tuned}
    found = [(place, known.get(name.label, known.get(name.text))) for place, name in enumerate(names)]
    return [(place, row) for place, row in found if row is not None]


def prompted_image_features(prompt: PromptFile, backbone: Backbone, pixels: Array) -> Array:
    """Image features [B,E] of photos [B,3,H,W]; a folded prompt has a part in them, a context has none.

    Raises:
        PromptFileError: The prompt is not folded yet, or does not fit the backbone.
    """
    check_fit(prompt, backbone)
    if prompt.method == FOLDED:
        return require_deep(backbone).encode_prompted_images(pixels, prompt.groups[1].values())
    return backbone.encode_images(pixels)


def check_fit(prompt: PromptFile, backbone: Backbone) -> None:
    """Refuse a prompt that this backbone cannot run.

    Raises:
        PromptFileError: Says what came and what was expected.
    """
    if prompt.method == COUPLED:
        raise PromptFileError("a coupled prompt must be folded before it runs; use `folding.folded`")
    if prompt.method == RESIDUAL:
        expected, found = {"width": backbone.manifest.embed_dim}, {"width": prompt.groups[0].shape[-1]}
    else:
        expected, found = {"context": backbone.manifest.text.width}, {"context": prompt.groups[0].shape[-1]}
    if prompt.method == FOLDED:
        deep = require_deep(backbone).deep
        expected |= {"depth": deep.depth, "image prompt": deep.image_width}
        found |= {"depth": prompt.groups[0].shape[0], "image prompt": prompt.groups[1].shape[-1]}
    wrong = next((name for name in expected if found[name] != expected[name]), None)
    if wrong:
        raise PromptFileError(
            f"the prompt's {wrong} is {found[wrong]}, but the backbone's is {expected[wrong]}"
        )
