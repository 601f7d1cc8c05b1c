"""A loaded backbone: photos to features, classes to features, and the gradient that tuning needs.

Classes run in chunks whose activations fit a budget. If all classes of a training step fit in one chunk, loss
and gradient are computed in a single run. Otherwise the step takes two passes: first the features of every
chunk, then each chunk's gradient for the cotangent that the loss over all classes assigns to it. Both give
the same result.

Without tuning, features of classes are seldom needed, so the weights of their graph stay mapped, and narrow.
Tuning runs its graphs hundreds of times, so it packs their weights (see `providers.open_session`).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from qprompt_runtime.arrays import Array
from qprompt_runtime.bundle import find_bundle, read_manifest
from qprompt_runtime.class_chunks import class_chunks, cross_entropy, cut
from qprompt_runtime.cores import usable_cores
from qprompt_runtime.image_tower import AT_ONCE, ImageTower
from qprompt_runtime.manifest import Graph, Manifest
from qprompt_runtime.memory_left import give_back
from qprompt_runtime.processor import AUTO, chosen_graph
from qprompt_runtime.providers import choose_provider, open_session
from qprompt_runtime.text import printable
from qprompt_runtime.tokenizer import ClassTokens, Tokenizer, class_tokens

Feed = dict[str, NDArray[np.generic]]

_ACTIVATION_BYTES = 256 * 10**6
"""Default budget for the activations of one text run."""


class Backbone:
    """A frozen CLIP from a bundle, as `load` finds it. Sessions open when they are first needed.

    Args:
        folder: The bundle's folder.
        provider: `auto`, or an execution provider's short name.
        threads: Threads; 0 takes one for each core that the process may use.
        manifest: The folder's, if it was read before.
        precision: As `load` takes it; `image_graph` is the image tower that it chose.

    Raises:
        BundleError: The bundle is incomplete or damaged.
        ProviderError: The provider is not available, or `QPE_PRECISION` names no precision.
    """

    def __init__(
        self,
        folder: Path,
        provider: str = "auto",
        threads: int = 0,
        manifest: Manifest | None = None,
        precision: str = AUTO,
    ) -> None:
        self.folder, self.manifest = folder, manifest or read_manifest(folder)
        self.provider, self.threads = choose_provider(provider), threads
        self.activation_bytes = _ACTIVATION_BYTES
        self.spare_memory = False
        self.image_graph = chosen_graph(self.manifest, precision, self.provider)
        width = self.manifest.embed_dim
        self._image_tower = ImageTower(folder, self.image_graph, width, self.provider, threads)

    def __repr__(self) -> str:
        height, width = self.manifest.image_transform.size
        name, provider = printable(self.manifest.name), self.provider.removesuffix("ExecutionProvider")
        return f"<{type(self).__name__} {name}, {height} x {width}, {provider}, {printable(self.folder)}>"

    @classmethod
    def load(
        cls, name: str | Path, provider: str = "auto", threads: int = 0, precision: str = AUTO
    ) -> Backbone:
        """Load a backbone by name (`small`, or one that was added) or by its folder.

        Args:
            name: Name or folder.
            provider: `auto`, or an execution provider's short name.
            threads: Threads; 0 takes one for each core that the process may use.
            precision: Of the image tower, where there are two; see `processor.chosen_graph`.

        Returns:
            The backbone; a `DeepBackbone` if the bundle has graphs for deep prompts. These are not loaded
            before they are used.

        Raises:
            BundleError: There is no such backbone, or it is damaged.
            ProviderError: The provider is not available, or `QPE_PRECISION` names no precision.
        """
        from qprompt_runtime.deep_backbone import DeepBackbone

        folder = find_bundle(name)
        manifest = read_manifest(folder)
        kind = cls if manifest.deep is None else DeepBackbone
        return kind(folder, provider, threads, manifest, precision)

    @property
    def fingerprint(self) -> bytes:
        """The 16 bytes that identify the source model."""
        return bytes.fromhex(self.manifest.fingerprint)

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The bundle's tokenizer."""
        return Tokenizer(self.folder / "tokenizer.json")

    @cached_property
    def _text_session(self) -> onnxruntime.InferenceSession:
        tuning = "_gradient_session" in self.__dict__  # then every step asks for features, chunk by chunk
        return self._open_text(self.manifest.text_graph, prepack=tuning and not self.spare_memory)

    @cached_property
    def _gradient_session(self) -> onnxruntime.InferenceSession:
        self.close_text_tower()  # the gradient's graph computes features too: two copies seldom serve
        return self._open_text(self.manifest.text_gradient_graph, prepack=not self.spare_memory)

    def _open_text(self, graph: Graph, prepack: bool) -> onnxruntime.InferenceSession:
        path = self.folder / graph.file
        return open_session(path, self.provider, self.threads, prepack=prepack, narrow=True)

    @property
    def photos_at_once(self) -> int:
        """How many photos are best encoded at the same time if there are many; 1 also with `spare_memory`."""
        if self.spare_memory or not self.provider.startswith("CPU"):
            return 1
        return min(self.threads or usable_cores(), AT_ONCE)

    def side_by_side(self, at_once: int) -> AbstractContextManager[None]:
        """Within, an image tower that is not open yet opens for `encode_images` by so many threads."""
        return self._image_tower.side_by_side(at_once)

    def expect_single_photos(self) -> None:
        """Say that photos come one by one: an image tower that was opened for many will be opened anew."""
        self._image_tower.expect_single()

    def open_image_tower(self) -> None:
        """Load the image tower now, for single photos."""
        self._image_tower.expect_single()
        self._image_tower.open()

    def open_for_tuning(self) -> None:
        """Load the graphs of a tuning step and touch all of their weights.

        Free memory can then be measured with the weights in it. With `spare_memory` set before, weights stay
        memory-mapped: the packed copies, one for each direction, are not made, and a step takes up to a third
        longer.
        """
        feed = self._class_feed(*self._empty_class()) | self._batch_feed(None, None, 1.0, 1)
        self._gradient_session.run(["gradient"], feed)

    def open_for_classes(self) -> None:
        """Load the text graph and touch all of its weights."""
        self.encode_classes(*self._empty_class())

    def _empty_class(self) -> tuple[Array, ClassTokens]:
        """A context of one zero vector, float32 [1,1,D], and a class without a name."""
        layout = self.manifest.text
        tokens = np.full((1, layout.context_length - 2), layout.end_token, np.int64)
        return np.zeros((1, 1, layout.width), np.float32), ClassTokens(tokens, np.zeros(1, np.int64))

    def close_image_tower(self) -> None:
        """Free the image tower's memory. It is loaded again when it is needed."""
        self._image_tower.close()
        give_back()

    def close_text_tower(self) -> None:
        """Free the memory of the text graphs and the tokenizer. They are loaded again when needed."""
        for name in ("_text_session", "_gradient_session", "tokenizer"):
            self.__dict__.pop(name, None)
        give_back()

    def encode_images(self, pixels: Array) -> Array:
        """Features of photos; several threads may ask for some at the same time.

        Args:
            pixels: float32 [B,3,H,W], as `ImageTransform` makes them.

        Returns:
            float32 [B,E], rows of length 1. A photo's features do not depend on the others.
        """
        return self._image_tower.encode(pixels)

    def tokenize(self, texts: Sequence[str], template: tuple[str, str], context_vectors: int) -> ClassTokens:
        """Token rows of classes; see `tokenizer.class_tokens`."""
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
        feed = self._class_feed(np.zeros((1, 1, layout.width), np.float32), tokens)
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
        features = np.empty((len(tokens.ends), self.manifest.embed_dim), np.float32)
        for chunk in self._chunks(tokens, context.shape[1]):
            feed = self._class_feed(_part(context, chunk), cut(tokens, chunk, self.manifest.text))
            features[chunk] = self._text_session.run(["features"], feed)[0]
        return features

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
        if len(self._chunks(tokens, context.shape[1])) == 1:
            feed = self._class_feed(context, tokens)
            feed |= self._batch_feed(image_features, targets, logit_scale, len(tokens.ends))
            loss, gradient = self._gradient_session.run(["loss", "gradient"], feed)
            return float(loss), gradient
        _ = self._gradient_session  # before the features' session, which it would close
        features = self.encode_classes(context, tokens)
        scale = np.array(logit_scale, np.float32)
        loss, cotangent = cross_entropy(features, image_features, targets, scale)
        return loss, self.context_gradient(context, tokens, cotangent)

    def context_gradient(self, context: Array, tokens: ClassTokens, cotangent: Array) -> Array:
        """Gradient of sum(cotangent * features of classes) with respect to the context vectors.

        Args:
            context: float32 [G,n,D]; G is 1 or C.
            tokens: The C classes' tokens.
            cotangent: float32 [C,E]; the gradient of a loss at the features that `encode_classes` gives.

        Returns:
            float32 [G,n,D]; by the chain rule, the loss's gradient.
        """
        gradient = np.zeros_like(context)
        for chunk in self._chunks(tokens, context.shape[1]):
            feed = self._class_feed(_part(context, chunk), cut(tokens, chunk, self.manifest.text))
            feed |= self._batch_feed(None, None, 1.0, len(chunk)) | {"cotangent": cotangent[chunk]}
            gradient[chunk if len(context) > 1 else ...] += self._gradient_session.run(["gradient"], feed)[0]
        return gradient

    def _class_feed(self, context: Array, tokens: ClassTokens) -> Feed:
        """What the text tower reads of classes: context [G,n,D] and their tokens."""
        shape = (len(context), len(tokens.ends) // len(context))
        return {
            "context": np.ascontiguousarray(context, np.float32),
            "tokens": tokens.tokens.reshape(*shape, -1),
            "ends": tokens.ends.reshape(shape),
        }

    def _batch_feed(
        self, image_features: Array | None, targets: Array | None, logit_scale: float, classes: int
    ) -> Feed:
        """What the loss reads.

        Without a batch, one image of weight 0 stands in, and only a cotangent counts.
        """
        embed = self.manifest.embed_dim
        return {
            "image_features": np.zeros((1, embed), np.float32) if image_features is None else image_features,
            "targets": np.zeros((1, classes), np.float32) if targets is None else targets,
            "logit_scale": np.array(logit_scale, np.float32),
            "cotangent": np.zeros((classes, embed), np.float32),
        }

    def _chunks(self, tokens: ClassTokens, context_vectors: int) -> list[NDArray[np.int64]]:
        """Positions of the classes of each run, whose activations fit `activation_bytes`."""
        return class_chunks(tokens, self.manifest.text, context_vectors, self.activation_bytes)


def _part(context: Array, chunk: NDArray[np.int64]) -> Array:
    """The context vectors that some classes use."""
    return context if len(context) == 1 else context[chunk]
