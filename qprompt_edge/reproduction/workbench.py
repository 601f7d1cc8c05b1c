"""Runs a job: draws photos, trains what its recipe says, and judges the result on every target."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from qprompt_edge.data.features import Examples
from qprompt_edge.evaluation.metrics import linear_probe
from qprompt_edge.evaluation.prompted import prompted_features
from qprompt_edge.evaluation.zero_shot import ENSEMBLE, class_features, ensemble_features
from qprompt_edge.reproduction.jobs import Job, Outcome, Target
from qprompt_edge.reproduction.recipes import PAPER_TRAINING, RECIPES, Recipe
from qprompt_edge.reproduction.sets import EncodedSet
from qprompt_edge.reproduction.tip_adapter import tip_adapter
from qprompt_edge.tuning.calibration import held_out_scores
from qprompt_edge.tuning.config import TrainingConfig
from qprompt_edge.tuning.levels import levelled
from qprompt_edge.tuning.methods import METHODS, tune
from qprompt_edge.tuning.ptq import make_group
from qprompt_edge.tuning.qtaskres import OFFSETS, RESIDUALS
from qprompt_edge.tuning.regularizers import Anchors, Regularizer
from qprompt_runtime.arrays import Array
from qprompt_runtime.backbone import Backbone
from qprompt_runtime.folding import folded
from qprompt_runtime.prompt_features import class_offsets, prompt_features
from qprompt_runtime.prompt_file import RESIDUAL, ClassName, PromptFile
from qprompt_runtime.text_features import text_features


class Judge(Protocol):
    """Scores classes for photos."""

    def __call__(self, photos: Examples, template: str) -> Array:
        """Score classes; the highest is the guess.

        Args:
            photos: M photos, with the C classes that are scored, and features without prompts.
            template: The data set's hand-written prompt.

        Returns:
            float32 [M,C].
        """


@dataclass(frozen=True)
class Learned:
    """What a recipe learned.

    Attributes:
        judge: Scores classes.
        payload_bytes: What was learned, as it is stored.
        file_bytes: The whole prompt file; None for methods that are not prompts.
        steps: Training steps.
    """

    judge: Judge
    payload_bytes: int = 0
    file_bytes: int | None = None
    steps: int = 0


@dataclass(frozen=True)
class Workbench:
    """All that jobs need.

    Attributes:
        backbone: The frozen model; a `DeepBackbone` where a recipe learns deep prompts.
        sets: Encoded data sets by name.
        training: Settings that replace `PAPER_TRAINING`'s.
    """

    backbone: Backbone
    sets: Mapping[str, EncodedSet]
    training: Mapping[str, Any]

    def run(self, job: Job) -> Outcome:
        """Run a job.

        Raises:
            QPromptError: A photo can no longer be read, or a name does not fit the text tower.
        """
        began = time.monotonic()
        source, draw = self.sets[job.source], (job.shots, job.seed)
        photos = source.part(source.photos.drawn(draw), job.part)
        recipe = RECIPES[job.method]
        learned = self._learn(recipe, photos, job)
        right: dict[Target, NDArray[np.bool_]] = {}
        for target in job.targets:
            chosen = self.sets[target.dataset]
            judged = chosen.photos.judged(draw if target.dataset == job.source else None)
            tests = chosen.part(judged, target.part)
            if recipe.knows_new_classes or _texts(tests.classes) == _texts(photos.classes):
                scores = learned.judge(tests, chosen.photos.template)
                right[target] = scores.argmax(axis=1) == tests.labels
        seconds = time.monotonic() - began
        return Outcome(job, right, learned.payload_bytes, learned.file_bytes, learned.steps, seconds)

    def _learn(self, recipe: Recipe, photos: Examples, job: Job) -> Learned:
        """What the recipe makes of a job's photos."""
        if recipe.learner in METHODS:
            return self._tune(recipe, photos, job)
        frozen = self.backbone
        if recipe.learner == "probe":
            weight, bias = linear_probe(photos.plain, photos.labels, len(photos.classes))
            return Learned(lambda tests, _template: tests.plain @ weight + bias, weight.nbytes + bias.nbytes)
        if recipe.learner == "tip-adapter":
            by_hand = class_features(frozen, photos.classes, self.sets[job.source].photos.template)
            cache = tip_adapter(by_hand, photos.plain, photos.labels, frozen.manifest.logit_scale)
            stored = cache.keys.nbytes + photos.labels.astype(np.uint16).nbytes
            return Learned(lambda tests, _template: cache.logits(tests.plain), stored)
        make = {"zero-shot": class_features, "ensemble": ensemble_features}[recipe.learner]
        return Learned(lambda tests, template: tests.plain @ make(frozen, tests.classes, template).T)

    def _tune(self, recipe: Recipe, photos: Examples, job: Job) -> Learned:
        """Tune a prompt; it is judged as a file would hold it."""
        own: dict[str, Any] = {"bits": recipe.bits, "clustering": recipe.clustering, "seed": job.seed}
        config = replace(PAPER_TRAINING[recipe.learner], **own | dict(self.training))
        prompt, state = tune(
            recipe.learner,
            self.backbone,
            photos,
            config,
            context_init=recipe.context_init,
            per_class=recipe.per_class,
            relative_noise=recipe.noise,
            anchors=self._anchors(recipe.regularizer, photos.classes, job),
            averaged=recipe.averaged,
        )
        if prompt.method == RESIDUAL:
            prompt = self._levelled(prompt, photos, config)
        if recipe.bits_after is not None:
            groups = tuple(
                group
                if group.role == OFFSETS
                else make_group(group.role, group.values(), recipe.bits_after, by_row=group.role == RESIDUALS)
                for group in prompt.groups
            )
            prompt = replace(prompt, groups=groups)
        judge = PromptJudge(folded(prompt), self.backbone)
        return Learned(judge, prompt.payload_bytes, len(prompt.to_bytes()), state.step)

    def _levelled(self, prompt: PromptFile, photos: Examples, config: TrainingConfig) -> PromptFile:
        """A prompt of residuals with its level beside other names, which `adapt` sets, too."""
        text = text_features(self.backbone, prompt.classes, prompt.template)
        held_out = held_out_scores(text, photos, np.arange(len(photos.labels)), config)
        return levelled(prompt, held_out, text)[0]

    def _anchors(
        self, regularizer: Regularizer | None, classes: Sequence[ClassName], job: Job
    ) -> Anchors | None:
        """Hand-written prompts of the classes.

        If asked for, also of the other names that will be judged.
        """
        if regularizer is None:
            return None
        template, new = self.sets[job.source].photos.template, dict[str, ClassName]()
        if regularizer.new_names:
            for target in job.targets:
                judged = self.sets[target.dataset].photos
                _, names = judged.part(judged.pool, target.part)
                new |= {name.text: name for name in names if name.text not in _texts(classes)}
        every = (*classes, *new.values())
        prompts = [class_features(self.backbone, every, each) for each in (template, *ENSEMBLE)]
        return Anchors(regularizer, np.stack(prompts), tuple(new))


@dataclass(frozen=True)
class PromptJudge:
    """Scores classes by a prompt that the runtime runs."""

    prompt: PromptFile
    backbone: Backbone

    def __call__(self, photos: Examples, template: str) -> Array:
        """See `Judge`."""
        own = _texts(self.prompt.classes) == _texts(photos.classes)
        names = self.prompt.classes if own else photos.classes
        seen = prompted_features(self.prompt, self.backbone, photos)
        scores: Array = seen @ prompt_features(self.prompt, self.backbone, names).T
        scores += class_offsets(self.prompt, names)
        return scores


def _texts(classes: Sequence[ClassName]) -> list[str]:
    """What classes of two data sets are compared by; their labels may be spelled differently."""
    return [name.text for name in classes]
