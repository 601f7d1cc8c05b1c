"""What a round does with prompt files, without Flower: a client tunes one, the server merges many."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from qprompt_edge import Backbone, MergeResult, PromptFile, merge
from qprompt_edge.data.features import Examples, encode_photos
from qprompt_edge.data.photos import drop_unreadable, find_labelled
from qprompt_edge.tuning.methods import default_training, make_tuning
from qprompt_edge.tuning.prompt_rows import known_classes
from qprompt_edge.tuning.qtaskres import OFFSETS, RESIDUALS, loss_scale, offset_unit
from qprompt_edge.tuning.trainer import run, start
from qprompt_runtime.prompt_file import RESIDUAL, Calibration, ClassName

FLOAT32_BYTES = 4


def photos_of(folder: Path, backbone: Backbone) -> Examples:
    """A client's photos, one sub-folder per class, with their features."""
    found = find_labelled(folder, None)
    encoded = encode_photos(backbone, found.paths)
    readable = drop_unreadable(found, encoded.failures)
    kept = np.array([i for i in range(len(found.paths)) if i not in encoded.failures])
    names = tuple(map(ClassName.from_label, readable.classes))
    return Examples(names, readable.paths, readable.labels, encoded.features[kept])


def tuned(merged: bytes, photos: Examples, backbone: Backbone, epochs: int) -> bytes:
    """A client's part of a round.

    Args:
        merged: The prompt of the round before; empty in the first round.
        photos: The client's own.
        backbone: The frozen model, the same on every client.
        epochs: Passes over the photos.

    Returns:
        The prompt file of this client's classes, tuned on its photos from where the merged prompt is.
    """
    config = default_training(RESIDUAL, epochs=epochs)
    tuning = make_tuning(RESIDUAL, backbone, photos)
    if merged:
        tuning = replace(tuning, weights=_weights(PromptFile.from_bytes(merged), photos, tuning.weights))
    state = start(tuning.weights, config, tuning.reparameterization)
    state = run(state, tuning.objective, photos.labels, config, reparameterization=tuning.reparameterization)
    prompt = PromptFile(
        method=RESIDUAL,
        groups=tuning.groups(state, config.bits),
        classes=photos.classes,
        template=tuning.template,
        backbone_name=backbone.manifest.name,
        fingerprint=backbone.fingerprint,
        calibration=Calibration(backbone.manifest.logit_scale),
        photos=tuple(np.bincount(photos.labels, minlength=len(photos.classes)).tolist()),
    )
    return prompt.to_bytes()


def _weights(merged: PromptFile, photos: Examples, first: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Residuals and offsets of a client's classes as the merged prompt has them; zero for what it lacks."""
    residuals, offsets = np.zeros_like(first[RESIDUALS]), np.zeros_like(first[OFFSETS])
    place = {name.label: index for index, name in enumerate(merged.classes)}
    text = np.zeros((len(merged.classes), residuals.shape[1]), np.float32)  # not needed for what is read here
    known = known_classes(merged, text, np.zeros(len(merged.classes), np.int64))
    unit = offset_unit(loss_scale(len(photos.classes)))
    for index, name in enumerate(photos.classes):
        if name.label in place:
            residuals[index] = known.residuals[place[name.label]]
            offsets[index] = known.offsets[place[name.label]] / unit
    return {RESIDUALS: residuals, OFFSETS: offsets}


def merged(prompts: list[bytes], holdout: Path | None) -> MergeResult:
    """The server's part of a round: what `qprompt-edge merge` does."""
    return merge([PromptFile.from_bytes(prompt) for prompt in prompts], holdout=holdout)


def float32_bytes(prompt: bytes) -> int:
    """Bytes of the same residuals and offsets in float32, without any names."""
    return FLOAT32_BYTES * sum(group.size for group in PromptFile.from_bytes(prompt).groups)
