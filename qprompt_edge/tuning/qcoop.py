"""QCoOp: learn the context vectors in the text encoder's input (CoOp), quantized while they are learned.

A class's prompt is [start] v1 ... vn [class text] [end]. Image features never change, so they are computed
once and a step costs the text tower alone. At 32 bits this is plain CoOp.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qprompt_edge.tuning.problem import Tuning
from qprompt_edge.tuning.regularizers import Anchors, regularized_loss
from qprompt_edge.tuning.trainer import AS_LEARNED
from qprompt_runtime.arrays import Array
from qprompt_runtime.backbone import Backbone
from qprompt_runtime.errors import TextError
from qprompt_runtime.prompt_file import CONTEXT
from qprompt_runtime.tokenizer import ClassTokens

ROLE = "text-context"
CONTEXT_INIT = "a photo of a"
TEMPLATE = ("", ".")


@dataclass(frozen=True)
class ContextPrompt:
    """Where tuning starts: context vectors, and the tokens that follow them.

    Attributes:
        context: float32 [G,n,D]; G is 1 (shared by all classes) or C (one for each).
        tokens: Tokens of the C classes.
    """

    context: Array
    tokens: ClassTokens


def initial_prompt(
    backbone: Backbone, texts: Sequence[str], context_init: str = CONTEXT_INIT, *, per_class: bool = False
) -> ContextPrompt:
    """Context vectors that equal a hand-written beginning, so that tuning starts from zero-shot.

    Args:
        backbone: The frozen model.
        texts: Prompt texts of the C classes.
        context_init: Words whose token embeddings become the context vectors.
        per_class: Give each class context vectors of its own.

    Raises:
        TextError: The words hold no token, or a prompt is too long for the text tower.
    """
    vectors = backbone.embed_text(context_init)
    if not len(vectors):
        raise TextError(f"--context-init {context_init!r} holds no word; the default is {CONTEXT_INIT!r}")
    tokens = backbone.tokenize(texts, TEMPLATE, len(vectors))
    return ContextPrompt(np.repeat(vectors[None], len(texts) if per_class else 1, axis=0), tokens)


@dataclass(frozen=True)
class ContextObjective:
    """Cross-entropy of cached image features against the classes that the context vectors describe.

    Attributes:
        backbone: The frozen model.
        tokens: Tokens of the C classes, and of the anchors' new names behind them.
        features: float32 [N,V,E]; V views of each training photo, the plain one first.
        labels: int64 [N].
        seed: Of the choice among views.
        anchors: What else is charged for; None for nothing.
    """

    backbone: Backbone
    tokens: ClassTokens
    features: Array
    labels: NDArray[np.int64]
    seed: int
    anchors: Anchors | None = None

    def __call__(
        self, weights: Mapping[str, Array], photos: NDArray[np.int64], epoch: int
    ) -> tuple[float, dict[str, Array]]:
        """Mean cross-entropy of a batch; see `trainer.Objective`."""
        view = np.random.default_rng([self.seed, epoch, 1]).integers(
            self.features.shape[1], size=len(self.labels)
        )
        new = len(self.anchors.new_names) if self.anchors else 0
        targets = np.zeros((len(photos), len(self.tokens.ends) - new), np.float32)
        targets[np.arange(len(photos)), self.labels[photos]] = 1 / len(photos)
        context, scale = weights[ROLE], self.backbone.manifest.logit_scale
        batch = self.features[photos, view[photos]], targets, scale
        if self.anchors is None:
            loss, gradient = self.backbone.loss_and_gradient(context, self.tokens, *batch)
            return loss, {ROLE: gradient}
        classes = self.backbone.encode_classes(context, self.tokens)
        loss, cotangent = regularized_loss(classes, *batch, self.anchors)
        return loss, {ROLE: self.backbone.context_gradient(context, self.tokens, cotangent)}


def tuning(
    backbone: Backbone,
    texts: Sequence[str],
    features: Array,
    labels: NDArray[np.int64],
    *,
    context_init: str = CONTEXT_INIT,
    per_class: bool = False,
    seed: int = 1,
    anchors: Anchors | None = None,
) -> Tuning:
    """QCoOp on a task.

    Args:
        backbone: The frozen model.
        texts: Prompt texts of the C classes.
        features: float32 [N,V,E]; V views of each training photo, the plain one first.
        labels: int64 [N].
        context_init: Words whose token embeddings become the context vectors.
        per_class: Give each class context vectors of its own.
        seed: Of the choice among views.
        anchors: What else is charged for than wrong answers; None for nothing.

    Raises:
        TextError: The words hold no token, or a prompt is too long for the text tower.
    """
    texts = [*texts, *(anchors.new_names if anchors else ())]
    initial = initial_prompt(backbone, texts, context_init, per_class=per_class)
    return Tuning(
        method=CONTEXT,
        weights={ROLE: initial.context},
        leading=ROLE,
        reparameterization=AS_LEARNED,
        objective=ContextObjective(backbone, initial.tokens, features, labels, seed, anchors),
        template=TEMPLATE,
        stored=lambda context: context[0] if len(context) == 1 else context,  # [n,D] where it is shared
    )
