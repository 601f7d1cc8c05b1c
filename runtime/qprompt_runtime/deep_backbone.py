"""A backbone whose towers take prompts in their first blocks (MaPLe), with the gradients at them.

A tuning step runs the text tower, then the image tower with its gradient, then the text tower with its own: the
image graph answers with the gradient at the class features, which is the cotangent that the text graph needs. Both
towers are fed in parts whose activations fit a budget.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from qprompt_runtime.arrays import Array
from qprompt_runtime.backbone import Backbone, Feed
from qprompt_runtime.class_chunks import FLOATS_PER_PLACE, FLOATS_PER_TOKEN, cut
from qprompt_runtime.errors import BundleError
from qprompt_runtime.manifest import DeepPrompts
from qprompt_runtime.providers import open_session
from qprompt_runtime.tokenizer import ClassTokens


class DeepBackbone(Backbone):
    """A backbone with deep prompts, J of them in each tower. Sessions open when they are first needed.

    Args:
        folder: The bundle's folder.
        provider: `auto`, or an execution provider's short name.
        threads: Threads within an operator; 0 takes one for each core.

    Raises:
        BundleError: The bundle is incomplete, damaged, or was exported without deep prompts.
        ProviderError: The provider is not available.
    """

    def __init__(self, folder: Path, provider: str = "auto", threads: int = 0) -> None:
        super().__init__(folder, provider, threads)
        if self.manifest.deep is None:
            raise BundleError(
                f"{folder} has no graphs for deep prompts; export it with --deep-prompts J, or tune with --method qcoop"
            )
        self.deep: DeepPrompts = self.manifest.deep

    @cached_property
    def _deep_image_session(self) -> onnxruntime.InferenceSession:
        path = self.folder / self.deep.image_graph.file
        return open_session(path, self.provider, self.threads, prepack=not self.spare_memory)

    @cached_property
    def _deep_text_session(self) -> onnxruntime.InferenceSession:
        path = self.folder / self.deep.text_graph.file
        return open_session(path, self.provider, self.threads, prepack=not self.spare_memory)

    @cached_property
    def _deep_gradient_session(self) -> onnxruntime.InferenceSession:
        path = self.folder / self.deep.text_gradient_graph.file
        return open_session(path, self.provider, self.threads, prepack=not self.spare_memory)

    def close_text_tower(self) -> None:
        """Give back the memory of all text graphs; they open again when they are needed."""
        self.__dict__.pop("_deep_text_session", None)
        self.__dict__.pop("_deep_gradient_session", None)
        super().close_text_tower()

    def open_for_tuning(self) -> None:
        """Load both towers with their prompts now; see `Backbone.open_for_tuning`."""
        _ = self._deep_text_session, self._deep_gradient_session, self._deep_image_session

    def encode_prompted_classes(self, prompts: Array, tokens: ClassTokens) -> Array:
        """Features of classes.

        Args:
            prompts: float32 [J,n,D]; the first are the context, the others stand in its places before blocks 1 to J-1.
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
        parts = [
            self._deep_image_session.run(["features"], self._image_feed(pixels[part], prompts))[0]
            for part in self._image_parts(len(pixels), prompts.shape[1])
        ]
        return np.concatenate(parts) if parts else np.zeros((0, self.manifest.embed_dim), np.float32)

    def loss_and_deep_gradients(
        self,
        text_prompts: Array,
        image_prompts: Array,
        tokens: ClassTokens,
        pixels: Array,
        targets: Array,
        logit_scale: float,
    ) -> tuple[float, Array, Array]:
        """Cross-entropy of a batch, and its gradients at the prompts of both towers.

        Args:
            text_prompts: float32 [J,n,D].
            image_prompts: float32 [J,n,V].
            tokens: The C classes' tokens.
            pixels: float32 [B,3,H,W].
            targets: float32 [B,C]; weight of each class as the true one. Rows that sum to 1/B make a mean.
            logit_scale: s in softmax(s * cos).

        Returns:
            The loss, float32 [J,n,D] and float32 [J,n,V].
        """
        classes = self.encode_prompted_classes(text_prompts, tokens)
        cotangent = np.zeros_like(classes)
        loss, d_text, d_image = 0.0, np.zeros_like(text_prompts), np.zeros_like(image_prompts)
        for part in self._image_parts(len(pixels), image_prompts.shape[1]):
            feed = self._image_feed(pixels[part], image_prompts)
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

    def _image_feed(self, pixels: Array, prompts: Array) -> Feed:
        """Every input of the deep image graph; one weightless class stands in where there is no loss."""
        return {
            "pixels": pixels,
            "prompts": np.ascontiguousarray(prompts, np.float32),
            "class_features": np.zeros((1, self.manifest.embed_dim), np.float32),
            "targets": np.zeros((len(pixels), 1), np.float32),
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
