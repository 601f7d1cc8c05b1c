"""A backbone whose towers take prompts in their first blocks (MaPLe), with the gradients at them.

A tuning step runs the text tower, then the image tower with its gradient, then the text tower with its
gradient. The image graph returns the gradient at the class features, which the text graph needs as its
cotangent. Both towers are fed in parts whose activations fit a budget.

There is no prompt before the image tower's first block. The tokens of a photo at that point are its stem. It
is computed once and separately; tuning then runs only the blocks.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from threading import Lock

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from qprompt_runtime.arrays import Array
from qprompt_runtime.backbone import Backbone, Feed
from qprompt_runtime.class_chunks import FLOATS_PER_PLACE, FLOATS_PER_TOKEN, cut
from qprompt_runtime.errors import BundleError
from qprompt_runtime.image_tower import run_photos
from qprompt_runtime.manifest import DeepPrompts, Graph, Manifest
from qprompt_runtime.memory_left import give_back
from qprompt_runtime.processor import AUTO
from qprompt_runtime.providers import open_session
from qprompt_runtime.tokenizer import ClassTokens


class DeepBackbone(Backbone):
    """A backbone with deep prompts, J of them in each tower. Sessions open when they are first needed.

    Args:
        folder: The bundle's folder.
        provider: `auto`, or an execution provider's short name.
        threads: Threads; 0 takes one for each core that the process may use.
        manifest: The folder's, if it was read before.
        precision: Of the image tower without prompts, where the bundle has two; see `Backbone`.

    Raises:
        BundleError: The bundle is incomplete, damaged, or was exported without deep prompts.
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
        super().__init__(folder, provider, threads, manifest, precision)
        if self.manifest.deep is None:
            raise _without_deep(folder)
        self.deep: DeepPrompts = self.manifest.deep
        self._stem_session: onnxruntime.InferenceSession | None = None
        self._opening = Lock()

    def _open(self, graph: Graph, spin: bool = True) -> onnxruntime.InferenceSession:
        path = self.folder / graph.file
        return open_session(path, self.provider, self.threads, prepack=not self.spare_memory, spin=spin)

    @cached_property
    def _deep_image_session(self) -> onnxruntime.InferenceSession:
        return self._open(self.deep.image_graph, spin=False)  # as the image tower's

    @cached_property
    def _deep_text_session(self) -> onnxruntime.InferenceSession:
        return self._open(self.deep.text_graph)

    @cached_property
    def _deep_gradient_session(self) -> onnxruntime.InferenceSession:
        return self._open(self.deep.text_gradient_graph)

    def close_text_tower(self) -> None:
        """Give back the memory of all text graphs; they open again when they are needed."""
        self.__dict__.pop("_deep_text_session", None)
        self.__dict__.pop("_deep_gradient_session", None)
        super().close_text_tower()

    def close_stem(self) -> None:
        """Give back the stem's memory, if it is open; it opens again when it is needed."""
        if self._stem_session is not None:
            self._stem_session = None
            give_back()

    def open_for_deep_tuning(self) -> None:
        """Load both towers with their prompts now, as `open_for_tuning` does for context vectors.

        The stem runs once beside them and is closed again, so that its memory is counted too.
        """
        _ = self._deep_text_session, self._deep_gradient_session, self._deep_image_session
        self.encode_stem(np.zeros((1, 3, *self.manifest.image_transform.size), np.float32))
        self.close_stem()

    @property
    def stem_shape(self) -> tuple[int, ...]:
        """Shape of one photo's stem, as `encode_stem` returns it."""
        if self.deep.stem_graph is None:
            return (3, *self.manifest.image_transform.size)
        return (self.deep.image_tokens, self.deep.image_width)

    def encode_stem(self, pixels: Array) -> Array:
        """What the image tower's blocks read of photos; it does not depend on prompts, so once is enough.

        Args:
            pixels: float32 [B,3,H,W], as `ImageTransform` makes them.

        Returns:
            float32 [B,T,V]: class token and patches, positions added, not yet normalised. A bundle of version
            3 has no stem of its own: then the pixels as they came.
        """
        graph = self.deep.stem_graph
        if graph is None:
            return pixels
        with self._opening:
            self._stem_session = session = self._stem_session or self._open(graph, spin=False)
        return run_photos(session, graph, "tokens", pixels, self.stem_shape)

    def encode_prompted_classes(self, prompts: Array, tokens: ClassTokens) -> Array:
        """Features of classes.

        Args:
            prompts: float32 [J,n,D]; the first are the context, the others stand in its places before blocks
                1 to J-1.
            tokens: The C classes' tokens.

        Returns:
            float32 [C,E], rows of length 1.
        """
        features = np.empty((len(tokens.ends), self.manifest.embed_dim), np.float32)
        for chunk, feed in self._text_feeds(prompts, tokens):
            features[chunk] = self._deep_text_session.run(["features"], feed)[0]
        return features

    def encode_prompted_images(self, pixels: Array, prompts: Array) -> Array:
        """Features of photos.

        Args:
            pixels: float32 [B,3,H,W], as `ImageTransform` makes them.
            prompts: float32 [J,n,V], of the first J blocks.

        Returns:
            float32 [B,E], rows of length 1.
        """
        stems = self.encode_stem(pixels)
        with self._opening:
            session = self._deep_image_session
        parts = [
            session.run(["features"], self._image_feed(stems[part], prompts))[0]
            for part in self._image_parts(len(stems), prompts.shape[1])
        ]
        return np.concatenate(parts) if parts else np.zeros((0, self.manifest.embed_dim), np.float32)

    def loss_and_deep_gradients(
        self,
        text_prompts: Array,
        image_prompts: Array,
        tokens: ClassTokens,
        stems: Array,
        targets: Array,
        logit_scale: float,
    ) -> tuple[float, Array, Array]:
        """Cross-entropy of a batch, and its gradients at the prompts of both towers.

        Args:
            text_prompts: float32 [J,n,D].
            image_prompts: float32 [J,n,V].
            tokens: The C classes' tokens.
            stems: float32 [B,T,V], what `encode_stem` returns of the batch's photos.
            targets: float32 [B,C]; weight of each class as the true one. Rows that sum to 1/B make a mean.
            logit_scale: s in softmax(s * cos).

        Returns:
            The loss, float32 [J,n,D] and float32 [J,n,V].
        """
        classes = self.encode_prompted_classes(text_prompts, tokens)
        cotangent = np.zeros_like(classes)
        loss, d_text, d_image = 0.0, np.zeros_like(text_prompts), np.zeros_like(image_prompts)
        for part in self._image_parts(len(stems), image_prompts.shape[1]):
            feed = self._image_feed(stems[part], image_prompts)
            feed |= {"class_features": classes, "targets": targets[part], "need_grad": np.array(True)}
            feed["logit_scale"] = np.array(logit_scale, np.float32)
            part_loss, gradient, class_gradient = self._deep_image_session.run(
                ["loss", "gradient", "class_gradient"], feed
            )
            loss += float(part_loss)
            d_image += gradient
            cotangent += class_gradient
        for chunk, feed in self._text_feeds(text_prompts, tokens):
            feed |= self._batch_feed(None, None, 1.0, len(chunk)) | {"cotangent": cotangent[chunk]}
            names = ["gradient", "deep_gradient"] if len(text_prompts) > 1 else ["gradient"]
            first, *rest = self._deep_gradient_session.run(names, feed)
            d_text += np.concatenate([first, *rest])
        return loss, d_text, d_image

    def _text_feeds(self, prompts: Array, tokens: ClassTokens) -> Iterator[tuple[NDArray[np.int64], Feed]]:
        """What the deep text graphs read of one run of classes after another, with the classes' positions."""
        for chunk in self._chunks(tokens, prompts.shape[1]):
            feed = self._class_feed(prompts[:1], cut(tokens, chunk, self.manifest.text))
            if len(prompts) > 1:
                feed["deep_prompts"] = np.ascontiguousarray(prompts[1:], np.float32)
            yield chunk, feed

    def _image_feed(self, stems: Array, prompts: Array) -> Feed:
        """Every input of the deep image graph; one weightless class stands in where there is no loss."""
        return {
            "pixels" if self.deep.stem_graph is None else "tokens": stems,
            "prompts": np.ascontiguousarray(prompts, np.float32),
            "class_features": np.zeros((1, self.manifest.embed_dim), np.float32),
            "targets": np.zeros((len(stems), 1), np.float32),
            "logit_scale": np.array(1.0, np.float32),
            "need_grad": np.array(False),
        }

    def _image_parts(self, count: int, prompts: int) -> Iterator[slice]:
        """Cut a batch into runs whose activations fit `activation_bytes`."""
        tokens = self.deep.image_tokens + prompts
        per_token = (FLOATS_PER_TOKEN + FLOATS_PER_PLACE) * self.deep.image_width * self.deep.image_layers * 4
        each = tokens * per_token
        step = max(1, int(self.activation_bytes // each))
        for start in range(0, count, step):
            yield slice(start, min(start + step, count))


def require_deep(backbone: Backbone) -> DeepBackbone:
    """The same backbone, if it takes deep prompts.

    Raises:
        BundleError: Its bundle was exported without deep prompts.
        TypeError: It was made by `Backbone(...)`, which leaves them out.
    """
    if isinstance(backbone, DeepBackbone):
        return backbone
    if backbone.manifest.deep is not None:
        raise TypeError(f"expected a DeepBackbone, got {backbone!r}; Backbone.load makes the right one")
    raise _without_deep(backbone.folder)


def _without_deep(folder: Path) -> BundleError:
    return BundleError(
        f"{folder} has no graphs for deep prompts; export it with --deep-prompts J, or tune with --method "
        "qcoop"
    )
