"""Runs a job: draws photos, trains what its recipe says, and judges the result on every target."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from qprompt_edge.data.photos import LabelledPhotos
from qprompt_edge.evaluation.metrics import linear_probe
from qprompt_edge.evaluation.prompted import prompted_features
from qprompt_edge.evaluation.zero_shot import class_features, ensemble_features
from qprompt_edge.reproduction.jobs import Job, Outcome, Target
from qprompt_edge.reproduction.recipes import PAPER_TRAINING, RECIPES, Recipe
from qprompt_edge.reproduction.sets import EncodedSet
from qprompt_edge.reproduction.tip_adapter import tip_adapter
from qprompt_edge.tuning.methods import METHODS, TrainingSet, tune
from qprompt_edge.tuning.ptq import make_group
from qprompt_runtime.arrays import Array
from qprompt_runtime.backbone import Backbone
from qprompt_runtime.classifier import prompt_features
from qprompt_runtime.folding import folded
from qprompt_runtime.prompt_file import ClassName, PromptFile


class Judge(Protocol):
    """Scores classes for photos."""

    def __call__(
        self, photos: LabelledPhotos, features: Array, classes: Sequence[ClassName], template: str
    ) -> Array:
        """Score classes; the highest is the guess.

        Args:
            photos: M photos.
            features: float32 [M,E], their features without prompts.
            classes: The C classes.
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
        photos, features, classes = source.part(source.photos.drawn(draw), job.part)
        recipe = RECIPES[job.method]
        learned = self._learn(recipe, photos, features, classes, job)
        right: dict[Target, NDArray[np.bool_]] = {}
        for target in job.targets:
            chosen = self.sets[target.dataset]
            judged = chosen.photos.judged(draw if target.dataset == job.source else None)
            tests, seen, known = chosen.part(judged, target.part)
            if recipe.knows_new_classes or _texts(known) == _texts(classes):
                scores = learned.judge(tests, seen, known, chosen.photos.template)
                right[target] = scores.argmax(axis=1) == tests.labels
        seconds = time.monotonic() - began
        return Outcome(job, right, learned.payload_bytes, learned.file_bytes, learned.steps, seconds)

    def _learn(
        self,
        recipe: Recipe,
        photos: LabelledPhotos,
        features: Array,
        classes: tuple[ClassName, ...],
        job: Job,
    ) -> Learned:
        """What the recipe makes of photos with features [N,E] and labels from 0 to C-1."""
        if recipe.learner in METHODS:
            return self._tune(recipe, photos, features, classes, job.seed)
        if recipe.learner == "probe":
            weight, bias = linear_probe(features, photos.labels, len(classes))
            return Learned(lambda _p, seen, _t, _m: seen @ weight + bias, weight.nbytes + bias.nbytes)
        if recipe.learner == "tip-adapter":
            frozen = self.backbone
            by_hand = class_features(frozen, classes, self.sets[job.source].photos.template)
            cache = tip_adapter(by_hand, features, photos.labels, frozen.manifest.logit_scale)
            stored = cache.keys.nbytes + photos.labels.astype(np.uint16).nbytes
            return Learned(lambda _p, seen, _t, _m: cache.logits(seen), stored)
        make = {"zero-shot": class_features, "ensemble": ensemble_features}[recipe.learner]
        return Learned(lambda _p, seen, named, template: seen @ make(self.backbone, named, template).T)

    def _tune(
        self,
        recipe: Recipe,
        photos: LabelledPhotos,
        features: Array,
        classes: tuple[ClassName, ...],
        seed: int,
    ) -> Learned:
        """Tune a prompt; it is judged as a file would hold it."""
        own: dict[str, Any] = {"bits": recipe.bits, "clustering": recipe.clustering, "seed": seed}
        config = replace(PAPER_TRAINING[recipe.learner], **own | dict(self.training))
        prompt, state = tune(
            recipe.learner,
            self.backbone,
            TrainingSet(classes, photos.paths, photos.labels, features[:, None]),
            config,
            context_init=recipe.context_init,
            per_class=recipe.per_class,
            relative_noise=recipe.noise,
        )
        if recipe.bits_after is not None:
            groups = tuple(make_group(g.role, g.values(), recipe.bits_after) for g in prompt.groups)
            prompt = replace(prompt, groups=groups)
        judge = PromptJudge(folded(prompt), self.backbone)
        return Learned(judge, prompt.payload_bytes, len(prompt.to_bytes()), state.step)


@dataclass(frozen=True)
class PromptJudge:
    """Scores classes by a prompt that the runtime runs."""

    prompt: PromptFile
    backbone: Backbone

    def __call__(
        self, photos: LabelledPhotos, features: Array, classes: Sequence[ClassName], template: str
    ) -> Array:
        """See `Judge`."""
        own = _texts(self.prompt.classes) == _texts(classes)
        names = self.prompt.classes if own else classes
        seen = prompted_features(self.prompt, self.backbone, photos.paths, features)
        scores: Array = seen @ prompt_features(self.prompt, self.backbone, names).T
        return scores


def _texts(classes: Sequence[ClassName]) -> list[str]:
    """What classes of two data sets are compared by; their labels may be spelled differently."""
    return [name.text for name in classes]
