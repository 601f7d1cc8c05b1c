"""Linear discriminant analysis: a classifier that is learned in closed form.

The idea: each class is a normal distribution of features around its mean, and all classes have the same
covariance (Fisher 1936). A check learns from many different parts of the photos, on a small device. Each part
takes one product and one small linear system here; logistic regression would take hundreds of products. The
scores are log-likelihoods: their difference says how much more a photo looks like one class than the other.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qprompt_runtime.arrays import Array

PENALTY = 1.0
"""Variance that is added in every direction, in mean variances of a feature within its class."""
_LEAST = 1e-6
_NEVER = -1e9


def discriminant(
    features: Array, labels: NDArray[np.int64], classes: int, penalty: float = PENALTY
) -> tuple[Array, Array]:
    """Learn from labelled features; each class is as likely as any other.

    Args:
        features: float32 [N,E], N at least 1.
        labels: int64 [N].
        classes: Number C of classes; one without photos is never the answer.
        penalty: In mean variances of a feature within its class.

    Returns:
        Weight float32 [E,C] and bias float32 [C]: `features @ weight + bias` are log-likelihoods but for what
        all classes share.
    """
    counts = np.bincount(labels, minlength=classes)
    members = np.eye(classes, dtype=np.float32)[labels]
    means = (members.T @ features) / np.maximum(counts, 1).astype(np.float32)[:, None]
    apart = (features - means[labels]) / np.float32(np.sqrt(max(1, len(labels) - (counts > 0).sum())))
    amount = np.float32(penalty * max(float((apart * apart).sum()) / features.shape[1], _LEAST))
    if len(apart) < apart.shape[1]:  # the same by Woodbury's identity, with the smaller system
        inner = apart @ apart.T + amount * np.eye(len(apart), dtype=np.float32)
        weight = (means.T - apart.T @ np.linalg.solve(inner, apart @ means.T)) / amount
    else:
        spread = apart.T @ apart + amount * np.eye(apart.shape[1], dtype=np.float32)
        weight = np.linalg.solve(spread, means.T)
    bias: Array = np.where(counts > 0, -0.5 * (means * weight.T).sum(axis=1), _NEVER).astype(np.float32)
    return weight.astype(np.float32, copy=False), bias
