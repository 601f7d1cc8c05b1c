"""Tip-Adapter without training (Zhang et al., ECCV 2022): the training photos vote beside the class names.

    logits = s * f W^T + alpha * exp(-beta * (1 - f F^T)) L          (equations 5 and 6)

f: an image's unit features; W: class features; F, L: unit features and one-hot labels of the training photos.
The authors search alpha and beta on validation photos. Here each training photo is judged by all the others.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qprompt_runtime.arrays import Array

ALPHAS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
BETAS = (1.0, 2.0, 5.5, 10.0, 20.0)


@dataclass(frozen=True)
class TipAdapter:
    """A cache of training photos.

    Attributes:
        class_features: float32 [C,E], rows of length 1.
        keys: float32 [N,E], rows of length 1.
        votes: float32 [N,C], one-hot labels.
        logit_scale: s.
        alpha: Weight of the votes.
        beta: How fast a vote fades with distance.
    """

    class_features: Array
    keys: Array
    votes: Array
    logit_scale: float
    alpha: float
    beta: float

    def logits(self, features: Array) -> Array:
        """Logits [M,C] of images with unit features [M,E]."""
        votes = _votes(features @ self.keys.T, self.votes, self.beta)
        by_name = np.float32(self.logit_scale) * features @ self.class_features.T
        logits: Array = by_name + np.float32(self.alpha) * votes
        return logits


def tip_adapter(
    class_features: Array, features: Array, labels: NDArray[np.int64], logit_scale: float
) -> TipAdapter:
    """Build the cache, and choose alpha and beta.

    They are those that get most training photos right, each photo judged by the others.

    Args:
        class_features: float32 [C,E], rows of length 1.
        features: float32 [N,E], rows of length 1.
        labels: int64 [N].
        logit_scale: s.
    """
    one_hot = np.eye(len(class_features), dtype=np.float32)[labels]
    by_name = np.float32(logit_scale) * features @ class_features.T
    near = features @ features.T
    np.fill_diagonal(near, -np.inf)  # exp(-beta * inf) = 0: a photo has no vote about itself
    best, chosen = -1.0, (ALPHAS[0], BETAS[0])
    for beta in BETAS:
        votes = _votes(near, one_hot, beta)
        for alpha in ALPHAS:
            right = float(((by_name + np.float32(alpha) * votes).argmax(axis=1) == labels).mean())
            if right > best:
                best, chosen = right, (alpha, beta)
    return TipAdapter(class_features, features, one_hot, logit_scale, *chosen)


def _votes(near: Array, one_hot: Array, beta: float) -> Array:
    """[M,C] from cosines [M,N] to the training photos."""
    votes: Array = np.exp(np.float32(beta) * (near - 1)) @ one_hot
    return votes
