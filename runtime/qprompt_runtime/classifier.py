"""The public class: a prompt file and a backbone become a classifier of photos."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from qprompt_runtime.admission import used
from qprompt_runtime.arrays import Array
from qprompt_runtime.backbone import Backbone
from qprompt_runtime.class_features import kept_features
from qprompt_runtime.class_head import ClassHead
from qprompt_runtime.decode import Source
from qprompt_runtime.errors import BackboneMismatchError, ImageError, PromptFileError
from qprompt_runtime.folding import folded
from qprompt_runtime.images import load_pixels
from qprompt_runtime.many_photos import features_of_many
from qprompt_runtime.none_of_these import known_scores, least_score, noun_features
from qprompt_runtime.policy import Policy
from qprompt_runtime.prediction import Prediction
from qprompt_runtime.prompt_features import (
    check_fit,
    class_offsets,
    class_rows,
    prompt_features,
    prompted_image_features,
)
from qprompt_runtime.prompt_file import CONTEXT, RESIDUAL, ClassName, PromptFile, prompt_in, read_content
from qprompt_runtime.small_hash import sha256
from qprompt_runtime.text import counted, first_few, printable
from qprompt_runtime.text_features import kept_text_features, text_tower_facts
from qprompt_runtime.tokenizer import check_names

Photo = TypeVar("Photo", bound=Source)


class PromptClassifier:
    """Classify photos by the classes of a prompt, or by other names in the same context.

    Args:
        prompt: The tuned prompt; a coupled one is folded here, once.
        backbone: The backbone it was tuned for.
        classes: Names that replace the prompt's own (open vocabulary). Names that were tuned keep what was
            learned for them; others are classified by their text. Not for contexts per class.
        cache: Folder that keeps the features of classes from run to run; None keeps nothing.
        accept: Turns "none of these" on: the share of photos of the classes that keep their label, from 0.8
            to 0.99. None: as the prompt file says; if it says nothing, it is off. It is calibrated for the
            prompt's own classes and is not available for other names.

    Raises:
        BackboneMismatchError: The prompt was tuned for another backbone.
        PromptFileError: The prompt's shape does not fit the backbone or these classes, or `accept` was given
            and the prompt file has no scores for "none of these".
        ValueError: `accept` is out of range.
    """

    def __init__(
        self,
        prompt: PromptFile,
        backbone: Backbone,
        classes: Sequence[str] | None = None,
        cache: Path | None = None,
        accept: float | None = None,
    ) -> None:
        check_backbone(prompt, backbone)
        self.cache = cache
        self.prompt = folded(prompt)
        check_fit(self.prompt, backbone)
        self.backbone = backbone
        names = prompt.classes if classes is None else tuple(ClassName.from_label(name) for name in classes)
        self.names = names
        self.labels = tuple(name.label for name in names)
        self.least_score = self._least_score(accept)

    def __repr__(self) -> str:
        labels = first_few(self.labels)
        return (
            f"<PromptClassifier {self.prompt.method} on {printable(self.backbone.manifest.name)}, "
            f"{counted(len(self.labels), 'class', 'classes')}: {labels}>"
        )

    def _least_score(self, accept: float | None) -> float | None:
        """The score below which a photo shows none of the classes, or None."""
        tuned = len(class_rows(self.prompt, self.names)) == len(self.names)
        if accept is not None and not tuned:
            raise PromptFileError(
                "'none of these' was calibrated for the classes that were tuned; leave out either --accept "
                "or the names that were not tuned"
            )
        share = accept if accept is not None or not tuned else self.prompt.calibration.accept
        return None if share is None else least_score(self.prompt.calibration, share)

    @cached_property
    def nouns(self) -> Array:
        """float32 [G,E]: what competes with the classes for "none of these", computed at the first access."""
        return noun_features(self.backbone, self.names, self.cache)

    @cached_property
    def class_features(self) -> Array:
        """float32 [C,E], computed at the first access, so that a memory limit can be set before.

        The text tower is closed afterwards.

        Raises:
            TextError: A class has no words, or two that share a context have the same.
        """
        if self.cache is None:
            return self._compute_features()
        shape = (len(self.names), self.backbone.manifest.embed_dim)
        return kept_features(self.cache, self._features_identity(), shape, self._compute_features)

    def _compute_features(self) -> Array:
        each_its_own = self.prompt.method == CONTEXT and len(self.prompt.groups[0].shape) == 3
        pairs = [(name.label, name.text) for name in self.names]
        check_names(pairs, lambda text: self.backbone.tokenizer.encode(text), shared=not each_its_own)
        text = None
        if self.prompt.method == RESIDUAL:
            text = kept_text_features(self.backbone, self.names, self.prompt.template, self.cache)
        features = prompt_features(self.prompt, self.backbone, self.names, text)
        if self.least_score is not None:
            _ = self.nouns  # while the text tower is open
        self.backbone.close_text_tower()
        return features

    def _features_identity(self) -> str:
        """What the features of the classes depend on, in so far as it can differ from run to run."""
        facts = {
            "prompt": sha256(self.prompt.to_bytes()).hex(),
            "classes": [[name.label, name.text] for name in self.names],
            "names": "checked",  # cached features do not replace the checks of names
            **text_tower_facts(self.backbone),
        }
        return json.dumps(facts, sort_keys=True)

    @classmethod
    def load(
        cls,
        path: str | Path,
        backbone: str | Path | None = None,
        *,
        classes: Sequence[str] | None = None,
        provider: str = "auto",
        threads: int = 0,
        cache: Path | None = None,
        accept: float | None = None,
        policy: Policy | None = None,
    ) -> PromptClassifier:
        """Load a prompt file and the backbone that it names.

        Args:
            path: The prompt file.
            backbone: A backbone's name or folder; by default the name in the file.
            classes: Names that replace the prompt's own.
            provider: `auto`, or an execution provider's short name.
            threads: Threads within an operator; 0 takes one for each core.
            cache: Folder that keeps the features of classes from run to run; None keeps nothing.
            accept: Share of known photos that "none of these" lets pass; None takes what the file says.
            policy: Which signed prompts may be used, beside what the device's policy says.

        Raises:
            QPromptError: The file is damaged, does not fit the backbone, or the policy refuses it; or the
                backbone or provider is missing.
        """
        data = read_content(Path(path))
        prompt = prompt_in(data, Path(path), policy)
        found = Backbone.load(backbone or prompt.backbone_name, provider, threads)
        classifier = cls(prompt, found, classes, cache, accept)
        used(data, policy)
        return classifier

    def predict(self, image: Source, top_k: int = 1, *, channels: str = "RGB") -> Prediction:
        """Classify one photo.

        Args:
            image: A path, the bytes of an image file, a file open for reading bytes, a PIL image, or an
                array: uint8 [H,W,3].
            top_k: How many classes to name, at most as many as there are.
            channels: Of an array, the order of its last axis: `RGB`, or `BGR` as OpenCV's cameras give them.

        Raises:
            ImageError: The image cannot be read.
        """
        _ = self.class_features  # before the image tower opens: so only one tower is in memory at a time
        self.backbone.expect_single_photos()
        pixels = load_pixels(image, self.backbone.manifest.image_transform, channels)
        return self.predict_features(self.encode_images(pixels[None]), top_k)[0]

    def predict_many(
        self,
        photos: Iterable[Photo],
        top_k: int = 1,
        *,
        check: Callable[[int], None] | None = None,
    ) -> Generator[tuple[Photo, Prediction | ImageError], None, None]:
        """Classify many photos: several at the same time, or with one thread while others decode the next.

        A photo that cannot be read does not end the run: its error is yielded instead of a prediction.

            for path, answer in classifier.predict_many(paths):
                print(path, answer if isinstance(answer, ImageError) else answer.label)

        Args:
            photos: Each as `predict` takes it; any number, as they are taken one by one.
            top_k: How many classes to name, at most as many as there are.
            check: Called before a photo is decoded, with the most bytes of memory that decoding takes. If it
                raises an `ImageError`, that is yielded instead of the prediction. None checks nothing.

        Yields:
            Each photo as it was given, in order, with its `Prediction`, or with the `ImageError` that says
            why there is none.

        Raises:
            TypeError: One photo was given, not several.
        """
        if isinstance(photos, str | bytes):
            raise TypeError(
                "predict_many takes several photos, for instance a list of paths; predict takes one"
            )
        _ = self.class_features  # as in predict
        features = features_of_many(self.backbone, self.encode_images, photos, check)
        with closing(features) as answers:
            for photo, found in answers:
                if isinstance(found, ImageError):
                    yield photo, found
                else:
                    yield photo, self.predict_features(found, top_k)[0]

    def encode_images(self, pixels: Array) -> Array:
        """Features of photos as this prompt sees them: float32 [B,3,H,W] to unit rows [B,E]."""
        return prompted_image_features(self.prompt, self.backbone, pixels)

    @cached_property
    def head(self) -> ClassHead:
        """What turns image features into probabilities; made once, as it unpacks the prompt's numbers."""
        offsets = class_offsets(self.prompt, self.names)
        return ClassHead(self.class_features, offsets, self.prompt.calibration.logit_scale)

    def probabilities(self, image_features: Array) -> Array:
        """Probabilities float32 [B,C] of all C classes, from unit image features [B,E]."""
        return self.head.probabilities(image_features)

    def predict_features(self, image_features: Array, top_k: int = 1) -> list[Prediction]:
        """Classify unit image features [B,E] that were computed before."""
        refused = self.none_of_these(image_features)
        predictions = []
        for index, row in enumerate(self.probabilities(image_features)):
            best = np.argsort(-row, kind="stable")[: max(1, top_k)]
            predictions.append(
                Prediction(
                    tuple(self.labels[i] for i in best),
                    tuple(float(row[i]) for i in best),
                    None if refused is None else bool(refused[index]),
                )
            )
        return predictions

    def none_of_these(self, image_features: Array) -> NDArray[np.bool_] | None:
        """Which photos look like none of the classes; None if "none of these" is off.

        Takes unit image features [B,E]; returns bool [B].
        """
        if self.least_score is None:
            return None
        refused: NDArray[np.bool_] = self.known_scores(image_features) < self.least_score
        return refused

    def known_scores(self, image_features: Array) -> Array:
        """How much photos look like one of the classes: float32 [B], from unit image features [B,E].

        The prompt file says which scores known photos reach (`Calibration.accept_scores`).
        """
        return known_scores(self.head.scores(image_features), image_features, self.nouns)


def check_backbone(prompt: PromptFile, backbone: Backbone) -> None:
    """Refuse to mix a prompt with a backbone that it was not tuned for.

    Raises:
        BackboneMismatchError: Names both.
    """
    if prompt.fingerprint != backbone.fingerprint:
        raise BackboneMismatchError(
            f"the prompt was tuned for backbone {prompt.backbone_name!r} ({prompt.fingerprint.hex()[:8]}), "
            f"but this is {backbone.manifest.name!r} ({backbone.manifest.fingerprint[:8]}); give the right "
            "--backbone, or adapt again"
        )
