"""`adapt`: labelled photos in, a packed prompt out, with an honest verdict.

The steps: find photos, encode them once, keep some photos of each class away, tune the prompt on the rest,
and compare zero-shot, the tuned prompt and a linear probe on the photos kept away.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from qprompt_edge.adaptation.options import AdaptOptions
from qprompt_edge.adaptation.resume import WorkDir, task_id
from qprompt_edge.adaptation.task import TaskData, prepare
from qprompt_edge.cache import Unkept, cache_folder
from qprompt_edge.data.features import FeatureCache, feature_identity
from qprompt_edge.data.photos import SkippedPhoto, find_labelled, find_photos
from qprompt_edge.evaluation.metrics import Scores, class_probabilities, linear_probe, score
from qprompt_edge.evaluation.paired import Comparison, compare
from qprompt_edge.evaluation.prompted import prompted_features
from qprompt_edge.evaluation.zero_shot import class_features
from qprompt_edge.memory import check_limit, fit_activations, peak_rss_mb
from qprompt_edge.reporter import Reporter
from qprompt_edge.tuning.methods import tune
from qprompt_edge.tuning.trainer import Progress
from qprompt_runtime.backbone import Backbone
from qprompt_runtime.classifier import prompt_features, softmax
from qprompt_runtime.folding import folded
from qprompt_runtime.prompt_file import CONTEXT, PromptFile, write_prompt_file

_CHECKPOINT_SECONDS = 2.0


@dataclass(frozen=True)
class Holdout:
    """Scores on photos that were not trained on.

    Attributes:
        zero_shot: The hand-written prompt.
        adapted: The prompt that is written.
        probe: A linear probe on the same image features: what the backbone's features allow.
        missing: Classes without a photo to judge by.
        change: What adaptation changed: top-1 of `adapted` beside that of `zero_shot`, photo by photo.
    """

    zero_shot: Scores
    adapted: Scores
    probe: Scores
    missing: tuple[str, ...]
    change: Comparison


@dataclass(frozen=True)
class AdaptResult:
    """What `adapt` gives back.

    Attributes:
        prompt: The tuned prompt.
        holdout: The verdict, or None if nothing was held out.
        options: What ran.
        provider: Execution provider that ran it.
        backbone_name: The backbone's model name.
        train_photos: Photos trained on.
        single: Classes with only one photo to train on.
        skipped: Files that were left out.
        steps: Training steps in the whole schedule.
        seconds: `encode`, `train` and `total`.
        peak_rss_mb: Peak resident memory.
        work: The work directory, which holds the finished training until the prompt is saved.
    """

    prompt: PromptFile
    holdout: Holdout | None
    options: AdaptOptions
    provider: str
    backbone_name: str
    train_photos: int
    single: tuple[str, ...]
    skipped: tuple[SkippedPhoto, ...]
    steps: int
    seconds: dict[str, float]
    peak_rss_mb: float
    work: WorkDir

    def save(self, path: str | Path) -> None:
        """Write the prompt file; only then the work directory may go.

        Raises:
            OutputError: It cannot be written.
        """
        write_prompt_file(Path(path), self.prompt)
        self.work.finish()


def adapt(
    images: str | Path,
    *,
    labels: str | Path | None = None,
    test_images: str | Path | None = None,
    class_names: str | Path | None = None,
    bits: int | None = None,
    options: AdaptOptions | None = None,
    work_dir: str | Path | None = None,
    resume: bool = False,
    reporter: Reporter | None = None,
) -> AdaptResult:
    """Tune a prompt on labelled photos.

    Args:
        images: A folder with one sub-folder of photos per class; with `labels`, where its paths start.
        labels: A CSV file with the columns `path,label`, instead of sub-folders.
        test_images: Photos to judge by, laid out as `images`; then nothing is held out.
        class_names: A CSV file with the columns `label,text`: words for labels that say nothing.
        bits: Bits a weight; short for the option of that name.
        options: Everything else.
        work_dir: Where checkpoints go; by default in the user's cache.
        resume: Continue this very task if the work directory holds its checkpoint.
        reporter: Told how far it is.

    Returns:
        The prompt, the verdict, and what it took. Nothing is written but cache and checkpoints.

    Raises:
        QPromptError: The input cannot be adapted to; the message says why and what to do.
    """
    begin = time.monotonic()
    options, reporter = options or AdaptOptions(), reporter or Reporter()
    if bits is not None:
        options = replace(options, training=replace(options.training, bits=bits))
    photos = find_labelled(Path(images), Path(labels) if labels is not None else None)
    tests = find_photos(Path(test_images), min_classes=1) if test_images is not None else None
    deep = options.method != CONTEXT
    backbone = Backbone.load(options.backbone, options.provider, options.threads, deep=deep)
    unkept = Unkept(reporter.note)
    cache = FeatureCache(
        _cache_path(Path(images), backbone, options),
        feature_identity(backbone, options.views, options.training.seed),
        unkept,
    )
    names = Path(class_names) if class_names is not None else None
    data = prepare(photos, tests, names, backbone, options, cache, reporter)
    backbone.close_image_tower()
    check_limit(options.max_memory, "encoding the photos")
    encoded = time.monotonic()

    prompt, steps, work = _tune(data, backbone, options, work_dir, resume, reporter, unkept)
    trained = time.monotonic()
    holdout = _judge(data, prompt, backbone, reporter) if len(data.test.labels) else None
    counts = np.bincount(data.train.labels, minlength=len(data.train.classes))
    end = time.monotonic()
    return AdaptResult(
        prompt=prompt,
        holdout=holdout,
        options=options,
        provider=backbone.provider,
        backbone_name=backbone.manifest.name,
        train_photos=len(data.train.paths),
        single=tuple(
            name.label for name, count in zip(data.train.classes, counts, strict=True) if count == 1
        ),
        skipped=data.skipped,
        steps=steps,
        seconds={"encode": encoded - begin, "train": trained - encoded, "total": end - begin},
        peak_rss_mb=peak_rss_mb(),
        work=work,
    )


def _cache_path(images: Path, backbone: Backbone, options: AdaptOptions) -> Path | None:
    """One cache file for a folder, a backbone and the options that change features; None for a user without a cache."""
    folder = cache_folder()
    if folder is None:
        return None
    facts = {
        "folder": str(images.resolve()),
        "identity": feature_identity(backbone, options.views, options.training.seed),
    }
    return folder / "features" / f"{task_id(facts)}.npz"


def _tune(
    data: TaskData,
    backbone: Backbone,
    options: AdaptOptions,
    work_dir: str | Path | None,
    resume: bool,
    reporter: Reporter,
    unkept: Unkept,
) -> tuple[PromptFile, int, WorkDir]:
    """Train, with checkpoints; the prompt as it will be written, the steps in all, and the work directory."""
    fit_activations(backbone, options.max_memory, tuning=True)
    facts = _facts(data, backbone, options)
    task = task_id(facts, data.train.features, data.train.labels)
    if work_dir is None:
        work = WorkDir.open(None, task, facts, unkept)
    else:  # another disk, perhaps, so another word
        work = WorkDir.open(Path(work_dir), task, facts, Unkept(reporter.note))
    state, saved = work.load() if resume else None, time.monotonic()
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
            per_class=options.contexts == "per-class",
            state=state,
            after_step=after_step,
        )
    except KeyboardInterrupt:
        if state is not None:
            work.save(state)
        raise
    work.save(state)
    backbone.close_text_tower()
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
        "training": asdict(options.training),
    }


def _judge(data: TaskData, prompt: PromptFile, backbone: Backbone, reporter: Reporter) -> Holdout:
    """Zero-shot, adapted and probe on the photos kept away."""
    scale = backbone.manifest.logit_scale
    zero_shot = class_features(backbone, data.train.classes)
    runnable = folded(prompt)
    adapted = prompt_features(runnable, backbone, prompt.classes)
    seen = prompted_features(
        runnable,
        backbone,
        data.test,
        lambda done, total: reporter.stage("judging the prompt", done, total),
    )
    count = len(data.train.classes)
    weight, bias = linear_probe(data.train.plain, data.train.labels, count)
    present = set(data.test.labels.tolist())
    before = score(class_probabilities(data.test.plain, zero_shot, scale), data.test.labels)
    after = score(class_probabilities(seen, adapted, scale), data.test.labels)
    return Holdout(
        zero_shot=before,
        adapted=after,
        probe=score(softmax(data.test.plain @ weight + bias), data.test.labels),
        missing=tuple(name.label for i, name in enumerate(data.train.classes) if i not in present),
        change=compare(before.right, after.right),
    )
