"""The public class: a prompt file and a backbone become a classifier of photos."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import onnxruntime

from qprompt_runtime.arrays import Array
from qprompt_runtime.backbone import Backbone
from qprompt_runtime.class_features import kept_features
from qprompt_runtime.decode import Source
from qprompt_runtime.deep_backbone import DeepBackbone
from qprompt_runtime.errors import BackboneMismatchError, PromptFileError
from qprompt_runtime.folding import folded
from qprompt_runtime.images import load_pixels
from qprompt_runtime.prompt_file import CONTEXT, COUPLED, FOLDED, ClassName, PromptFile, read_prompt_file


@dataclass(frozen=True)
class Prediction:
    """What a photo shows, best first.

    Attributes:
        labels: Labels of the K likeliest classes.
        probabilities: Their probabilities; over all classes they sum to 1.
    """

    labels: tuple[str, ...]
    probabilities: tuple[float, ...]

    @property
    def label(self) -> str:
        """The likeliest class."""
        return self.labels[0]

    @property
    def probability(self) -> float:
        """Its probability."""
        return self.probabilities[0]


class PromptClassifier:
    """Classify photos by the classes of a prompt, or by other names in the same context.

    Args:
        prompt: The tuned prompt; a coupled one is folded here, once.
        backbone: The backbone it was tuned for.
        classes: Names that replace the prompt's own (open vocabulary); not for class-specific contexts.
        cache: Folder that keeps the features of classes from run to run; None keeps nothing.

    Raises:
        BackboneMismatchError: The prompt was tuned for another backbone.
        PromptFileError: The prompt's shape does not fit the backbone or these classes.
    """

    def __init__(
        self,
        prompt: PromptFile,
        backbone: Backbone,
        classes: Sequence[str] | None = None,
        cache: Path | None = None,
    ) -> None:
        check_backbone(prompt, backbone)
        self.cache = cache
        self.prompt = folded(prompt)
        self.backbone = backbone
        names = prompt.classes if classes is None else tuple(ClassName.from_label(name) for name in classes)
        self.names = names
        self.labels = tuple(name.label for name in names)

    @cached_property
    def class_features(self) -> Array:
        """float32 [C,E]: computed when first needed, so that a memory limit can be set before; then the text tower closes."""
        if self.cache is None:
            return self._compute_features()
        shape = (len(self.names), self.backbone.manifest.embed_dim)
        return kept_features(self.cache, self._features_identity(), shape, self._compute_features)

    def _compute_features(self) -> Array:
        features = prompt_features(self.prompt, self.backbone, self.names)
        self.backbone.close_text_tower()
        return features

    def _features_identity(self) -> str:
        """What the features of the classes depend on, in so far as it can differ from run to run."""
        manifest = self.backbone.manifest
        facts = {
            "prompt": hashlib.sha256(self.prompt.to_bytes()).hexdigest(),
            "classes": [[name.label, name.text] for name in self.names],
            "backbone": manifest.fingerprint,
            "files": {name: record.sha256 for name, record in manifest.files.items()},
            "provider": self.backbone.provider,
            "onnxruntime": onnxruntime.__version__,
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
    ) -> PromptClassifier:
        """Load a prompt file and the backbone that it names.

        Args:
            path: The prompt file.
            backbone: A backbone's name or folder; by default the name in the file.
            classes: Names that replace the prompt's own.
            provider: `auto`, or an execution provider's short name.
            threads: Threads within an operator; 0 takes one for each core.
            cache: Folder that keeps the features of classes from run to run; None keeps nothing.

        Raises:
            QPromptError: The file, the backbone or the provider is not as it should be.
        """
        prompt = read_prompt_file(Path(path))
        deep = prompt.method != CONTEXT
        found = Backbone.load(backbone or prompt.backbone_name, provider, threads, deep=deep)
        return cls(prompt, found, classes, cache)

    def predict(self, image: Source, top_k: int = 1, *, channels: str = "RGB") -> Prediction:
        """Classify one photo.

        Args:
            image: A path, the bytes of an image file, a file open for reading bytes, a PIL image, or an array: uint8
                [H,W,3].
            top_k: How many classes to name, at most as many as there are.
            channels: Of an array, the order of its last axis: `RGB`, or `BGR` as OpenCV's cameras give them.

        Raises:
            ImageError: The image cannot be read.
        """
        _ = self.class_features  # before the image tower opens: so only one tower is in memory at a time
        pixels = load_pixels(image, self.backbone.manifest.image_transform, channels)
        return self.predict_features(self.encode_images(pixels[None]), top_k)[0]

    def encode_images(self, pixels: Array) -> Array:
        """Features of photos as this prompt sees them: float32 [B,3,H,W] to unit rows [B,E]."""
        return prompted_image_features(self.prompt, self.backbone, pixels)

    def probabilities(self, image_features: Array) -> Array:
        """softmax(s * cos) of image features [B,E] against all C classes: float32 [B,C]."""
        scale = np.float32(self.prompt.calibration.logit_scale)
        return softmax(scale * (image_features @ self.class_features.T))

    def predict_features(self, image_features: Array, top_k: int = 1) -> list[Prediction]:
        """Classify unit image features [B,E] that were computed before."""
        predictions = []
        for row in self.probabilities(image_features):
            best = np.argsort(-row, kind="stable")[: max(1, top_k)]
            predictions.append(
                Prediction(tuple(self.labels[i] for i in best), tuple(float(row[i]) for i in best))
            )
        return predictions


def softmax(logits: Array) -> Array:
    """Row-wise softmax of float32 [N,C]."""
    exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares: Array = exponents / exponents.sum(axis=1, keepdims=True)
    return shares


def check_backbone(prompt: PromptFile, backbone: Backbone) -> None:
    """Refuse to mix a prompt with a backbone that it was not tuned for.

    Raises:
        BackboneMismatchError: Names both.
    """
    if prompt.fingerprint != backbone.fingerprint:
        raise BackboneMismatchError(
            f"the prompt was tuned for backbone {prompt.backbone_name!r} ({prompt.fingerprint.hex()[:8]}), but this "
            f"is {backbone.manifest.name!r} ({backbone.manifest.fingerprint[:8]}); give the right --backbone, or "
            "adapt again"
        )


def prompt_features(prompt: PromptFile, backbone: Backbone, names: Sequence[ClassName]) -> Array:
    """Class features [C,E] of a prompt for some class names.

    Raises:
        PromptFileError: The prompt is not folded yet, or does not fit the backbone or the names.
        TextError: A name does not fit the text tower.
    """
    check_fit(prompt, backbone)
    context = prompt.groups[0].values()
    texts = [name.text for name in names]
    if isinstance(backbone, DeepBackbone) and prompt.method == FOLDED:
        tokens = backbone.tokenize(texts, prompt.template, context.shape[1])
        return backbone.encode_prompted_classes(context, tokens)
    if context.ndim == 3 and tuple(names) != prompt.classes:
        raise PromptFileError("a prompt with a context for each class works with its own classes only")
    context = context if context.ndim == 3 else context[None]
    tokens = backbone.tokenize(texts, prompt.template, context.shape[1])
    return backbone.encode_classes(context, tokens)


def prompted_image_features(prompt: PromptFile, backbone: Backbone, pixels: Array) -> Array:
    """Image features [B,E] of photos [B,3,H,W]; a folded prompt has a part in them, a context has none.

    Raises:
        PromptFileError: The prompt is not folded yet, or does not fit the backbone.
    """
    check_fit(prompt, backbone)
    if isinstance(backbone, DeepBackbone) and prompt.method == FOLDED:
        return backbone.encode_prompted_images(pixels, prompt.groups[1].values())
    return backbone.encode_images(pixels)


def check_fit(prompt: PromptFile, backbone: Backbone) -> None:
    """Refuse a prompt that this backbone cannot run.

    Raises:
        PromptFileError: Says what came and what was expected.
    """
    if prompt.method == COUPLED:
        raise PromptFileError("a coupled prompt runs as a folded one; `folding.folded` makes it")
    expected = {"context": backbone.manifest.text.width}
    found = {"context": prompt.groups[0].shape[-1]}
    if prompt.method == FOLDED:
        if not isinstance(backbone, DeepBackbone):
            raise PromptFileError(
                "a folded prompt needs a backbone with deep prompts: load it with deep=True"
            )
        expected |= {"depth": backbone.deep.depth, "image prompt": backbone.deep.image_width}
        found |= {"depth": prompt.groups[0].shape[0], "image prompt": prompt.groups[1].shape[-1]}
    wrong = next((name for name in expected if found[name] != expected[name]), None)
    if wrong:
        raise PromptFileError(f"the prompt's {wrong} is {found[wrong]}, the backbone's {expected[wrong]}")
