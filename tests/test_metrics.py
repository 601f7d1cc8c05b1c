"""The yardsticks of the evaluation: against numbers by hand and other implementations."""

import math

import numpy as np
import pytest

from qprompt_edge.evaluation import metrics
from qprompt_edge.evaluation.metrics import class_probabilities, linear_probe, score


def test_scores_computed_by_hand() -> None:
    probabilities = np.array(
        [[0.9, 0.05, 0.05], [0.3, 0.6, 0.1], [0.2, 0.7, 0.1], [0.1, 0.62, 0.28]], np.float32
    )
    scores = score(probabilities, np.array([0, 0, 1, 1]))
    assert scores.n == 4
    assert scores.top1 == 0.75
    assert scores.confusion.tolist() == [[1, 1, 0], [0, 2, 0], [0, 0, 0]]
    assert scores.per_class[:2].tolist() == [0.5, 1.0]
    assert math.isnan(scores.per_class[2])
    assert scores.class_mean == 0.75
    # Bins of 1/15: 0.9 in the 14th; 0.6 and 0.62 in the 10th, one of two right; 0.7 in the 11th.
    expected = (abs(0.9 - 1) + 2 * abs(0.61 - 0.5) + abs(0.7 - 1)) / 4
    assert scores.ece == pytest.approx(expected, abs=1e-6)


def test_perfect_and_certain_predictions() -> None:
    scores = score(np.eye(4, dtype=np.float32), np.arange(4))
    assert (scores.top1, scores.class_mean, scores.ece) == (1.0, 1.0, 0.0)


def test_class_mean_weighs_small_classes_like_large_ones() -> None:
    probabilities = np.eye(2, dtype=np.float32)[np.zeros(10, int)]
    scores = score(probabilities, np.array([0] * 9 + [1]))
    assert (scores.top1, scores.class_mean) == (0.9, 0.5)


def test_class_probabilities_are_a_softmax_of_cosines() -> None:
    images = np.array([[1, 0], [0.6, 0.8]], np.float32)
    classes = np.array([[1, 0], [0, 1]], np.float32)
    expected = np.exp([[10, 0], [6, 8]])
    expected /= expected.sum(axis=1, keepdims=True)
    assert class_probabilities(images, classes, 10.0) == pytest.approx(expected, rel=1e-5)


def test_large_logit_scales_do_not_overflow() -> None:
    probabilities = class_probabilities(np.eye(2, dtype=np.float32), np.eye(2, dtype=np.float32), 1e4)
    assert probabilities == pytest.approx(np.eye(2))


@pytest.mark.parametrize("shots", [1, 4, 16])
def test_linear_probe_is_as_good_as_sklearn(shots: int) -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    rng = np.random.default_rng(shots)
    centres = rng.normal(size=(8, 64))

    def sample(count: int) -> tuple[np.ndarray, np.ndarray]:
        labels = np.repeat(np.arange(8), count)
        features = centres[labels] + 1.5 * rng.normal(size=(len(labels), 64)) + 3
        return (features / np.linalg.norm(features, axis=1, keepdims=True)).astype(np.float32), labels

    features, labels = sample(shots)
    test, truth = sample(500)
    weight, bias = linear_probe(features, labels, 8)
    ours = float(((test @ weight + bias).argmax(axis=1) == truth).mean())
    mean, scale = features.mean(axis=0), features.std(axis=0).mean()
    reference = linear_model.LogisticRegression(max_iter=5000).fit((features - mean) / scale, labels)
    theirs = float(reference.score((test - mean) / scale, truth))
    assert abs(ours - theirs) <= 0.02, f"ours {ours:.3f}, scikit-learn's {theirs:.3f}"


def test_linear_probe_survives_a_class_without_photos() -> None:
    features = np.eye(4, dtype=np.float32)
    weight, bias = linear_probe(features, np.array([0, 0, 2, 2]), 3)
    assert (features @ weight + bias).argmax(axis=1).tolist() == [0, 0, 2, 2]


def test_the_probe_takes_many_photos_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    labels = np.repeat(np.arange(5), 12)
    features = (np.eye(5, 16)[labels] + 0.3 * rng.normal(size=(60, 16))).astype(np.float32)
    weight, bias = linear_probe(features, labels, 5)
    monkeypatch.setattr(metrics, "_PROBE_BLOCKS", 10)  # as many steps as before
    monkeypatch.setattr(metrics, "_PROBE_LOGITS", 37)  # seven photos
    in_blocks, their_bias = linear_probe(features, labels, 5)
    assert in_blocks == pytest.approx(weight, abs=1e-4)
    assert their_bias == pytest.approx(bias, abs=1e-4)
    monkeypatch.setattr(metrics, "_PROBE_BLOCKS", 4)
    fewer, _ = linear_probe(features, labels, 5)
    assert fewer == pytest.approx(weight, abs=0.05)
    assert (fewer != weight).any()
