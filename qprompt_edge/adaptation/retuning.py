"""A prompt tuned again with new photos.

Either on all photos, or on the new ones and what the class vectors know of the others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from qprompt_edge.adaptation.calibrated import calibrated, word_features
from qprompt_edge.adaptation.new_photos import NewPhotos
from qprompt_edge.adaptation.tunings import TuningRecord
from qprompt_edge.adaptation.update_result import ANEW, JOINED, KEPT, ClassEstimate, OldClasses
from qprompt_edge.cache import cache_folder
from qprompt_edge.data.feature_cache import Entry
from qprompt_edge.data.features import Examples
from qprompt_edge.data.splits import near_duplicate_groups
from qprompt_edge.reporter import Reporter
from qprompt_edge.tuning.calibration import HeldOutScores, joined_accept_scores
from qprompt_edge.tuning.config import TrainingConfig
from qprompt_edge.tuning.incremental import held_out_row_scores, tune_rows
from qprompt_edge.tuning.methods import tune
from qprompt_edge.tuning.prompt_rows import known_classes, with_rows
from qprompt_edge.tuning.qtaskres import USUAL_SHOTS
from qprompt_runtime.backbone import Backbone
from qprompt_runtime.none_of_these import noun_features
from qprompt_runtime.prompt_file import RESIDUAL, ClassName, PromptFile
from qprompt_runtime.text_features import kept_text_features


@dataclass(frozen=True)
class Retuned:
    """A prompt after an update, and what is known of it.

    Attributes:
        prompt: The prompt.
        record: What it was tuned on, as far as that is known.
        classes: The classes that photos were given of.
        cost: What new classes cost the old ones, or None.
        calibration: `anew`, `joined` or `kept`.
        from_photos: Whether old and new photos were tuned on together.
    """

    prompt: PromptFile
    record: TuningRecord | None = None
    classes: tuple[ClassEstimate, ...] = ()
    cost: OldClasses | None = None
    calibration: str = KEPT
    from_photos: bool = False


def retune_from_photos(
    prompt: PromptFile,
    classes: tuple[ClassName, ...],
    new: NewPhotos,
    record: TuningRecord,
    entries: Sequence[Entry],
    backbone: Backbone,
    reporter: Reporter,
) -> Retuned:
    """Tune all rows anew, on old and new photos together, as `adapt` does.

    Args:
        prompt: The prompt before.
        classes: Its classes, and new ones behind them.
        new: Photos that are new to it.
        record: The photos that it was tuned on.
        entries: Their features.
        backbone: The frozen model.
        reporter: Told how far it is.
    """
    places = {name.label: place for place, name in enumerate(classes)}
    labels = np.concatenate([[places[label] for label in record.labels], new.labels]).astype(np.int64)
    hashes = np.concatenate([np.array([entry.hash for entry in entries], np.uint64), new.hashes])
    features = np.concatenate([*(entry.features[None] for entry in entries), new.features])
    names = tuple(Path(key.hex()) for key in (*record.keys, *new.keys))
    photos = Examples(classes, names, labels, features)
    context, words = prompt.template[0], word_features(backbone, classes, prompt.template)
    tuned, _ = tune(RESIDUAL, backbone, photos, record.training, context_init=context, text=words.classes)
    bursts, accept = near_duplicate_groups(hashes, labels), prompt.calibration.accept
    tuned, held_out = calibrated(tuned, photos, bursts, words, record.training, accept, reporter)
    tuned = replace(tuned, metadata=prompt.metadata, extras=prompt.extras)
    old = len(prompt.classes)
    return Retuned(tuned, None, _estimates(classes, old, new, held_out), _measured(held_out, old), ANEW, True)


def retune_from_vectors(
    prompt: PromptFile,
    classes: tuple[ClassName, ...],
    new: NewPhotos,
    training: TrainingConfig,
    backbone: Backbone,
) -> Retuned:
    """Tune the rows of the classes that photos are given of, and leave all others as they are.

    Args:
        prompt: The prompt before.
        classes: Its classes, and new ones behind them.
        new: Photos that are new to it.
        training: How residuals are tuned.
        backbone: The frozen model.
    """
    old, added = len(prompt.classes), np.bincount(new.labels, minlength=len(classes))
    before = np.zeros(len(classes), np.int64)
    before[:old] = prompt.photos or USUAL_SHOTS
    cache = cache_folder("classes")
    text = kept_text_features(backbone, classes, prompt.template, cache)
    known = known_classes(prompt, text, before)
    features = new.features[:, 0]
    counts = tuple((before + added).tolist()) if prompt.photos else ()
    rows = tune_rows(known, features, new.labels, training)
    tuned = with_rows(prompt, classes[old:], rows, counts)
    bursts = near_duplicate_groups(new.hashes, new.labels)
    held_out = held_out_row_scores(known, features, new.labels, bursts, training)
    joined = bool(prompt.calibration.accept_scores) and len(held_out.labels) > 0
    calibration = prompt.calibration
    if joined:
        nouns = noun_features(backbone, tuned.classes, cache)
        calibration = joined_accept_scores(calibration, int(before.sum()), held_out, nouns)
    return Retuned(
        replace(tuned, calibration=calibration),
        None,
        _estimates(classes, old, new, held_out),
        None,
        JOINED if joined else KEPT,
    )


def _estimates(
    classes: Sequence[ClassName], old: int, new: NewPhotos, held_out: HeldOutScores
) -> tuple[ClassEstimate, ...]:
    """How well the classes that photos were given of are recognised."""
    found = []
    for place in np.unique(new.labels).tolist():
        answers = held_out.scores[held_out.labels == place].argmax(axis=1).tolist()
        wrong = Counter(classes[answer].label for answer in answers if answer != place)
        found.append(
            ClassEstimate(
                label=classes[place].label,
                new=place >= old,
                photos=int((new.labels == place).sum()),
                right=answers.count(place),
                judged=len(answers),
                taken_for=tuple(wrong.most_common()),
            )
        )
    return tuple(found)


def _measured(held_out: HeldOutScores, old: int) -> OldClasses | None:
    """How many photos of the first `old` classes the new classes cost.

    Those that would be right if the new classes were not there, and now are wrong.
    """
    mine = held_out.labels < old
    if old == held_out.scores.shape[1] or not mine.any():
        return None
    scores, labels = held_out.scores[mine], held_out.labels[mine]
    lost = (scores[:, :old].argmax(axis=1) == labels) & (scores.argmax(axis=1) != labels)
    loss = float(np.mean([lost[labels == label].mean() for label in np.unique(labels)]))
    return OldClasses(loss, len(labels))
