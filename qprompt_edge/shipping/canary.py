"""Whether a new prompt is worse than the one that runs, on photos of this device whose classes are known."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qprompt_edge.data.features import Examples, encode_photos
from qprompt_edge.data.photos import drop_unreadable, find_labelled
from qprompt_edge.evaluation.paired import Comparison, compare
from qprompt_edge.evaluation.prompted import prompted_features
from qprompt_edge.memory import fit_activations
from qprompt_edge.reporter import Reporter
from qprompt_runtime.backbone import Backbone
from qprompt_runtime.classifier import PromptClassifier
from qprompt_runtime.prompt_file import ClassName, PromptFile


def try_on_canaries(
    running: PromptFile,
    new: PromptFile,
    backbone: Backbone,
    photos: Path,
    max_memory: float | None,
    reporter: Reporter,
) -> tuple[Comparison, int]:
    """Compare two prompts on labelled photos.

    Args:
        running: The prompt that runs.
        new: The one that shall run; both were tuned for `backbone`.
        backbone: The frozen model.
        photos: A folder with one sub-folder of photos for each class. A class that a prompt does not know it
            gets wrong.
        max_memory: Most resident memory in MB of 10^6 bytes; None sets no limit.
        reporter: Told how far it is.

    Returns:
        What the new prompt changes, and on how many photos.

    Raises:
        QPromptError: The photos cannot be used, or a prompt does not fit the backbone.
    """
    classifiers = [PromptClassifier(prompt, backbone) for prompt in (running, new)]
    known = encode_known(classifiers, photos, max_memory, reporter, "encoding canary photos")
    before, after = (right_answers(classifier, known) for classifier in classifiers)
    return compare(before, after), len(known.labels)


def encode_known(
    classifiers: Sequence[PromptClassifier],
    photos: Path,
    max_memory: float | None,
    reporter: Reporter,
    stage: str,
) -> Examples:
    """Photos whose classes are known, with their features, for classifiers of one backbone.

    Args:
        classifiers: What they will be shown to, at least one.
        photos: A folder with one sub-folder of photos for each class.
        max_memory: Most resident memory in MB of 10^6 bytes; None sets no limit.
        reporter: Told how far it is.
        stage: What it is told is done.

    Raises:
        QPromptError: The photos cannot be used.
    """
    found = find_labelled(photos, None, min_classes=1)
    for classifier in classifiers:
        _ = classifier.class_features  # classes first: so only one tower is in memory at a time
    backbone = classifiers[0].backbone
    fit_activations(backbone, max_memory, tuning=False)
    encoded = encode_photos(
        backbone,
        found.paths,
        max_memory=max_memory,
        progress=lambda done, total: reporter.stage(stage, done, total),
    )
    readable = drop_unreadable(found, encoded.failures)
    kept = np.array([i for i in range(len(found.paths)) if i not in encoded.failures], np.int64)
    names = tuple(map(ClassName.from_label, readable.classes))
    return Examples(names, readable.paths, readable.labels, encoded.features[kept])


def right_answers(classifier: PromptClassifier, known: Examples) -> NDArray[np.bool_]:
    """Which photos a prompt gets right: bool [N]."""
    labels = np.array([name.label for name in known.classes])[known.labels]
    seen = prompted_features(classifier.prompt, classifier.backbone, known)
    answers = np.array(classifier.labels)[classifier.probabilities(seen).argmax(axis=1)]
    right: NDArray[np.bool_] = answers == labels
    return right
