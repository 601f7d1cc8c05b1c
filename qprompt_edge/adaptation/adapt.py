"""`adapt`: labelled photos in, a packed prompt out, with an honest verdict.

The steps: find photos, encode them once, keep some photos of each class away, tune the prompt on the rest,
and compare zero-shot, the tuned prompt and a linear probe on the photos kept away.
"""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from qprompt_edge.adaptation.calibrated import WordFeatures, calibrated, word_features
from qprompt_edge.adaptation.options import SHARED, AdaptOptions
from qprompt_edge.adaptation.result import AdaptResult, Holdout
from qprompt_edge.adaptation.resume import WorkDir, task_id
from qprompt_edge.adaptation.task import TaskData, prepare
from qprompt_edge.adaptation.tunings import TuningRecord, keep_record, keys_of
from qprompt_edge.cache import Unkept
from qprompt_edge.data.features import user_features
from qprompt_edge.data.photos import find_labelled, find_photos
from qprompt_edge.evaluation.metrics import class_probabilities, linear_probe, score
from qprompt_edge.evaluation.mistakes import find_mistakes
from qprompt_edge.evaluation.paired import compare
from qprompt_edge.evaluation.prompted import prompted_features
from qprompt_edge.evaluation.zero_shot import class_features
from qprompt_edge.memory import check_limit, fit_activations, peak_rss_mb
from qprompt_edge.reporter import Reporter
from qprompt_edge.tuning.methods import default_training, tune, word_template
from qprompt_edge.tuning.qcoop import CONTEXT_INIT
from qprompt_edge.tuning.trainer import Progress
from qprompt_runtime.backbone import Backbone
from qprompt_runtime.bundle import DEFAULT_BACKBONE
from qprompt_runtime.class_head import ClassHead, softmax
from qprompt_runtime.deep_backbone import require_deep
from qprompt_runtime.folding import folded
from qprompt_runtime.prompt_features import class_offsets, prompt_features
from qprompt_runtime.prompt_file import CONTEXT, DEEP_METHODS, RESIDUAL, PromptFile

_CHECKPOINT_SECONDS = 2.0


def adapt(
    photos: str | Path,
    *,
    labels: str | Path | None = None,
    test_images: str | Path | None = None,
    class_names: str | Path | None = None,
    backbone: str | Path = DEFAULT_BACKBONE,
    method: str | None = None,
    bits: float | None = None,
    contexts: str = SHARED,
    context_init: str = CONTEXT_INIT,
    shots: int | None = None,
    holdout: float = 0.2,
    views: int = 0,
    accept: float | None = None,
    epochs: int | None = None,
    lr: float | None = None,
    batch_size: int | None = None,
    seed: int = 1,
    resume: bool = False,
    work_dir: str | Path | None = None,
    provider: str = "auto",
    threads: int = 0,
    max_memory: float | None = None,
    reporter: Reporter | None = None,
) -> AdaptResult:
    """Tune a prompt on labelled photos. The command line's options have the same names and defaults.

    Args:
        photos: A folder with one sub-folder of photos per class; with `labels`, where its paths start.
        labels: A CSV file with the columns `path,label`, instead of sub-folders.
        test_images: Photos to test on, in sub-folders like those of `photos`; no photos are held out then.
        class_names: A CSV file with the columns `label,text`: texts for labels that are no plain words.
        backbone: Name or folder of the frozen model.
        method: `qtaskres` (residuals of the class features), `qcoop` (context vectors), `qmaple` (deep
            prompts of both towers, with the image prompts already projected) or `qmaple-coupled` (the same
            with the projections, as in the paper). None: `qtaskres`, or `qcoop` with `contexts="per-class"`.
        bits: Bits per weight: 1, 1.6 (three values), 2, 3, 4 or 8; 32 means no quantizer. None: 1.6 for
            `qtaskres`, 1 for the other methods.
        contexts: `shared`, or `per-class` for separate context vectors for each class (`qcoop` only).
        context_init: Words that the context vectors start from; with `qtaskres` they stay as they are.
        shots: Photos of each class to train on; None takes all that are not held out.
        holdout: Share of each class's photos to hold out, from 0 to 0.9.
        views: Number of augmented views of each training photo, in addition to the photo itself.
        accept: Default for "none of these" in the prompt file (`qtaskres` only): the share of photos of the
            classes that keep their label, from 0.8 to 0.99. None: off by default.
        epochs: Passes over the photos; None: the method's default.
        lr: Peak learning rate; None computes it from the backbone.
        batch_size: Photos per step; None: the method's default.
        seed: Random seed, at least 0.
        resume: Continue from the checkpoint in the work directory, if it is of the same task.
        work_dir: Folder for checkpoints; None takes one in the user's cache.
        provider: `auto`, or an execution provider's short name.
        threads: Threads; 0 takes one for each core that the process may use.
        max_memory: Limit on the resident memory of the process, in MB of 10^6 bytes; None: no limit.
        reporter: Receives progress and messages.

    Returns:
        The prompt, the scores on held-out photos, time and memory. Only cache and checkpoints are written.

    Raises:
        QPromptError: The input cannot be adapted to; the message says why and what to do.
        ValueError: An argument is out of its range.
    """
    method = method or (RESIDUAL if contexts == SHARED else CONTEXT)
    options = AdaptOptions(
        photos=Path(photos),
        labels=_path(labels),
        test_images=_path(test_images),
        class_names=_path(class_names),
        backbone=backbone,
        method=method,
        contexts=contexts,
        context_init=context_init,
        shots=shots,
        holdout=holdout,
        views=views,
        accept=accept,
        training=default_training(method, bits=bits, epochs=epochs, lr=lr, batch_size=batch_size, seed=seed),
        resume=resume,
        work_dir=_path(work_dir),
        provider=provider,
        threads=threads,
        max_memory=max_memory,
    )
    return _adapt(options, reporter or Reporter())


