"""`merge`: one prompt from the prompts of several devices, without their photos.

What becomes of the weights is in `merged_prompt`. On photos of its own, held out from all devices, `merge`
compares the result with the best of the files: whoever merges loses that one, so it is the one to beat.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from qprompt_edge.cache import cache_folder
from qprompt_edge.data.photos import find_labelled
from qprompt_edge.evaluation.paired import compare
from qprompt_edge.memory import check_limit
from qprompt_edge.reporter import Reporter
from qprompt_edge.shipping.agreement import agreements
from qprompt_edge.shipping.canary import encode_known, right_answers
from qprompt_edge.shipping.installed import WorseError
from qprompt_edge.shipping.merge_result import MergedFile, MergeResult, MergeTrial
from qprompt_edge.shipping.merged_prompt import check_mergeable, merged_prompt
from qprompt_edge.tuning.calibration import HeldOutScores, calibrate
from qprompt_runtime.backbone import Backbone
from qprompt_runtime.classifier import PromptClassifier, check_backbone
from qprompt_runtime.cose_sign1 import Claims, claims_in
from qprompt_runtime.errors import PhotosError, PromptFileError
from qprompt_runtime.none_of_these import noun_features
from qprompt_runtime.policy import Policy
from qprompt_runtime.prompt_file import RESIDUAL, PromptFile, prompt_in, read_content
from qprompt_runtime.text import counted, first_few, percent, printable


def merge(
    prompts: Sequence[str | Path | PromptFile],
    *,
    holdout: str | Path | None = None,
    backbone: str | Path | None = None,
    provider: str = "auto",
    threads: int = 0,
    max_memory: float | None = None,
    policy: Policy | None = None,
    reporter: Reporter | None = None,
) -> MergeResult:
    """Merge prompts of the same kind into one, without the photos that they were tuned on.

        merge(["a.qpt", "b.qpt", "c.qpt"], holdout="known").save("fleet.qpt")

    The order of the prompts does not matter. A class that only some of them know is kept. Of three prompts or
    more, one that disagrees with the others on the classes that they share is left out.

    Args:
        prompts: Two or more prompts, or their files, made by the same method with the same bits for the same
            backbone. One that comes twice counts once.
        holdout: A folder with one sub-folder of photos per class, none of which was tuned on: the merged
            prompt is tried on them beside all others, and if they are enough, they give its scores for "none
            of these". None tries nothing.
        backbone: Name or folder of the frozen model for `holdout`; by default the one that the prompts name.
        provider: `auto`, or an execution provider's short name.
        threads: Threads within an operator; 0 takes one for each core.
        max_memory: Most resident memory of the process in MB of 10^6 bytes; None sets no limit.
        policy: Which signed prompts may be merged, beside what the device's policy says.
        reporter: Receives progress and messages.

    Returns:
        The merged prompt, which files and photos each class comes from, and how the trial ended.

    Raises:
        WorseError: On the photos of `holdout` the merged prompt is worse than the best of the prompts, beyond
            noise.
        QPromptError: A prompt cannot be read, the prompts do not fit together, or the photos or the backbone
            are not as they should be; the message says why and what to do.
    """
    files = [given for given in prompts if not isinstance(given, PromptFile)]
    read = iter(read_files(list(map(Path, files)), policy)[0])
    named = [
        (f"prompt {number}", given) if isinstance(given, PromptFile) else (printable(given), next(read))
        for number, given in enumerate(prompts, 1)
    ]
    return merge_named(
        named,
        holdout=None if holdout is None else Path(holdout),
        backbone=backbone,
        provider=provider,
        threads=threads,
        max_memory=max_memory,
        reporter=reporter or Reporter(),
    )


def read_files(paths: Sequence[Path], policy: Policy | None) -> tuple[list[PromptFile], Claims | None]:
    """Read prompt files, each once.

    Args:
        paths: The files.
        policy: Which signed prompts may be merged, beside what the device's policy says.

    Returns:
        The prompts, and what the signer of the newest one says; None if no file is signed.

    Raises:
        QPromptError: A file cannot be read, the policy refuses it, or two are signed for different tasks.
    """
    prompts: list[PromptFile] = []
    signed: dict[Path, Claims] = {}
    for path in paths:
        content = read_content(path)
        prompts.append(prompt_in(content, path, policy))
        claims = claims_in(content)
        if claims is not None:
            signed[path] = claims
            first, other = next(iter(signed.items()))
            if claims.task != other.task:
                raise PromptFileError(
                    f"{first} is signed for the task {other.task!r}, {path} for {claims.task!r}; prompts of one task can be "
                    "merged"
                )
    newest = max(signed.values(), key=lambda claims: (claims.sequence, claims.issued), default=None)
    return prompts, newest


def merge_named(
    prompts: Sequence[tuple[str, PromptFile]],
    *,
    holdout: Path | None,
    backbone: str | Path | None,
    provider: str,
    threads: int,
    max_memory: float | None,
    reporter: Reporter,
) -> MergeResult:
    """`merge` for prompts with the names that they are called by in messages."""
    named = _each_once(prompts, reporter)
    names, read = [name for name, _ in named], [prompt for _, prompt in named]
    check_mergeable(read, names)
    found = agreements(read)
    merged, classes = merged_prompt([prompt for prompt, it in zip(read, found, strict=True) if it.merged])
    trial: MergeTrial | None = None
    top1: list[float | None] = [None] * len(read)
    if holdout is not None:
        model = Backbone.load(backbone or merged.backbone_name, provider, threads)
        merged, trial, top1 = _try(merged, read, names, model, holdout, max_memory, reporter)
    files = tuple(
        MergedFile(
            name,
            len(prompt.classes),
            sum(prompt.photos) if prompt.photos else None,
            agreement.merged,
            agreement.cosine,
            score,
        )
        for name, prompt, agreement, score in zip(names, read, found, top1, strict=True)
    )
    return MergeResult(merged, files, classes, trial)


def _each_once(prompts: Sequence[tuple[str, PromptFile]], reporter: Reporter) -> list[tuple[str, PromptFile]]:
    """Prompts that differ, with their names.

    Raises:
        PromptFileError: Fewer than two are left.
    """
    seen: dict[bytes, tuple[str, PromptFile]] = {}
    for name, prompt in prompts:
        first, _ = seen.setdefault(prompt.to_bytes(), (name, prompt))
        if first != name:
            reporter.note(f"{name} holds the same prompt as {first}: it counts once")
    if len(seen) < 2:
        raise PromptFileError(
            f"there is {counted(len(seen), 'prompt')} to merge, expected two or more that differ"
        )
    return list(seen.values())


def _try(
    merged: PromptFile,
    prompts: Sequence[PromptFile],
    names: Sequence[str],
    backbone: Backbone,
    photos: Path,
    max_memory: float | None,
    reporter: Reporter,
) -> tuple[PromptFile, MergeTrial, list[float | None]]:
    """Compare the merged prompt with each prompt on held-out photos, and calibrate it on them.

    Returns:
        The merged prompt as it is shipped, how the trial ended, and the accuracy of each prompt.

    Raises:
        WorseError: It is worse than the best of them.
        QPromptError: The photos cannot be used, or a prompt does not fit the backbone.
    """
    check_backbone(merged, backbone)
    places = {name.label: place for place, name in enumerate(merged.classes)}
    unknown = [label for label in find_labelled(photos, None, min_classes=1).classes if label not in places]
    if unknown:
        raise PhotosError(
            f"the hold-out has the class {unknown[0]!r}, which no prompt knows; they know {first_few(list(places), 20)}"
        )
    cache = cache_folder("classes")
    classifiers = [PromptClassifier(prompt, backbone, cache=cache) for prompt in (merged, *prompts)]
    nouns = noun_features(backbone, merged.classes, cache) if merged.method == RESIDUAL else None
    known = encode_known(classifiers, photos, max_memory, reporter, "encoding hold-out photos")
    check_limit(max_memory, "encoding the photos")
    after, *before = (right_answers(classifier, known) for classifier in classifiers)
    top1 = [float(right.mean()) for right in before]
    best = int(np.argmax(top1))
    change = compare(before[best], after)
    count = len(known.labels)
    if change.helped is False:
        raise WorseError(
            f"the merged prompt is worse than {names[best]}: on {counted(count, 'hold-out photo')}, {percent(-change.difference)} "
            f"fewer are right (p {change.p:.2g}); nothing was written"
        )
    calibrated = False
    if nouns is not None and len(known.classes) == len(merged.classes):
        labels = np.array([places[name.label] for name in known.classes], np.int64)[known.labels]
        scores = HeldOutScores(classifiers[0].head.scores(known.plain), labels, known.plain)
        pooled = merged.calibration
        fresh = calibrate(scores, nouns, pooled.logit_scale, pooled.accept)
        calibrated = bool(fresh.accept_scores)
        if pooled.accept_scores:  # the devices' photos are more, and say better how sure it may be
            fresh = replace(fresh, logit_scale=pooled.logit_scale)
        merged = replace(merged, calibration=fresh) if calibrated else merged
    return (
        merged,
        MergeTrial(count, float(after.mean()), names[best], top1[best], change, calibrated),
        list(top1),
    )
