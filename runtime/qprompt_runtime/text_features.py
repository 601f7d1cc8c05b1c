"""Features of classes under a hand-written prompt, from the frozen text tower."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from qprompt_runtime.arrays import Array
from qprompt_runtime.backbone import Backbone
from qprompt_runtime.class_chunks import cut
from qprompt_runtime.class_features import kept_features
from qprompt_runtime.prompt_file import ClassName


def text_features(
    backbone: Backbone, classes: Sequence[ClassName], template: tuple[str, str], at_once: int | None = None
) -> Array:
    """Class features of a hand-written prompt: float32 [C,E], rows of length 1.

    Args:
        backbone: The frozen model.
        classes: The C classes.
        template: The text before and after a class's words, for instance ("a photo of a ", ".").
        at_once: Most classes that run together; None: as many as the backbone's activations may take.

    Raises:
        TextError: A prompt is too long for the text tower.
    """
    before, after = template
    context = backbone.embed_text(before.strip())[None]
    tokens = backbone.tokenize([name.text for name in classes], ("", after), context.shape[1])
    step, layout, places = at_once or len(classes), backbone.manifest.text, np.arange(len(classes))
    parts = [cut(tokens, places[start : start + step], layout) for start in range(0, len(classes), step)]
    return np.concatenate([backbone.encode_classes(context, part) for part in parts])


def kept_text_features(
    backbone: Backbone, classes: Sequence[ClassName], template: tuple[str, str], cache: Path | None
) -> Array:
    """`text_features`, kept from run to run: where they are found, neither tower nor tokenizer is opened.

    Args:
        backbone: The frozen model.
        classes: The C classes.
        template: The text before and after a class's words.
        cache: Folder that keeps them; None keeps nothing.

    Raises:
        TextError: A prompt is too long for the text tower.
    """
    if cache is None:
        return text_features(backbone, classes, template)
    facts = {"template": template, "texts": [name.text for name in classes], **text_tower_facts(backbone)}
    return kept_features(
        cache,
        json.dumps(facts, sort_keys=True),
        (len(classes), backbone.manifest.embed_dim),
        lambda: text_features(backbone, classes, template),
    )


def text_tower_facts(backbone: Backbone) -> dict[str, Any]:
    """What text features depend on beside the text, in so far as it can differ from run to run."""
    manifest = backbone.manifest
    return {
        "backbone": manifest.fingerprint,
        "files": {name: record.sha256 for name, record in manifest.files.items()},
        "provider": backbone.provider,
        "onnxruntime": onnxruntime.__version__,
    }
