"""A loaded backbone: photos to features, classes to features, and the gradient that tuning needs.

Class features come from one graph (see `docs/bundle.md`). It is fed in chunks of classes whose activations
fit a budget; a training step whose classes fit in one chunk computes loss and gradient in a single run, and
one that does not takes two passes: features of every chunk, then each chunk's gradient for the cotangent
that the loss over all classes assigns to it. Both give the same result.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from qprompt_runtime.bundle import find_bundle, read_manifest
from qprompt_runtime.manifest import Manifest
from qprompt_runtime.providers import choose_provider, open_session
from qprompt_runtime.text import ClassTokens, Tokenizer, class_tokens

Array = NDArray[np.float32]

_IMAGES_PER_RUN = 8
_ACTIVATION_BYTES = 256 * 10**6
"""Default budget for the activations of one text run."""
FLOATS_PER_TOKEN = 22
"""Activations that a block keeps for its gradient, in widths of the tower, per token (measured: 0.53 MB per
token for 12 blocks of width 512)."""


class Backbone:
    """A frozen CLIP from a bundle. Sessions open when they are first needed.

    Args:
        folder: The bundle's folder.
        provider: `auto`, or an execution provider's short name.
        threads: Threads within an operator; 0 takes one for each core.

    Raises:
        BundleError: The bundle is incomplete or damaged.
        ProviderError: The provider is not available.
    """

    def __init__(self, folder: Path, provider: str = "auto", threads: int = 0) -> None:
        self.folder = folder
        self.manifest: Manifest = read_manifest(folder)
        self.provider = choose_provider(provider)
        self.threads = threads
        self.activation_bytes = _ACTIVATION_BYTES
        self.spare_memory = False

    @classmethod
    def load(cls, name: str | Path, provider: str = "auto", threads: int = 0) -> Backbone:
        """Load a backbone by name (`tiny`, or one that was added) or by its folder.

        Raises:
            BundleError: There is no such backbone, or it is damaged.
            ProviderError: The provider is not available.
        """
        return cls(find_bundle(name), provider, threads)

    @property
    def fingerprint(self) -> bytes:
        """The 16 bytes that say which source model this is."""
        return bytes.fromhex(self.manifest.fingerprint)

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The bundle's tokenizer."""
        return Tokenizer(self.folder / "tokenizer.json")

    @cached_property
    def _image_session(self) -> onnxruntime.InferenceSession:
        path = self.folder / self.manifest.image_graph.file
        return open_session(path, self.provider, self.threads, prepack=True)

    @cached_property
    def _text_session(self) -> onnxruntime.InferenceSession:
        path = self.folder / self.manifest.text_graph.file
        return open_session(path, self.provider, self.threads, prepack=not self.spare_memory)

    def open_for_tuning(self) -> None:
        """Load what a tuning step runs, the text tower, now.

        With `spare_memory` set before, its weights stay memory-mapped: no packed copies are made, one for each
        direction, and a step takes a quarter longer.
        """
        _ = self._text_session

    def close_image_tower(self) -> None:
        """Give back the image tower's memory; it opens again when it is needed."""
        self.__dict__.pop("_image_session", None)

    def encode_images(self, pixels: Array) -> Array:
        """Features of photos.

        Args:
            pixels: float32 [B,3,H,W], as `ImageTransform` makes them.

        Returns:
            float32 [B,E], rows of length 1. A photo's features do not depend on the others.
        """
        step = self.manifest.image_graph.max_batch or _IMAGES_PER_RUN
        runs = [
            self._image_session.run(["features"], {"pixels": pixels[start : start + step]})[0]
            for start in range(0, len(pixels), step)
        ]
        return np.concatenate(runs) if runs else np.zeros((0, self.manifest.embed_dim), np.float32)

    def tokenize(self, texts: Sequence[str], template: tuple[str, str], context_vectors: int) -> ClassTokens:
        """Token rows of classes; see `text.class_tokens`."""
        return class_tokens(self.tokenizer, self.manifest.text, texts, template, context_vectors)

    def embed_text(self, text: str) -> Array:
        """Token embeddings of a piece of text.

        Returns:
            float32 [n,D], one row a token, without start and end token; the start of context vectors.
        """
        layout = self.manifest.text
        ids = self.tokenizer.encode(text)
        row = np.full(layout.context_length - 2, layout.pad_token, np.int64)
        row[: len(ids)] = ids[: len(row)]
        tokens = ClassTokens(row[None], np.array([len(row) - 1]))
        context = np.zeros((1, 1, layout.width), np.float32)
        feed = self._feed(context, tokens, need_grad=False)
        embeddings: Array = self._text_session.run(["embeddings"], feed)[0]
        return embeddings[0, 0, : len(ids)]

    def encode_classes(self, context: Array, tokens: ClassTokens) -> Array:
        """Features of classes.

        Args:
            context: float32 [G,n,D] context vectors; G is 1 (shared) or the number C of classes.
            tokens: The classes' tokens.

        Returns:
            float32 [C,E], rows of length 1. A class's features do not depend on the others.
        """
        features = []
        for part in self._chunks(tokens, context.shape[1]):
            feed = self._feed(
                _part(context, part), self._cut(tokens, part, context.shape[1]), need_grad=False
            )
            features.append(self._text_session.run(["features"], feed)[0])
        return np.concatenate(features)

    def loss_and_gradient(
        self, context: Array, tokens: ClassTokens, image_features: Array, targets: Array, logit_scale: float
    ) -> tuple[float, Array]:
        """Cross-entropy of a batch, and its gradient with respect to the context vectors.

        Args:
            context: float32 [G,n,D]; G is 1 or C.
            tokens: The C classes' tokens.
            image_features: float32 [B,E], rows of length 1.
            targets: float32 [B,C]; weight of each class as the true one. Rows that sum to 1/B make a mean.
            logit_scale: s in softmax(s * cos).

        Returns:
            The loss, and float32 [G,n,D].
        """
        count = context.shape[1]
        scale = np.array(logit_scale, np.float32)
        chunks = list(self._chunks(tokens, count))
        if len(chunks) == 1:
            feed = self._feed(context, tokens, need_grad=True)
            feed |= {"image_features": image_features, "targets": targets, "logit_scale": scale}
            loss, gradient = self._text_session.run(["loss", "gradient"], feed)
            return float(loss), gradient
        features = self.encode_classes(context, tokens)
        loss, cotangent = cross_entropy(features, image_features, targets, scale)
        gradient = np.zeros_like(context)
        for part in chunks:
            feed = self._feed(_part(context, part), self._cut(tokens, part, count), need_grad=True)
            feed["cotangent"] = cotangent[part]
            _part(gradient, part)[...] += self._text_session.run(["gradient"], feed)[0]
        return loss, gradient

    def _feed(
        self, context: Array, tokens: ClassTokens, *, need_grad: bool
    ) -> dict[str, NDArray[np.generic]]:
        """Every input of the text graph; a batch of one weightless image stands in where there is no loss."""
        groups, classes = len(context), len(tokens.tokens)
        shape = (groups, classes // groups)
        embed = self.manifest.embed_dim
        return {
            "context": np.ascontiguousarray(context, np.float32),
            "tokens": tokens.tokens.reshape(*shape, -1),
            "ends": tokens.ends.reshape(shape),
            "image_features": np.zeros((1, embed), np.float32),
            "targets": np.zeros((1, classes), np.float32),
            "logit_scale": np.array(1.0, np.float32),
            "cotangent": np.zeros((classes, embed), np.float32),
            "need_grad": np.array(need_grad),
        }

    def _chunks(self, tokens: ClassTokens, context_vectors: int) -> Iterator[slice]:
        """Cut C classes into runs whose activations fit `activation_bytes`."""
        layout = self.manifest.text
        rows = tokens.tokens.shape[1] + (0 if layout.causal else 1 + context_vectors)
        per_class = rows * layout.width * layout.layers * FLOATS_PER_TOKEN * 4
        step = max(1, int(self.activation_bytes // per_class))
        for start in range(0, len(tokens.tokens), step):
            yield slice(start, min(start + step, len(tokens.tokens)))

    def _cut(self, tokens: ClassTokens, part: slice, context_vectors: int) -> ClassTokens:
        """Tokens of some classes, no longer than the longest of them needs."""
        ends = tokens.ends[part]
        length = int(ends.max()) + 1 if self.manifest.text.causal else tokens.tokens.shape[1]
        return ClassTokens(np.ascontiguousarray(tokens.tokens[part, :length]), ends)


def _part(context: Array, part: slice) -> Array:
    """The context vectors that some classes use."""
    return context if len(context) == 1 else context[part]


def cross_entropy(
    class_features: Array, image_features: Array, targets: Array, logit_scale: NDArray[np.float32]
) -> tuple[float, Array]:
    """Loss -sum(targets * log softmax(s * image @ class^T)) and its gradient at the class features.

    Args:
        class_features: float32 [C,E].
        image_features: float32 [B,E].
        targets: float32 [B,C].
        logit_scale: s, a 0-d float32 array (a Python or numpy 2 float64 scalar would widen the result).

    Returns:
        The loss, and float32 [C,E].
    """
    logits = logit_scale * (image_features @ class_features.T)
    logits -= logits.max(axis=1, keepdims=True)
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    d_logits = logit_scale * (np.exp(log_p) * targets.sum(axis=1, keepdims=True) - targets)
    return float(-(targets * log_p).sum()), d_logits.T @ image_features
