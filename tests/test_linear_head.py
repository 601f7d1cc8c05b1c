"""Linear classifiers of other programs as prompts: the same probabilities, up to quantization."""

import numpy as np
import pytest
from safetensors.numpy import save_file

from qprompt_edge.convert.convert import Additions, convert
from qprompt_runtime.backbone import Backbone
from qprompt_runtime.classifier import PromptClassifier
from qprompt_runtime.errors import CheckpointError

LABELS = ["red cup", "bolt", "leaf", "stone"]


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return Backbone.load("small")


def photos(width: int, classes: int, spread: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Unit features [N,E] around a centre for each class, and labels [N]."""
    rng = np.random.default_rng(1)
    labels = np.repeat(np.arange(classes), 30)
    features = rng.normal(size=(classes, width))[labels] + spread * rng.normal(size=(len(labels), width))
    return (features / np.linalg.norm(features, axis=1, keepdims=True)).astype(np.float32), labels


def fitted(features: np.ndarray, labels: np.ndarray, **settings: float):
    """scikit-learn's logistic regression; imported here, since it takes seconds."""
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(**settings).fit(features, labels)


def imported(tmp_path, tensors, backbone, labels=LABELS, bits=None) -> PromptClassifier:
    path = tmp_path / "head.safetensors"
    save_file({name: np.ascontiguousarray(value, np.float32) for name, value in tensors.items()}, path)
    prompt = convert(path, Additions("small", dict.fromkeys(labels), bits))
    assert prompt.method == "qtaskres"
    return PromptClassifier(prompt, backbone)


@pytest.mark.parametrize(("bits", "error"), [(32, 2e-3), (None, 0.02)])
@pytest.mark.parametrize("names", [("weight", "bias"), ("coef_", "intercept_")])
def test_probabilities_are_those_of_the_head(tmp_path, backbone, names, bits, error):
    features, labels = photos(backbone.manifest.embed_dim, 4, spread=6)
    model = fitted(features[::2], labels[::2], C=30, max_iter=2000)
    tensors = dict(zip(names, (model.coef_, model.intercept_), strict=True))
    classifier = imported(tmp_path, tensors, backbone, bits=bits)
    expected = model.predict_proba(features)
    assert 0.5 < model.score(features[1::2], labels[1::2]) < 1  # a hard task: probabilities of all sizes
    np.testing.assert_allclose(classifier.probabilities(features), expected, atol=error)


def test_a_head_without_bias_whose_rows_do_not_sum_to_zero(tmp_path, backbone):
    features, _ = photos(backbone.manifest.embed_dim, 4)
    weight = np.random.default_rng(2).normal(size=(4, features.shape[1])) * [[1], [5], [0.2], [2]] + 1
    classifier = imported(tmp_path, {"weight": weight}, backbone, bits=32)
    logits = features @ weight.T.astype(np.float32)
    expected = np.exp(logits - logits.max(axis=1, keepdims=True))
    expected /= expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(classifier.probabilities(features), expected, atol=2e-3)


def test_one_row_stands_for_two_classes(tmp_path, backbone):
    features, labels = photos(backbone.manifest.embed_dim, 2, spread=4)
    model = fitted(features, labels, C=30)
    tensors = {"coef_": model.coef_, "intercept_": model.intercept_}
    classifier = imported(tmp_path, tensors, backbone, labels=["no", "yes"], bits=32)
    np.testing.assert_allclose(classifier.probabilities(features), model.predict_proba(features), atol=2e-3)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"weight": np.ones((4, 7))}, "features of 7 numbers"),
        ({"weight": np.ones((3, 256))}, "has 3 classes, but 4 were named"),
        ({"weight": np.ones(256)}, r"of shape \[256\]"),
        ({"weight": np.eye(4, 256), "bias": np.zeros(3)}, r"bias is of shape \[3\], expected \[4\]"),
        ({"weight": np.eye(4, 256)[[0, 1, 2, 2]] * [[1], [1], [1], [2]], "other": np.ones(1)}, "no context vectors"),
        ({"weight": np.outer([1, 2, 3, 4], np.ones(256))}, "cannot be brought to one length"),
    ],
)  # fmt: skip
def test_what_is_no_head_for_this_backbone(tmp_path, backbone, tensors, message):
    with pytest.raises(CheckpointError, match=message):
        imported(tmp_path, tensors, backbone)
