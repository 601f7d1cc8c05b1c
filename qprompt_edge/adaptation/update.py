"""`update`: add classes and photos to a prompt file, or remove classes.

The photos that the prompt was tuned on are not needed. If the cache still has the features of those photos,
and the record of which they were (`tunings`), the prompt is tuned anew on old and new photos together, as
`adapt` would. Otherwise only the rows of the classes with new photos are tuned (`tuning.incremental`), and
all others stay as they are.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from qprompt_edge.adaptation.new_photos import NewPhotos, encode_new, with_new_classes
from qprompt_edge.adaptation.retuning import Retuned, retune_from_photos, retune_from_vectors
from qprompt_edge.adaptation.tunings import TuningRecord, keep_record, read_record
from qprompt_edge.adaptation.update_result import UpdateResult
from qprompt_edge.cache import Unkept
from qprompt_edge.data.csv_files import composed
from qprompt_edge.data.feature_cache import FeatureCache
from qprompt_edge.data.features import user_features
from qprompt_edge.data.photos import LabelledPhotos, find_labelled
from qprompt_edge.memory import check_limit, fit_activations, peak_rss_mb
from qprompt_edge.reporter import Reporter
from qprompt_edge.tuning.methods import default_training
from qprompt_edge.tuning.prompt_rows import without_classes
from qprompt_runtime.backbone import Backbone
from qprompt_runtime.classifier import check_backbone
from qprompt_runtime.errors import PhotosError, PromptFileError
from qprompt_runtime.policy import Policy
from qprompt_runtime.prompt_features import check_fit
from qprompt_runtime.prompt_file import RESIDUAL, ClassName, PromptFile, read_prompt_file
from qprompt_runtime.text import first_few, printable


def update(
    prompt: str | Path | PromptFile,
    photos: str | Path | None = None,
    *,
    remove: Sequence[str] = (),
    labels: str | Path | None = None,
    class_names: str | Path | None = None,
    backbone: str | Path | None = None,
    provider: str = "auto",
    threads: int = 0,
    max_memory: float | None = None,
    policy: Policy | None = None,
    reporter: Reporter | None = None,
) -> UpdateResult:
    """Add classes or photos to a prompt, or remove classes, without the photos that it was tuned on.

        update("belt.qpt", "new", remove=["mud"]).save("belt.qpt")

    If the cache still has the features of those photos, the prompt is tuned anew on all photos, as `adapt`
    would. Otherwise classes that get no photos keep their bits, and what the others cost them is estimated.

    Args:
        prompt: A `qtaskres` prompt, which `adapt` makes by default, or its file.
        photos: A folder with one sub-folder of photos per class; with `labels`, where its paths start. A
            class that the prompt has gets more photos, any other is added. None only removes.
        remove: Labels of classes to remove.
        labels: A CSV file with the columns `path,label`, instead of sub-folders.
        class_names: A CSV file with the columns `label,text`: texts for labels that are no plain words.
        backbone: Name or folder of the frozen model; by default the one that the prompt names.
        provider: `auto`, or an execution provider's short name.
        threads: Threads within an operator; 0 takes one for each core.
        max_memory: Most resident memory of the process in MB of 10^6 bytes; None sets no limit.
        policy: Which signed prompts may be updated, beside what the device's policy says.
        reporter: Receives progress and messages.

    Returns:
        The prompt, what changed, and what is known of the cost. Only the cache is written.

    Raises:
        QPromptError: The prompt or the photos do not allow the update; the message says why and what to do.
        ValueError: There is neither a photo to add nor a class to remove.
    """
    begin = time.monotonic()
    if photos is None and not remove:
        raise ValueError("nothing to do: give photos to add, or labels to remove")
    remove = tuple(dict.fromkeys(map(composed, remove)))
    before = prompt if isinstance(prompt, PromptFile) else read_prompt_file(Path(prompt), policy)
    _check_method(before)
    found = None if photos is None else find_labelled(Path(photos), _path(labels), min_classes=1)
    kept = _without(before, remove, found)
    record = read_record(before)
    record = None if record is None else record.without(remove)
    reporter = reporter or Reporter()
    unkept = Unkept(reporter.note)
    if found is None:
        if record is not None:
            keep_record(kept, record, unkept)
        seconds = {"encode": 0.0, "tune": 0.0, "total": time.monotonic() - begin}
        return _result(Retuned(kept, record), remove, None, None, seconds)
    model = Backbone.load(backbone or before.backbone_name, provider, threads)
    check_backbone(before, model)
    check_fit(before, model)
    classes = with_new_classes(kept.classes, found.classes, _path(class_names), model)
    new, cache = _encode(found, classes, len(kept.classes), record, model, max_memory, unkept, reporter)
    check_limit(max_memory, "encoding the photos")
    encoded = time.monotonic()
    fit_activations(model, max_memory, tuning=False)
    retuned = _retune(kept, classes, new, record, cache, model, reporter)
    if retuned.record is not None:
        keep_record(retuned.prompt, retuned.record, unkept)
    check_limit(max_memory, "tuning")
    end = time.monotonic()
    seconds = {"encode": encoded - begin, "tune": end - encoded, "total": end - begin}
    return _result(retuned, remove, new, model.provider, seconds)


def _path(given: str | Path | None) -> Path | None:
    return None if given is None else Path(given)


def _check_method(prompt: PromptFile) -> None:
    if prompt.method != RESIDUAL:
        raise PromptFileError(
            f"the prompt was made by the method {prompt.method}, where all classes share what was learned, "
            "so no class can be added or removed; adapt again with all photos (the default method, "
            f"{RESIDUAL}, makes prompts that can be updated)"
        )


def _without(prompt: PromptFile, remove: Sequence[str], found: LabelledPhotos | None) -> PromptFile:
    """The prompt without some classes.

    Raises:
        PromptFileError: It does not have one of them, or fewer than two would be left.
        PhotosError: There are photos of one of them.
    """
    labels = [name.label for name in prompt.classes]
    unknown = [label for label in remove if label not in labels]
    if unknown:
        raise PromptFileError(
            f"the prompt has no class {printable(unknown[0])} to remove; its classes are "
            f"{first_few(labels, 20)}"
        )
    twofold = [label for label in remove if found is not None and label in found.classes]
    if twofold:
        raise PhotosError(
            f"class {printable(twofold[0])} is to be removed, but there are photos of it; choose one of the "
            "two"
        )
    left = [label for label in labels if label not in remove]
    coming = set(found.classes) - set(labels) if found is not None else set()
    if len(left) + len(coming) < 2 or not left:
        raise PromptFileError(
            f"{len(left) + len(coming)} of {len(labels)} classes would be left; at least 2 are needed to "
            "tell them apart"
        )
    return without_classes(prompt, remove) if remove else prompt


def _encode(
    found: LabelledPhotos,
    classes: Sequence[ClassName],
    old: int,
    record: TuningRecord | None,
    backbone: Backbone,
    max_memory: float | None,
    unkept: Unkept,
    reporter: Reporter,
) -> tuple[NewPhotos, FeatureCache]:
    """Encode the new photos, with as many views as the prompt was tuned on.

    Returns them, and the cache that holds the features of all photos.
    """
    views, seed = (0, 1) if record is None else (record.views, record.training.seed)
    cache = user_features(backbone, unkept, views, seed)
    tuned_on = {} if record is None else record.known()
    new = encode_new(found, classes, old, tuned_on, backbone, cache, (views, seed), max_memory, reporter)
    backbone.close_image_tower()
    return new, cache


def _retune(
    prompt: PromptFile,
    classes: tuple[ClassName, ...],
    new: NewPhotos,
    record: TuningRecord | None,
    cache: FeatureCache,
    backbone: Backbone,
    reporter: Reporter,
) -> Retuned:
    """The prompt with new photos, tuned on as much as is here; and the record of what it was tuned on."""
    if not new.keys:
        return Retuned(prompt, record)
    entries = None if record is None else record.entries(prompt, cache)
    if record is not None and entries is not None:
        retuned = retune_from_photos(prompt, classes, new, record, entries, backbone, reporter)
    else:
        record = record or TuningRecord((), (), 0, default_training(RESIDUAL))
        retuned = retune_from_vectors(prompt, classes, new, record.training, backbone)
    labels = [classes[place].label for place in new.labels]
    return replace(retuned, record=record.joined(new.keys, labels))


def _result(
    retuned: Retuned,
    remove: Sequence[str],
    new: NewPhotos | None,
    provider: str | None,
    seconds: dict[str, float],
) -> UpdateResult:
    return UpdateResult(
        prompt=retuned.prompt,
        removed=tuple(remove),
        classes=retuned.classes,
        cost=retuned.cost,
        from_photos=retuned.from_photos,
        calibration=retuned.calibration,
        repeated=0 if new is None else new.repeated,
        skipped=() if new is None else new.skipped,
        same=() if new is None else new.same,
        provider=provider,
        seconds=seconds,
        peak_rss_mb=peak_rss_mb(),
    )
