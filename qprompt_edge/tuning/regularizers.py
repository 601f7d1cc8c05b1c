"""Steadier contexts: what pulls learned class features back towards those of hand-written prompts.

A context that fits the photos of some classes forgets others. Each term below charges for leaving what the
frozen model says of hand-written prompts. All of it is training: no term costs a byte of the file or a moment
of a prediction.

In the formulas w_c is the learned feature of class c, t_kc the feature of its k-th hand-written prompt (t_c:
of the first), both of length 1, x a photo's feature, s the logit scale. The cross-entropy's slope at w grows
with s, which is 100 for CLIP and 24 for `small`; so that a weight means the same for both, terms that have no
s in them are charged s / 100 times. Names that have no photos may join the terms that need none; they say
what the context must not forget.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from qprompt_runtime.arrays import Array
from qprompt_runtime.class_chunks import cross_entropy

_CLIP_SCALE = 100.0


@dataclass(frozen=True)
class Regularizer:
    """Weights of the terms that join the cross-entropy, for CLIP's s; 0 leaves a term out.

    Attributes:
        cosine: Of s / 100 times 1 - mean_c w_c . t_c (KgCoOp, Yao et al., CVPR 2023, the loss L_kg, whose
            |w_c - t_c|^2 is 2 - 2 w_c . t_c).
        distance: Of s / 100 times the mean over classes and dimensions of |w - t| (PromptSRC, Khattak et al.,
            ICCV 2023, L_SCL-text).
        divergence: Of the mean over photos of KL(softmax(s x . w) || softmax(s x . t)) (PromptSRC,
            L_SCL-logits; the authors' code divides by the number of classes too).
        sentences: Of the mean over k and c of -log softmax_c(s t_kc . w) (LASP, Bulat and Tzimiropoulos, CVPR
            2023, L_TT): every hand-written prompt of a class is to be classified as that class.
        new_names: Whether names without photos join all terms but `divergence` (LASP's virtual classes).
    """

    cosine: float = 0.0
    distance: float = 0.0
    divergence: float = 0.0
    sentences: float = 0.0
    new_names: bool = False


@dataclass(frozen=True)
class Anchors:
    """What a regularizer holds on to.

    Attributes:
        regularizer: The weights.
        features: float32 [T,N,E], rows of length 1: T hand-written prompts of N names. The first prompt is
            the one that t stands for; the first C names are those of the classes with photos.
        new_names: Texts of the N - C names without photos.
    """

    regularizer: Regularizer
    features: Array
    new_names: Sequence[str] = ()


def regularized_loss(
    class_features: Array, image_features: Array, targets: Array, logit_scale: float, anchors: Anchors
) -> tuple[float, Array]:
    """Cross-entropy and the terms of a regularizer, with their gradient at the class features.

    Args:
        class_features: float32 [N,E], rows of length 1.
        image_features: float32 [B,E], rows of length 1.
        targets: float32 [B,C]; weight of each class as the true one. Rows that sum to 1/B make a mean.
        logit_scale: s.
        anchors: The terms, and the hand-written prompts of the N names.

    Returns:
        The loss, and float32 [N,E].
    """
    scale, count, terms = np.array(logit_scale, np.float32), targets.shape[1], anchors.regularizer
    cosine, distance = (weight * logit_scale / _CLIP_SCALE for weight in (terms.cosine, terms.distance))
    by_hand, gradient = anchors.features[0], np.zeros_like(class_features)
    loss, gradient[:count] = cross_entropy(class_features[:count], image_features, targets, scale)
    if cosine:
        share = np.float32(cosine / len(by_hand))
        loss += cosine - float(share * (class_features * by_hand).sum())
        gradient -= share * by_hand
    if distance:
        away, share = class_features - by_hand, np.float32(distance / by_hand.size)
        loss += float(share * np.abs(away).sum())
        gradient += share * np.sign(away)
    if terms.divergence:
        value, at = _divergence(class_features[:count], by_hand[:count], image_features, scale)
        loss += terms.divergence * value
        gradient[:count] += np.float32(terms.divergence) * at
    if terms.sentences:
        prompts, names, width = anchors.features.shape
        wanted = np.tile(np.eye(names, dtype=np.float32) / (prompts * names), (prompts, 1))
        value, at = cross_entropy(class_features, anchors.features.reshape(-1, width), wanted, scale)
        loss += terms.sentences * value
        gradient += np.float32(terms.sentences) * at
    return loss, gradient


def _divergence(learned: Array, by_hand: Array, images: Array, scale: Array) -> tuple[float, Array]:
    """Mean over photos of KL(p || q), p = softmax(s x . w) and q = softmax(s x . t), and its gradient at w.

    With z = s x . w the gradient at z_c is p_c (log p_c - log q_c - KL).
    """
    log_p, log_q = (_log_softmax(images @ features.T, scale) for features in (learned, by_hand))
    p, ratio = np.exp(log_p), log_p - log_q
    each = (p * ratio).sum(axis=1, keepdims=True)
    at = p * (ratio - each) * (scale / np.float32(len(images)))
    return float(each.mean()), at.T @ images


def _log_softmax(cosines: Array, scale: Array) -> Array:
    """log softmax(s cos) of each row."""
    away = scale * (cosines - cosines.max(axis=1, keepdims=True))
    result: Array = away - np.log(np.exp(away).sum(axis=1, keepdims=True))
    return result