def _path(given: str | Path | None) -> Path | None:
    return None if given is None else Path(given)


def _adapt(options: AdaptOptions, reporter: Reporter) -> AdaptResult:
    """`adapt`, from its checked arguments on."""
    begin = time.monotonic()
    photos = find_labelled(options.photos, options.labels)
    tests = find_photos(options.test_images, min_classes=1) if options.test_images is not None else None
    backbone = Backbone.load(options.backbone, options.provider, options.threads)
    if options.method in DEEP_METHODS:
        require_deep(backbone)
    unkept = Unkept(reporter.note)
    cache = user_features(backbone, unkept, options.views, options.training.seed)
    data = prepare(photos, tests, options.class_names, backbone, options, cache, reporter)
    backbone.close_image_tower()
    check_limit(options.max_memory, "encoding the photos")
    encoded = time.monotonic()

    residual, deep = options.method == RESIDUAL, options.method in DEEP_METHODS
    fit_activations(backbone, options.max_memory, tuning=not residual, deep=deep)
    words = None
    if residual:
        words = word_features(backbone, data.train.classes, word_template(options.context_init))
    prompt, steps, work = _tune(data, backbone, words, options, reporter, unkept)
    if words is not None:
        prompt, _ = calibrated(
            prompt, data.train, data.bursts, words, options.training, options.accept, reporter
        )
        labels = tuple(prompt.classes[place].label for place in data.train.labels)
        record = TuningRecord(keys_of(data.keys), labels, options.views, options.training)
        keep_record(prompt, record, unkept)
    backbone.close_text_tower()
    trained = time.monotonic()
    holdout = _judge(data, prompt, words, backbone, reporter) if len(data.test.labels) else None
    counts = np.bincount(data.train.labels, minlength=len(data.train.classes))
    end = time.monotonic()
    return AdaptResult(
        prompt=prompt,
        holdout=holdout,
        options=options,
        provider=backbone.provider,
        backbone_name=backbone.manifest.name,
        manifest=backbone.manifest,
        trained=tuple(data.train.paths),
        class_photos=tuple(counts.tolist()),
        single=tuple(
            name.label for name, count in zip(data.train.classes, counts, strict=True) if count == 1
        ),
        skipped=data.skipped,
        same=data.same,
        steps=steps,
        seconds={"encode": encoded - begin, "train": trained - encoded, "total": end - begin},
        peak_rss_mb=peak_rss_mb(),
        work=work,
    )


