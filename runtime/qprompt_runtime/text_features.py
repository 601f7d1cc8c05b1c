"""Features of classes under a hand-written prompt, from the frozen text tower."""

from __future__ import annotations

from collections.abc import Sequence

from qprompt_runtime.arrays import Array
from qprompt_runtime.backbone import Backbone
from qprompt_runtime.prompt_file import ClassName


def text_features(backbone: Backbone, classes: Sequence[ClassName], template: tuple[str, str]) -> Array:
    """Class features of a hand-written prompt: float32 [C,E], rows of length 1.

    Args:
        backbone: The frozen model.
        classes: The C classes.
        template: The text before and after a class's words, for instance ("a photo of a ", ".").

    Raises:
        TextError: A prompt is too long for the text tower.
    """
    before, after = template
    context = backbone.embed_text(before.strip())[None]
    texts = [name.text for name in classes]
    return backbone.encode_classes(context, backbone.tokenize(texts, ("", after), context.shape[1]))
