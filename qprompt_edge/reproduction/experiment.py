"""An experiment: encode its data sets, run its jobs, and store the outcomes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from qprompt_edge.reporter import Reporter
from qprompt_edge.reproduction.executors import (
    BackboneChoice,
    WorkerSetup,
    check_ray,
    possible_processes,
    run_here,
    run_on_ray,
)
from qprompt_edge.reproduction.jobs import Job
from qprompt_edge.reproduction.recipes import RECIPES
from qprompt_edge.reproduction.sets import EncodedSet, ExperimentSet, encode_set
from qprompt_edge.reproduction.store import Store
from qprompt_runtime.backbone import Backbone
from qprompt_runtime.errors import PhotosError
from qprompt_runtime.prompt_file import DEEP_METHODS
from qprompt_runtime.tokenizer import check_names


@dataclass(frozen=True)
class Experiment:
    """What is run.

    Attributes:
        jobs: See `protocols`.
        sets: Every data set that a job names, by name.
        choice: The backbone.
        training: Settings that replace `recipes.PAPER_TRAINING`'s: `epochs`, `lr`, `batch_size`.
    """

    jobs: Sequence[Job]
    sets: Mapping[str, ExperimentSet]
    choice: BackboneChoice = field(default_factory=BackboneChoice)
    training: Mapping[str, Any] = field(default_factory=dict)

    def run(
        self, out: Path, *, processes: int = 1, ray: str | None = None, reporter: Reporter | None = None
    ) -> Store:
        """Run the jobs that are not done yet.

        Args:
            out: Folder of the results; the same experiment goes on in it.
            processes: Jobs side by side on this machine.
            ray: Address of a Ray cluster to run on instead.
            reporter: Told how far it is.

        Returns:
            The results, those of earlier runs among them.

        Raises:
            QPromptError: The data, the backbone or the folder cannot be used.
        """
        reporter = reporter or Reporter()
        self._check_draws(self.sets)
        backbone = self.choice.open()
        self._check_words(backbone)
        store = Store.open(out, self._facts(backbone))
        waiting = sorted((job for job in self.jobs if not store.has(job)), key=self._cost, reverse=True)
        done = len(self.jobs) - len(waiting)
        if done:
            reporter.note(f"{done} of {len(self.jobs)} jobs are done already")
        if ray is not None and waiting:
            check_ray(ray)
        encoded = self._encoded(waiting, backbone, out, reporter)
        readable = {name: chosen.photos for name, chosen in encoded.items()}
        self._check_draws(readable)
        store = Store.open(out, {**store.facts, **_judged(readable)})
        setup = WorkerSetup(self.choice, encoded, dict(self.training))
        del backbone
        if ray is not None:
            outcomes = run_on_ray(setup, waiting, ray)
        else:
            here = possible_processes(min(processes, len(waiting)) or 1, reporter.note)
            outcomes = run_here(setup, waiting, here)
        reporter.stage("jobs", done, len(self.jobs))
        with closing(outcomes):  # no worker goes on if an outcome cannot be kept
            for outcome in outcomes:
                store.put(outcome)
                done += 1
                reporter.stage("jobs", done, len(self.jobs))
        return store

    def _cost(self, job: Job) -> int:
        """Roughly how long a job takes.

        The longest start first, so that no core waits for them at the end.
        """
        deep = needs_deep([job.method])
        return len(self.sets[job.source].classes) * job.shots * (4 if deep else 1)

    def _check_words(self, backbone: Backbone) -> None:
        """Refuse own sets with two classes that are the same words; published ones are as they are."""
        for chosen in self.sets.values():
            pairs = [(name.label, name.text) for name in chosen.classes]
            check_names(pairs, lambda text: backbone.tokenizer.encode(text), shared=not chosen.published)

    def _check_draws(self, sets: Mapping[str, ExperimentSet]) -> None:
        """Refuse to train on a set for testing only, and to judge by nothing."""
        draws = dict.fromkeys((job.source, (job.shots, job.seed), job.targets) for job in self.jobs)
        for source, draw, targets in draws:
            if source not in sets:
                continue
            photos = sets[source]
            if not photos.pool.paths:
                raise PhotosError(f"data set {source!r} is for testing only; nothing can be trained on it")
            judged = photos.judged(draw)
            for target in targets:
                if target.dataset == source and not photos.part(judged, target.part)[0].paths:
                    raise PhotosError(
                        f"data set {source!r} has no photo left to test on ({target.part} classes) after "
                        f"{draw[0]} of each class are drawn; take fewer --shots, or give it a test folder"
                    )

    def _encoded(
        self, jobs: Sequence[Job], backbone: Backbone, out: Path, reporter: Reporter
    ) -> dict[str, EncodedSet]:
        """The sets that jobs name, with the features that they need."""
        named = {job.source for job in jobs} | {target.dataset for job in jobs for target in job.targets}
        return {
            name: encode_set(
                chosen,
                sorted({(job.shots, job.seed) for job in jobs if job.source == name}),
                backbone,
                out / "features",
                reporter,
            )
            for name, chosen in self.sets.items()
            if name in named
        }

    def _facts(self, backbone: Backbone) -> dict[str, Any]:
        """What outcomes depend on besides their job."""
        manifest = backbone.manifest
        facts: dict[str, Any] = {
            "backbone": {"name": manifest.name, "fingerprint": manifest.fingerprint},
            "graphs": {name: record.sha256 for name, record in sorted(manifest.files.items())},
            "provider": backbone.provider,
            "training": dict(self.training),
        }
        for name, chosen in self.sets.items():
            facts[f"data set {name}"] = _identity(chosen)
        return facts


def _identity(photos: ExperimentSet) -> str:
    """A hash of a set's photos by name, their labels, and its words; a moved folder keeps it."""
    texts = tuple(name.text for name in photos.classes)
    digest = hashlib.sha256(repr((photos.template, texts)).encode())
    for part in (photos.pool, photos.test):
        if part is not None:
            names = [f"{path.parent.name}/{path.name}" for path in part.paths]
            digest.update(repr((names, part.labels.tolist(), part.classes)).encode())
    return digest.hexdigest()[:32]


def _judged(sets: Mapping[str, ExperimentSet]) -> dict[str, str]:
    """Which photos sets are judged by.

    One that was damaged or mended since earlier jobs would change what they are compared on, photo by photo.
    """
    return {
        f"list of readable photos of data set {name}": _identity(
            replace(chosen, pool=chosen.judged(None), test=None)
        )
        for name, chosen in sets.items()
    }


def needs_deep(methods: Sequence[str]) -> bool:
    """Whether a recipe among these learns deep prompts."""
    return any(RECIPES[name].learner in DEEP_METHODS for name in methods)
