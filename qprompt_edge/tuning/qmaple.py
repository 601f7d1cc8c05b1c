"""QMaPLe: learn prompts in the first J blocks of both towers (MaPLe), quantized while they are learned.

Text prompts P_k [n,D] are learned, and image prompts follow from them by learned projections, V_k = P_k W_k^T
+ b_k (Khattak et al., CVPR 2023, section 3.2). There are two ways to ship what was learned:

- folded, the default: text prompts and image prompts, both quantized as they will be shipped; the projections
  stay behind.
- coupled, as the paper: text prompts and projections, all of it quantized; the device projects.

Image features depend on the prompts, so every step runs the image tower's blocks on its photos, from what its
stem made of them. At 32 bits this is MaPLe.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qprompt_edge.tuning.problem import Tuning
from qprompt_edge.tuning.qcoop import CONTEXT_INIT
from qprompt_edge.tuning.trainer import AS_LEARNED, Reparameterization
from qprompt_runtime.arrays import Array
from qprompt_runtime.deep_backbone import DeepBackbone
from qprompt_runtime.errors import TextError
from qprompt_runtime.folding import fold
from qprompt_runtime.prompt_file import COUPLED
from qprompt_runtime.tokenizer import ClassTokens

TEXT, IMAGE, PROJECTIONS = "text-context", "image-prompts", "projections"
CONTEXT_VECTORS = 2


def fold_backward(learned: Mapping[str, Array], d_text: Array, d_image: Array) -> dict[str, Array]:
    """Gradients at what is learned, from those at the prompts of both towers; shapes as in `folding.fold`."""
    turned = d_image.transpose(0, 2, 1)
    d_weights, d_biases = turned @ learned[TEXT], turned.sum(axis=2, keepdims=True)
    return {
        TEXT: d_text + d_image @ learned[PROJECTIONS][..., :-1],
        PROJECTIONS: np.concatenate([d_weights, d_biases], axis=2),
    }


def reparameterization(method: str) -> Reparameterization:
    """What is shipped: both towers' prompts (`qmaple`), or all that is learned (`qmaple-coupled`)."""
    if method == COUPLED:
        return AS_LEARNED
    return Reparameterization(
        forward=lambda learned: {TEXT: learned[TEXT], IMAGE: fold(learned[TEXT], learned[PROJECTIONS])},
        backward=lambda learned, gradients: fold_backward(learned, gradients[TEXT], gradients[IMAGE]),
    )


@dataclass(frozen=True)
class DeepPrompt:
    """Where tuning starts.

    Attributes:
        learned: float32 weights: text prompts [J,n,D] and projections [J,V,D+1].
        template: What stands between context and class name, and behind it.
        tokens: Tokens of the C classes.
    """

    learned: dict[str, Array]
    template: tuple[str, str]
    tokens: ClassTokens


def initial_prompt(
    backbone: DeepBackbone, texts: Sequence[str], context_init: str, vectors: int, seed: int
) -> DeepPrompt:
    """MaPLe's start from a hand-written prompt.

    Its first words are learned, the others stay words of the sentence.

    Deeper prompts are drawn with the standard deviation of the first ones; projections start as torch's
    `Linear` does, uniform up to 1 / sqrt(D), the same in every block.

    Args:
        backbone: The frozen model.
        texts: Prompt texts of the C classes.
        context_init: Words of the hand-written prompt.
        vectors: How many of its tokens are learned, n.
        seed: Of everything that is drawn.

    Raises:
        TextError: The words have fewer tokens, or a prompt is too long for the text tower.
    """
    words = context_init.split()
    context = backbone.embed_text(" ".join(words[:vectors]))
    if len(context) != vectors:
        raise TextError(
            f"--context-init {context_init!r}: its first {vectors} words have {len(context)} tokens, "
            f"expected {vectors}; the default is {CONTEXT_INIT!r}"
        )
    template = (" ".join(words[vectors:]), ".")
    rng = np.random.default_rng([seed, 2])
    depth, width = backbone.deep.depth, context.shape[1]
    deeper = rng.normal(0, context.std(), (depth - 1, vectors, width))
    bound = width**-0.5
    projection = rng.uniform(-bound, bound, (backbone.deep.image_width, width + 1))
    learned = {
        TEXT: np.concatenate([context[None], deeper]).astype(np.float32),
        PROJECTIONS: np.repeat(projection[None], depth, axis=0).astype(np.float32),
    }
    return DeepPrompt(learned, template, backbone.tokenize(texts, template, vectors))


@dataclass(frozen=True)
class DeepObjective:
    """Cross-entropy of photos against classes, both seen through their prompts.

    Attributes:
        backbone: The frozen model.
        tokens: Tokens of the C classes.
        stems: Gives what `DeepBackbone.encode_stem` returns of the photos of some indices in some epoch,
            float32 [B,T,V].
        labels: int64 [N].
    """

    backbone: DeepBackbone
    tokens: ClassTokens
    stems: Callable[[NDArray[np.int64], int], Array]
    labels: NDArray[np.int64]

    def __call__(
        self, weights: Mapping[str, Array], photos: NDArray[np.int64], epoch: int
    ) -> tuple[float, dict[str, Array]]:
        """Mean cross-entropy of a batch; see `trainer.Objective`. Weights are shipped ones of either way."""
        folded = IMAGE in weights
        image = weights[IMAGE] if folded else fold(weights[TEXT], weights[PROJECTIONS])
        targets = np.zeros((len(photos), len(self.tokens.ends)), np.float32)
        targets[np.arange(len(photos)), self.labels[photos]] = 1 / len(photos)
        loss, d_text, d_image = self.backbone.loss_and_deep_gradients(
            weights[TEXT],
            image,
            self.tokens,
            self.stems(photos, epoch),
            targets,
            self.backbone.manifest.logit_scale,
        )
        if folded:
            return loss, {TEXT: d_text, IMAGE: d_image}
        return loss, fold_backward(weights, d_text, d_image)


def tuning(
    method: str,
    backbone: DeepBackbone,
    texts: Sequence[str],
    stems: Callable[[NDArray[np.int64], int], Array],
    labels: NDArray[np.int64],
    *,
    context_init: str = CONTEXT_INIT,
    vectors: int = CONTEXT_VECTORS,
    seed: int = 1,
) -> Tuning:
    """QMaPLe on a task.

    Args:
        method: `qmaple` or `qmaple-coupled`.
        backbone: The frozen model.
        texts: Prompt texts of the C classes.
        stems: Gives what `DeepBackbone.encode_stem` returns of the photos of some indices in some epoch,
            float32 [B,T,V].
        labels: int64 [N].
        context_init: Words of the hand-written prompt.
        vectors: How many of its tokens are learned, n.
        seed: Of everything that is drawn.

    Raises:
        TextError: The words have fewer tokens, or a prompt is too long for the text tower.
    """
    initial = initial_prompt(backbone, texts, context_init, vectors, seed)
    return Tuning(
        method=method,
        weights=initial.learned,
        leading=TEXT,
        reparameterization=reparameterization(method),
        objective=DeepObjective(backbone, initial.tokens, stems, labels),
        template=initial.template,
    )
