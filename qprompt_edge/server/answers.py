"""Answers of the child process that take a moment: to single photos, and how versions compare."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from threading import RLock
from typing import Any

import numpy as np

from qprompt_edge.cache import Unkept, cache_folder
from qprompt_edge.data.features import Examples, encode_photos, user_features
from qprompt_edge.evaluation.prompted import prompted_features
from qprompt_edge.server.queue_order import QueueOrder
from qprompt_edge.watching.health import Version
from qprompt_runtime.admission import lapsed
from qprompt_runtime.backbone import Backbone
from qprompt_runtime.classifier import PromptClassifier
from qprompt_runtime.decode import Source
from qprompt_runtime.errors import PhotosError, PromptFileError, TrustError
from qprompt_runtime.images import load_pixels
from qprompt_runtime.memory_left import give_back
from qprompt_runtime.prompt_file import ClassName, PromptFile, prompt_in, read_content, read_prompt_file
from qprompt_runtime.text import printable

_SHOWN = 5
_KEPT = 4

Order = dict[str, Any]


class Answers:
    """One backbone, and the classifiers of the prompts that were asked for last; for several threads.

    Args:
        settings: `backbone`, `provider` and `threads`.
    """

    def __init__(self, settings: Order) -> None:
        self._settings = settings
        self._lock = RLock()
        self._backbone: Backbone | None = None
        self._queue: QueueOrder | None = None
        self._classifiers: dict[tuple[Any, ...], tuple[PromptClassifier, Version, bytes]] = {}

    def do(self, what: str, order: Order) -> Order:
        """Carry out an order: `predict`, `compare` or `review`.

        Raises:
            QPromptError: It cannot be.
        """
        with self._lock:
            if what == "compare":
                return self._compared(order)
            if what == "review":
                self._queue = self._queue or QueueOrder(self._own_backbone())
                return self._queue.listed(order)
            return self.predict(Path(order["prompt"]), order["photo"], order["accept"])

    def forget(self) -> None:
        """Close what is open; the next order opens it again."""
        with self._lock:
            self._backbone, self._queue, self._classifiers = None, None, {}

    def predict(self, prompt: Path, photo: Source, accept: float | None) -> Order:
        """What a photo shows, as the interface gives it, and in `seen` what is counted of it.

        Args:
            prompt: The prompt file.
            photo: As `decode` takes it.
            accept: Share of known photos that "none of these" lets pass; a prompt that cannot tell answers
                null.

        Raises:
            QPromptError: The prompt or the photo cannot be used.
        """
        with self._lock:
            classifier, version = self._classifier(prompt, accept)
            begin = time.monotonic()
            pixels = load_pixels(photo, classifier.backbone.manifest.image_transform)
            classifier.backbone.expect_single_photos()  # versions may have been compared on many
            features = classifier.encode_images(pixels[None])
            answer = classifier.predict_features(features, _SHOWN)[0]
            score = float(classifier.known_scores(features)[0]) if version.accept_scores else None
        pairs = zip(answer.labels, answer.probabilities, strict=True)
        return {
            "predictions": [{"label": label, "probability": probability} for label, probability in pairs],
            "none_of_these": answer.none_of_these,
            "seconds": round(time.monotonic() - begin, 4),
            "seen": {"score": score, "version": asdict(version)},
        }

    def _compared(self, order: Order) -> Order:
        """How many of some photos each of several prompts gets right.

        Args:
            order: `photos` (id and label of each) below `folder`, and `prompts` (files).

        Returns:
            `photos`, how many were judged, and `top1` of each prompt; None for one that is for another
            backbone.

        Raises:
            PhotosError: There is no photo whose class all prompts know.
        """
        backbone = self._own_backbone()
        prompts = [read_prompt_file(Path(path)) for path in order["prompts"]]
        fitting = [prompt for prompt in prompts if prompt.fingerprint == backbone.fingerprint]
        known = set.intersection(*map(_labels, fitting)) if fitting else set()
        photos = [(Path(order["folder"], photo), label) for photo, label in order["photos"] if label in known]
        cache = user_features(backbone, Unkept(lambda _line: None))
        encoded = encode_photos(backbone, [path for path, _ in photos], cache=cache)
        seen = [place for place in range(len(photos)) if place not in encoded.failures]
        if not seen:
            raise PhotosError(
                "there is no photo that none of the versions was tuned on and whose class all of them know; add some photos"
            )
        labels = [photos[place][1] for place in seen]
        examples = Examples(
            tuple(map(ClassName.from_label, labels)),
            [photos[place][0] for place in seen],
            np.zeros(len(seen), np.int64),
            encoded.features[seen],
        )
        top1 = [self._top1(prompt, examples, labels) if prompt in fitting else None for prompt in prompts]
        return {"photos": len(seen), "top1": top1}

    def _top1(self, prompt: PromptFile, photos: Examples, labels: list[str]) -> float:
        backbone = self._own_backbone()
        classifier = PromptClassifier(prompt, backbone, cache=cache_folder("classes"))
        _ = classifier.class_features  # before the image tower opens
        features = prompted_features(classifier.prompt, backbone, photos)
        best = classifier.probabilities(features).argmax(axis=1).tolist()
        right = [classifier.labels[place] == label for place, label in zip(best, labels, strict=True)]
        return float(sum(right) / len(right))

    def _own_backbone(self) -> Backbone:
        if self._backbone is None:
            named, provider, threads = (self._settings[name] for name in ("backbone", "provider", "threads"))
            self._backbone = Backbone.load(named, provider, threads)
        return self._backbone

    def _classifier(self, path: Path, accept: float | None) -> tuple[PromptClassifier, Version]:
        """The classifier of a prompt file as it is now, and which version that is.

        Raises:
            QPromptError: The prompt cannot be used, or has expired since it was read.
        """
        try:
            status = path.stat()
        except OSError as error:
            raise PromptFileError(f"the prompt cannot be read: {error.strerror}; adapt first") from error
        key = (str(path), status.st_ino, status.st_mtime_ns, accept)
        if key not in self._classifiers:
            data = read_content(path)
            prompt = prompt_in(data, path)
            if not prompt.calibration.accept_scores:  # too few photos to tell
                accept = None
            made = PromptClassifier(
                prompt, self._own_backbone(), cache=cache_folder("classes"), accept=accept
            )
            while len(self._classifiers) >= _KEPT:
                del self._classifiers[next(iter(self._classifiers))]
            _ = made.class_features
            if prompt.calibration.accept_scores:
                _ = made.nouns  # before the image tower opens
            made.backbone.close_text_tower()
            self._classifiers[key] = made, Version.of(data, prompt), data
            give_back()  # what the text tower took
        made, version, data = self._classifiers[key]
        lapse = lapsed(data)
        if lapse is not None and lapse.stops:
            raise TrustError(f"{printable(path)}: {lapse.reason}")
        return made, version


def _labels(prompt: PromptFile) -> set[str]:
    return {name.label for name in prompt.classes}
