"""Answers to single photos: the model of a prompt is kept while it is used."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from qprompt_edge.cache import cache_folder
from qprompt_runtime.backbone import Backbone
from qprompt_runtime.classifier import PromptClassifier
from qprompt_runtime.errors import PromptFileError
from qprompt_runtime.prompt_file import read_prompt_file

_SHOWN = 5


class Answers:
    """One prompt's classifier, kept until another prompt is asked for.

    Args:
        settings: `backbone`, `provider` and `threads`.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        self._settings = settings
        self._key: tuple[Any, ...] = ()
        self._backbone: Backbone | None = None
        self._classifier: PromptClassifier | None = None

    def answer(self, order: dict[str, Any]) -> dict[str, Any]:
        """What a photo shows, as the interface gives it.

        Args:
            order: `prompt` (a file), `photo` (a file) and `accept` (a share or None).

        Raises:
            QPromptError: The prompt or the photo cannot be used.
        """
        classifier = self._loaded(Path(order["prompt"]), order["accept"])
        begin = time.monotonic()
        answer = classifier.predict(order["photo"], top_k=_SHOWN)
        return {
            "predictions": [
                {"label": label, "probability": probability}
                for label, probability in zip(answer.labels, answer.probabilities, strict=True)
            ],
            "none_of_these": answer.none_of_these,
            "seconds": round(time.monotonic() - begin, 4),
        }

    def _loaded(self, path: Path, accept: float | None) -> PromptClassifier:
        """The classifier of a prompt file as it is now."""
        try:
            status = path.stat()
        except OSError as error:
            raise PromptFileError(f"the prompt cannot be read: {error.strerror}; adapt first") from error
        key = (str(path), status.st_ino, status.st_mtime_ns, accept)
        if self._classifier is None or key != self._key:
            if self._backbone is None:
                named, provider, threads = (
                    self._settings[name] for name in ("backbone", "provider", "threads")
                )
                self._backbone = Backbone.load(named, provider, threads)
            prompt = read_prompt_file(path)
            if (
                not prompt.calibration.accept_scores
            ):  # too few photos: it cannot tell, and the answer says null
                accept = None
            self._classifier = PromptClassifier(
                prompt, self._backbone, cache=cache_folder("classes"), accept=accept
            )
            self._key = key
        return self._classifier
