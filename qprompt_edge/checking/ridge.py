"""Ridge regression from features to classes: a classifier that is learned in closed form.

The idea: a check asks the same question of many parts of the photos, on a small device. Regression on class indicators takes
one product and one small linear system for each part, where logistic regression takes hundreds of products.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qprompt_runtime.arrays import Array

PENALTY = 1.0
"""In mean variances of a feature; see `docs/check.md` for how it was chosen."""


def ridge(
    features: Array, labels: NDArray[np.int64], classes: int, penalty: float = PENALTY
) -> tuple[Array, Array]:
    """Least squares to class indicators, each class weighing the same, with a penalty on squared coefficients.

    Args:
        features: float32 [N,E], N at least 1.
        labels: int64 [N].
        classes: Number C of classes; those without photos get scores of 0.
        penalty: In mean variances of a feature.

    Returns:
        Weight float32 [E,C] and bias float32 [C], for `features @ weight + bias`: near 1 for the class of a photo, near 0 for others.
    """
    counts = np.bincount(labels, minlength=classes)
    share = ((counts > 0) / (counts > 0).sum()).astype(np.float32)
    root = np.sqrt(share[labels] / counts[labels]).astype(np.float32)[:, None]
    mean = (root[:, 0] ** 2) @ features
    x = (features - mean) * root
    y = (np.eye(classes, dtype=np.float32)[labels] - share) * root
    amount = penalty * max(float((x * x).sum()) / features.shape[1], 1e-9)
    if len(x) < x.shape[1]:  # the smaller of the two systems that have the same solution
        weight = x.T @ np.linalg.solve(x @ x.T + amount * np.eye(len(x), dtype=np.float32), y)
    else:
        weight = np.linalg.solve(x.T @ x + amount * np.eye(x.shape[1], dtype=np.float32), x.T @ y)
    bias: Array = share - mean @ weight
    return weight, bias
