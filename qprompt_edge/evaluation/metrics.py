"""Metrics: accuracy, confusion, calibration error, and the linear probe for comparison."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qprompt_runtime.arrays import Array, distinct
from qprompt_runtime.class_head import softmax

Labels = NDArray[np.int64]

CALIBRATION_BINS = 15
_PROBE_STEPS, _FEWER_PROBE_STEPS = 300, 75
_PROBE_LOGITS = 2**20  # of a block: 4 MB
_PROBE_BLOCKS = 4  # up to so many, the probe takes all its steps


@dataclass(frozen=True)
class Scores:
    """How predictions compare with the truth. Accuracies are fractions from 0 to 1.

    Attributes:
        top1: Mean over photos.
        class_mean: Mean over the classes that have photos.
        n: Number of photos.
        per_class: float64 [C]; NaN for a class without photos.
        confusion: int64 [C,C]; rows are true classes, columns predicted ones.
        ece: Expected calibration error, 15 bins (Guo et al. 2017, equation 3).
        right: bool [n]; which photos were right.
        confidence: float32 [n]; the probability of each photo's likeliest class.
    """

    top1: float
    class_mean: float
    n: int
    per_class: NDArray[np.float64]
    confusion: NDArray[np.int64]
    ece: float
    right: NDArray[np.bool_]
    confidence: Array


@dataclass(frozen=True)
class ConfidenceBin:
    """The photos whose confidence lies in one of the bins of the calibration error.

    Attributes:
        photos: How many, at least 1.
        confidence: Their mean confidence, from 0 to 1.
        accuracy: The share of them that is right.
    """

    photos: int
    confidence: float
    accuracy: float


def score(probabilities: Array, labels: Labels) -> Scores:
    """Compare probabilities with the true classes.

    Args:
        probabilities: float32 [N,C], N at least 1.
        labels: int64 [N].
    """
    classes = probabilities.shape[1]
    predicted = probabilities.argmax(axis=1)
    confusion = np.bincount(labels * classes + predicted, minlength=classes * classes).reshape(
        classes, classes
    )
    with np.errstate(invalid="ignore"):
        per_class = confusion.diagonal() / confusion.sum(axis=1)
    right, confidence = predicted == labels, probabilities.max(axis=1)
    return Scores(
        top1=float(right.mean()),
        class_mean=float(np.nanmean(per_class)),
        n=len(labels),
        per_class=per_class,
        confusion=confusion,
        ece=_calibration_error(confidence_bins(confidence, right)),
        right=right,
        confidence=confidence,
    )


def confidence_bins(confidence: Array, right: NDArray[np.bool_]) -> list[ConfidenceBin]:
    """Photos by their confidence, in 15 bins of equal width; bins without a photo are left out.

    Args:
        confidence: float32 [N], from 0 to 1.
        right: bool [N].
    """
    bins = np.minimum((confidence * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    return [
        ConfidenceBin(int(those.sum()), float(confidence[those].mean()), float(right[those].mean()))
        for those in (bins == b for b in distinct(bins))
    ]


def _calibration_error(bins: list[ConfidenceBin]) -> float:
    """Mean distance between confidence and accuracy, over bins weighted by their photos."""
    photos = sum(it.photos for it in bins)
    return sum(abs(it.confidence - it.accuracy) * it.photos for it in bins) / photos


def class_probabilities(image_features: Array, class_features: Array, logit_scale: float) -> Array:
    """softmax(s * cos): float32 [N,C] from unit features [N,E] and [C,E]."""
    return softmax(np.float32(logit_scale) * (image_features @ class_features.T))


def linear_probe(features: Array, labels: Labels, classes: int, penalty: float = 30.0) -> tuple[Array, Array]:
    """Multinomial logistic regression on image features, the usual yardstick of what a backbone sees.

    Features are centred and scaled by their mean standard deviation, then 1/2 |W|^2 * penalty / N is added to
    the mean cross-entropy (each class weighing the same), minimised by Nesterov's accelerated gradient
    descent: 300 steps, or 75 where a step would take more than 4 million logits.

    Args:
        features: float32 [N,E].
        labels: int64 [N].
        classes: Number C of classes.
        penalty: L2 weight, scikit-learn's 1/C; the default was chosen by measurement (`docs/defaults.md`).

    Returns:
        Weight float32 [E,C] and bias float32 [C], for `features @ weight + bias`.
    """
    mean, scale = features.mean(axis=0), np.float32(max(float(features.std(axis=0).mean()), 1e-12))
    x = np.concatenate([(features - mean) / scale, np.ones((len(features), 1), np.float32)], axis=1)
    counts = np.bincount(labels, minlength=classes)
    importance = (1 / (counts[labels] * (counts > 0).sum())).astype(np.float32)[:, None]
    ridge = np.full((x.shape[1], 1), penalty / len(x), np.float32)
    ridge[-1] = 0  # the bias is free
    rate = np.float32(1 / (0.5 * _largest_eigenvalue(x * np.sqrt(importance)) + ridge[0, 0]))
    weight: Array = np.zeros((x.shape[1], classes), np.float32)
    ahead = weight
    many = len(x) * classes > _PROBE_BLOCKS * _PROBE_LOGITS
    for step in range(_FEWER_PROBE_STEPS if many else _PROBE_STEPS):
        gradient = _cross_entropy_gradient(x, ahead, labels, importance)
        gradient += ridge * ahead
        following: Array = ahead - rate * gradient
        ahead = following + np.float32(step / (step + 3)) * (following - weight)
        weight = following
    bias = weight[-1] - (mean / scale) @ weight[:-1]
    return weight[:-1] / scale, bias


def _cross_entropy_gradient(x: Array, weight: Array, labels: Labels, importance: Array) -> Array:
    """Gradient [D,C] of sum_i importance_i CE(softmax(x_i W), label_i); rows [N,D] are taken in blocks."""
    gradient, most = np.zeros_like(weight), max(1, _PROBE_LOGITS // weight.shape[1])
    for first in range(0, len(x), most):
        rows, true = x[first : first + most], labels[first : first + most]
        logits = rows @ weight
        slope = softmax(logits, out=logits)
        slope[np.arange(len(rows)), true] -= 1
        slope *= importance[first : first + most]
        gradient += rows.T @ slope
    return gradient


def _largest_eigenvalue(x: Array) -> float:
    """Of x' x, from x [N,D]: by the smaller of x' x and x x', ten times faster than singular values of x."""
    gram = x @ x.T if len(x) < x.shape[1] else x.T @ x
    return float(np.linalg.eigvalsh(gram)[-1])
