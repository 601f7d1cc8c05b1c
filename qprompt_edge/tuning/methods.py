"""The methods by name: how each is set up on a task, its training defaults, and its tuned prompt."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from qprompt_edge.data.features import Examples
from qprompt_edge.data.photo_stems import PhotoStems
from qprompt_edge.tuning import qcoop, qmaple, qtaskres
from qprompt_edge.tuning.averaging import run_averaged
from qprompt_edge.tuning.config import TrainingConfig, resolve_learning_rate
from qprompt_edge.tuning.problem import Tuning
from qprompt_edge.tuning.qcoop import CONTEXT_INIT
from qprompt_edge.tuning.regularizers import Anchors
from qprompt_edge.tuning.trainer import Progress, TrainingState, run, start
from qprompt_runtime.arrays import Array
from qprompt_runtime.backbone import Backbone
from qprompt_runtime.deep_backbone import require_deep
from qprompt_runtime.errors import TextError
from qprompt_runtime.packing import TERNARY
from qprompt_runtime.prompt_file import CONTEXT, COUPLED, FOLDED, RESIDUAL, Calibration, PromptFile
from qprompt_runtime.text_features import text_features

METHODS = (RESIDUAL, CONTEXT, FOLDED, COUPLED)
"""What can be asked for, by the names that a prompt file has."""

_CONTEXT = TrainingConfig(epochs=60, batch_size=None, relative_rate=4000.0, warmup_epochs=0)
_DEEP = TrainingConfig(
    epochs=10, batch_size=8, relative_rate=650.0, warmup_epochs=1
)  # few passes and small batches, as in MaPLe

_RESIDUAL = TrainingConfig(
    epochs=100,
    batch_size=None,
    relative_rate=0.0,
    warmup_epochs=0,
    bits=TERNARY,
    lr=0.003,
    momentum=0.9,
    weight_decay=0.05,
    fade_in=0.7,
)  # features have length 1 on any backbone, so a rate is right for all

DEFAULT_TRAINING: Mapping[str, TrainingConfig] = {
    RESIDUAL: _RESIDUAL,
    CONTEXT: _CONTEXT,
    FOLDED: _DEEP,
    COUPLED: _DEEP,
}
"""How each is trained unless something else is asked for; chosen by measurement (`docs/defaults.md`)."""


def default_training(method: str, **given: object) -> TrainingConfig:
    """A method's defaults with some settings replaced.

    Args:
        method: One of `METHODS`.
        given: Fields of `TrainingConfig`; those that are None keep the default.

    Raises:
        ValueError: There is no such method, or a value is out of its range.
    """
    if method not in METHODS:
        raise ValueError(f"method is {method!r}, expected one of {', '.join(METHODS)}")
    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    return replace(DEFAULT_TRAINING[method], **changes)


def make_tuning(
    method: str,
    backbone: Backbone,
    photos: Examples,
    *,
    context_init: str = CONTEXT_INIT,
    per_class: bool = False,
    seed: int = 1,
    anchors: Anchors | None = None,
    text: Array | None = None,
) -> Tuning:
    """Set a method up on a task.

    Args:
        method: One of `METHODS`; the deep ones need a `DeepBackbone`.
        backbone: The frozen model.
        photos: What is tuned on. The deep methods take from its features only how many views there are, as
            their own change with the prompt; the others do not read its photos.
        context_init: Words whose token embeddings become the context vectors; for `qtaskres` they stay words.
        per_class: Give each class context vectors of its own; `qcoop` only.
        seed: Of everything that is drawn.
        anchors: What holds the context back; `qcoop` only.
        text: float32 [C,E], features of the classes under the hand-written prompt, where they are known;
            `qtaskres` only, which otherwise asks the text tower for them.

    Raises:
        TextError: The words hold no token, or a prompt is too long for the text tower.
        BundleError: A deep method got a backbone without deep prompts.
        ValueError: Another method than `qcoop` got anchors.
    """
    if anchors is not None and method != CONTEXT:
        raise ValueError(f"anchors hold contexts of {CONTEXT}, not prompts of {method}")
    if method == RESIDUAL:
        template = word_template(context_init)
        text = text_features(backbone, photos.classes, template) if text is None else text
        return qtaskres.tuning(text, photos, template, seed=seed)
    texts, labels = [name.text for name in photos.classes], photos.labels
    if method == CONTEXT:
        return qcoop.tuning(
            backbone,
            texts,
            photos.features,
            labels,
            context_init=context_init,
            per_class=per_class,
            seed=seed,
            anchors=anchors,
        )
    deep = require_deep(backbone)
    stems = PhotoStems(photos.paths, deep, photos.features.shape[1] - 1, seed)
    return qmaple.tuning(method, deep, texts, stems, labels, context_init=context_init, seed=seed)


def word_template(context_init: str) -> tuple[str, str]:
    """The text before and after a class's words, where the context stays words.

    Raises:
        TextError: The context holds no word.
    """
    if not any(map(str.isalnum, context_init)):
        raise TextError(f"--context-init {context_init!r} holds no word; the default is {CONTEXT_INIT!r}")
    return f"{context_init.strip()} ", "."


def tune(
    method: str,
    backbone: Backbone,
    photos: Examples,
    config: TrainingConfig,
    *,
    context_init: str = CONTEXT_INIT,
    per_class: bool = False,
    relative_noise: float = 0.0,
    anchors: Anchors | None = None,
    averaged: bool = False,
    text: Array | None = None,
    state: TrainingState | None = None,
    after_step: Callable[[Progress], None] = lambda _progress: None,
) -> tuple[PromptFile, TrainingState]:
    """Tune a prompt from start to end.

    Args:
        method: One of `METHODS`; the deep ones need a `DeepBackbone`.
        backbone: The frozen model.
        photos: What is tuned on.
        config: How; an open learning rate is resolved here.
        context_init: Words whose token embeddings become the context vectors.
        per_class: Give each class context vectors of its own; `qcoop` only.
        relative_noise: `config.noise` in units of the initial weights' standard deviation, in its place.
        anchors: What holds the context back; `qcoop` only.
        averaged: Ship the average over the later steps (`averaging`), not the last one's weights.
        text: float32 [C,E], features of the classes where they are known; see `make_tuning`.
        state: Where an earlier run of the same task stopped; None starts anew. An average needs None.
        after_step: Told after every step.

    Returns:
        The prompt as it is shipped, and the state after the last step.

    Raises:
        QPromptError: The words or the names do not fit the text tower, or a photo can no longer be read.
    """
    seed, words = config.seed, context_init
    tuning = make_tuning(
        method,
        backbone,
        photos,
        context_init=words,
        per_class=per_class,
        seed=seed,
        anchors=anchors,
        text=text,
    )
    first, scale = tuning.weights[tuning.leading], backbone.manifest.logit_scale
    if relative_noise:
        config = replace(config, noise=relative_noise * float(first.std()))
    config = resolve_learning_rate(config, {tuning.leading: first}, scale)
    if method == RESIDUAL:
        config = qtaskres.schedule(config, photos.labels, len(first))
    state = state or start(tuning.weights, config, tuning.reparameterization)
    go = run_averaged if averaged else run
    state = go(state, tuning.objective, photos.labels, config, after_step, tuning.reparameterization)
    return _shipped(tuning, state, photos, backbone, config.bits), state


def _shipped(
    tuning: Tuning, state: TrainingState, photos: Examples, backbone: Backbone, bits: float
) -> PromptFile:
    """What was learned, as a prompt file."""
    return PromptFile(
        method=tuning.method,
        groups=tuning.groups(state, bits),
        classes=photos.classes,
        template=tuning.template,
        backbone_name=backbone.manifest.name,
        fingerprint=backbone.fingerprint,
        calibration=Calibration(backbone.manifest.logit_scale),
    )
