"""The methods that can be asked for by name: how each is set up on a task, trained by default, and written to a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qprompt_edge.data.photo_stems import PhotoStems
from qprompt_edge.tuning import qcoop, qmaple
from qprompt_edge.tuning.config import TrainingConfig
from qprompt_edge.tuning.problem import Tuning
from qprompt_edge.tuning.qcoop import CONTEXT_INIT
from qprompt_edge.tuning.trainer import TrainingState
from qprompt_runtime.arrays import Array
from qprompt_runtime.backbone import Backbone
from qprompt_runtime.deep_backbone import DeepBackbone
from qprompt_runtime.prompt_file import COUPLED, FOLDED, Calibration, ClassName, PromptFile

METHODS: Mapping[str, str] = {"qcoop": qcoop.NAME, "qmaple": FOLDED, "qmaple-coupled": COUPLED}
"""What can be asked for, and its name in a prompt file."""

_DEEP = TrainingConfig(
    epochs=10, batch_size=8, relative_rate=650.0, warmup_epochs=1
)  # few passes and small batches, as in MaPLe

DEFAULT_TRAINING: Mapping[str, TrainingConfig] = {
    "qcoop": TrainingConfig(),
    "qmaple": _DEEP,
    "qmaple-coupled": _DEEP,
}
"""How each is trained unless something else is asked for; chosen by measurement (`docs/defaults.md`)."""


def default_training(method: str, **given: object) -> TrainingConfig:
    """A method's defaults with some settings replaced.

    Args:
        method: A key of `METHODS`.
        given: Fields of `TrainingConfig`; those that are None keep the default.
    """
    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    return replace(DEFAULT_TRAINING[method], **changes)


def make_tuning(
    method: str,
    backbone: Backbone,
    texts: Sequence[str],
    features: Array,
    photos: Sequence[Path],
    labels: NDArray[np.int64],
    *,
    context_init: str = CONTEXT_INIT,
    per_class: bool = False,
    seed: int = 1,
) -> Tuning:
    """Set a method up on a task.

    Args:
        method: A key of `METHODS`; the deep ones need a `DeepBackbone`.
        backbone: The frozen model.
        texts: Prompt texts of the C classes.
        features: float32 [N,V,E]; V views of each training photo, the plain one first. The deep methods take from them
            only how many views there are, as their features change with the prompt.
        photos: The N training photos; only the deep methods read them.
        labels: int64 [N].
        context_init: Words whose token embeddings become the context vectors.
        per_class: Give each class context vectors of its own; `qcoop` only.
        seed: Of everything that is drawn.

    Raises:
        TextError: The words hold no token, or a prompt is too long for the text tower.
        TypeError: A deep method got a backbone without deep prompts.
    """
    if method == "qcoop":
        return qcoop.tuning(
            backbone, texts, features, labels, context_init=context_init, per_class=per_class, seed=seed
        )
    if not isinstance(backbone, DeepBackbone):
        raise TypeError(f"method {method!r} needs a DeepBackbone, got a {type(backbone).__name__}")
    stems = PhotoStems(photos, backbone, features.shape[1] - 1, seed)
    return qmaple.tuning(
        METHODS[method], backbone, texts, stems, labels, context_init=context_init, seed=seed
    )


def finished_prompt(
    tuning: Tuning, state: TrainingState, bits: int, classes: Sequence[ClassName], backbone: Backbone
) -> PromptFile:
    """What is shipped of a finished training.

    Args:
        tuning: The method on its task.
        state: After the last step.
        bits: Bits a weight of the training.
        classes: The C classes.
        backbone: The frozen model.
    """
    return PromptFile(
        method=tuning.method,
        groups=tuning.groups(state, bits),
        classes=tuple(classes),
        template=tuning.template,
        backbone_name=backbone.manifest.name,
        fingerprint=backbone.fingerprint,
        calibration=Calibration(backbone.manifest.logit_scale),
    )