def _tune(
    data: TaskData,
    backbone: Backbone,
    words: WordFeatures | None,
    options: AdaptOptions,
    reporter: Reporter,
    unkept: Unkept,
) -> tuple[PromptFile, int, WorkDir]:
    """Train, with checkpoints; the prompt as it will be written, the steps in all, and the work directory."""
    facts = _facts(data, backbone, options)
    task = task_id(facts, data.train.features, data.train.labels)
    if options.work_dir is not None:  # another disk, perhaps, so another word
        unkept = Unkept(reporter.note)
    work = WorkDir.open(options.work_dir, task, facts, unkept)
    state, saved = work.load() if options.resume else None, time.monotonic()
    if state is not None:
        reporter.note(f"resuming at step {state.step}")

    def after_step(progress: Progress) -> None:
        nonlocal state, saved
        state = progress.state
        check_limit(options.max_memory, "a training step")
        reporter.stage("tuning the prompt", state.step, progress.steps)
        if time.monotonic() - saved > _CHECKPOINT_SECONDS:
            work.save(state)
            saved = time.monotonic()

    try:
        prompt, state = tune(
            options.method,
            backbone,
            data.train,
            options.training,
            context_init=options.context_init,
            per_class=options.contexts != SHARED,
            text=None if words is None else words.classes,
            state=state,
            after_step=after_step,
        )
    except KeyboardInterrupt:
        if state is not None:
            work.save(state)
        raise
    work.save(state)
    return prompt, state.step, work


def _facts(data: TaskData, backbone: Backbone, options: AdaptOptions) -> dict[str, Any]:
    """Everything but features and labels that decides the result."""
    return {
        "method": options.method,
        "backbone": backbone.manifest.name,
        "fingerprint": backbone.manifest.fingerprint,
        "graphs": {name: record.sha256 for name, record in backbone.manifest.files.items()},
        "classes": [[name.label, name.text] for name in data.train.classes],
        "contexts": options.contexts,
        "context_init": options.context_init,
        "accept": options.accept,
        "training": asdict(options.training),
    }


def _judge(
    data: TaskData, prompt: PromptFile, words: WordFeatures | None, backbone: Backbone, reporter: Reporter
) -> Holdout:
    """Zero-shot, adapted and probe on the photos kept away."""
    scale, context = backbone.manifest.logit_scale, None if words is None else words.classes
    zero_shot = context
    if zero_shot is None or prompt.template != word_template(CONTEXT_INIT):
        zero_shot = class_features(backbone, data.train.classes)
    shipped = folded(prompt)
    features = prompt_features(shipped, backbone, prompt.classes, context)
    head = ClassHead(features, class_offsets(shipped, prompt.classes), prompt.calibration.logit_scale)
    backbone.close_text_tower()
    seen = prompted_features(
        shipped,
        backbone,
        data.test,
        lambda done, total: reporter.stage("judging the prompt", done, total),
    )
    count = len(data.train.classes)
    weight, bias = linear_probe(data.train.plain, data.train.labels, count)
    present = set(data.test.labels.tolist())
    before = score(class_probabilities(data.test.plain, zero_shot, scale), data.test.labels)
    probabilities = head.probabilities(seen)
    after = score(probabilities, data.test.labels)
    return Holdout(
        zero_shot=before,
        context=after
        if context is None
        else score(class_probabilities(data.test.plain, context, scale), data.test.labels),
        adapted=after,
        probe=score(softmax(data.test.plain @ weight + bias), data.test.labels),
        missing=tuple(name.label for i, name in enumerate(data.train.classes) if i not in present),
        change=compare(before.right, after.right),
        mistakes=find_mistakes(
            data.test.paths, data.test.labels, probabilities, [name.label for name in data.train.classes]
        ),
    )
