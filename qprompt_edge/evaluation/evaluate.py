"""`eval`: accuracy of a prompt file on labelled photos, compared with zero-shot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qprompt_edge.cache import Unkept
from qprompt_edge.data.features import Examples, encode_photos, user_features
from qprompt_edge.data.photos import SkippedPhoto, drop_unreadable, find_labelled
from qprompt_edge.data.same_photos import SamePhoto, described, in_several_classes
from qprompt_edge.evaluation.metrics import Scores, class_probabilities, score
from qprompt_edge.evaluation.mistakes import Mistake, find_mistakes
from qprompt_edge.evaluation.paired import Comparison, compare
from qprompt_edge.evaluation.prompted import prompted_features
from qprompt_edge.evaluation.zero_shot import class_features
from qprompt_edge.memory import check_limit, fit_activations
from qprompt_edge.reporter import Reporter
from qprompt_runtime.backbone import Backbone
from qprompt_runtime.classifier import PromptClassifier
from qprompt_runtime.errors import PhotosError
from qprompt_runtime.manifest import Manifest
from qprompt_runtime.policy import Policy
from qprompt_runtime.prompt_file import PromptFile, read_prompt_file


@dataclass(frozen=True)
class PromptReport:
    """What a prompt is worth on some photos.

    Attributes:
        labels: The prompt's classes, in the order of the scores.
        scores: Of the prompt.
        zero_shot: Of the hand-written prompt.
        mistakes: Photos that were wrong, the most confident first.
        skipped: Files that were left out.
        accepted: Which photos do not look like "none of these": bool [n] in the order of the scores; None if
            that is off.
        same: Photos that are in several classes; each counts at each place, where at most one label is right.
        change: What the prompt changed: its top-1 beside that of the hand-written prompt, photo by photo.
        prompt: The prompt, as its file says it.
        manifest: Facts of the backbone.
    """

    labels: tuple[str, ...]
    scores: Scores
    zero_shot: Scores
    mistakes: tuple[Mistake, ...]
    skipped: tuple[SkippedPhoto, ...]
    same: tuple[SamePhoto, ...]
    change: Comparison
    prompt: PromptFile
    manifest: Manifest
    accepted: NDArray[np.bool_] | None = None

    @property
    def top1_of_accepted(self) -> float | None:
        """Accuracy on the photos that were accepted; None if that is off, or no photo was."""
        if self.accepted is None or not self.accepted.any():
            return None
        return float(self.scores.right[self.accepted].mean())


def judge_prompt(
    prompt: Path,
    images: Path,
    *,
    labels: Path | None = None,
    backbone: str | None = None,
    provider: str = "auto",
    threads: int = 0,
    accept: float | None = None,
    policy: Policy | None = None,
    max_memory: float | None = None,
    reporter: Reporter | None = None,
) -> PromptReport:
    """Judge a prompt file on labelled photos. Their features are kept in the user's cache, as `adapt` does.

    Args:
        prompt: The prompt file.
        images: A folder with one sub-folder per class; with `labels`, where its paths start.
        labels: A CSV file with the columns `path,label`.
        backbone: A name or folder; by default the one that the prompt names.
        provider: `auto`, or an execution provider's short name.
        threads: Threads within an operator; 0 takes one for each core.
        accept: Share of known photos that "none of these" lets pass; None takes what the prompt says.
        policy: Which signed prompts may be judged, beside what the device's policy says.
        max_memory: Most resident memory in MB of 10^6 bytes; None sets no limit.
        reporter: Told how far it is.

    Raises:
        QPromptError: The prompt, the photos or the backbone are not as they should be; a class of the photos
            that the prompt does not know is named.
    """
    reporter = reporter or Reporter()
    photos = find_labelled(images, labels, min_classes=1)
    made = read_prompt_file(prompt, policy)  # looked at, not used: an older one may go on working
    frozen = Backbone.load(backbone or made.backbone_name, provider, threads)
    classifier = PromptClassifier(made, frozen, accept=accept)
    _check_classes(photos.classes, classifier.labels)
    fit_activations(frozen, max_memory, tuning=False)
    by_hand = class_features(frozen, classifier.prompt.classes)
    _ = classifier.class_features  # classes first: so only one tower is in memory at a time
    encoded = encode_photos(
        frozen,
        photos.paths,
        cache=user_features(frozen, Unkept(reporter.note)),
        max_memory=max_memory,
        progress=lambda done, total: reporter.stage("encoding photos", done, total),
    )
    check_limit(max_memory, "encoding the photos")
    readable = drop_unreadable(photos, encoded.failures)
    kept = np.array([i for i in range(len(photos.paths)) if i not in encoded.failures], np.int64)
    known = {label: index for index, label in enumerate(classifier.labels)}
    truth = np.array([known[label] for label in photos.classes], np.int64)[readable.labels]
    examples = Examples(classifier.prompt.classes, readable.paths, truth, encoded.features[kept])
    seen = prompted_features(
        classifier.prompt,
        frozen,
        examples,
        lambda done, total: reporter.stage("encoding photos with the prompt", done, total),
    )
    probabilities = classifier.probabilities(seen)
    refused = classifier.none_of_these(seen)
    before = score(class_probabilities(examples.plain, by_hand, frozen.manifest.logit_scale), truth)
    after = score(probabilities, truth)
    return PromptReport(
        labels=classifier.labels,
        scores=after,
        zero_shot=before,
        mistakes=find_mistakes(readable.paths, truth, probabilities, classifier.labels),
        skipped=readable.skipped,
        accepted=None if refused is None else ~refused,
        same=described(
            in_several_classes(encoded.keys, photos.labels, kept), photos.paths, photos.labels, photos.classes
        ),
        change=compare(before.right, after.right),
        prompt=made,
        manifest=frozen.manifest,
    )


def _check_classes(classes: Sequence[str], known: Sequence[str]) -> None:
    unknown = sorted(set(classes) - set(known))
    if unknown:
        raise PhotosError(
            f"the photos have the class {unknown[0]!r}, which the prompt does not know; it knows "
            f"{', '.join(map(repr, known))}"
        )
