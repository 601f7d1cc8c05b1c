"""Folded prompts (MaPLe's, image prompts already projected) on the shipped backbone, without torch."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import TINY_FOLDER
from prompts import TINY

from qprompt_edge.tuning import qmaple
from qprompt_edge.tuning.methods import default_training
from qprompt_edge.tuning.ptq import make_group
from qprompt_edge.tuning.qcoop import CONTEXT_INIT
from qprompt_edge.tuning.trainer import start, train
from qprompt_runtime.backbone import Backbone
from qprompt_runtime.classifier import PromptClassifier
from qprompt_runtime.deep_backbone import DeepBackbone
from qprompt_runtime.errors import PromptFileError
from qprompt_runtime.prompt_features import prompt_features
from qprompt_runtime.prompt_file import (
    COUPLED,
    FOLDED,
    ClassName,
    PromptFile,
    read_prompt_file,
    write_prompt_file,
)

NAMES = ["cat", "fire engine", "teapot", "dog"]


@pytest.fixture(scope="module")
def deep() -> DeepBackbone:
    return DeepBackbone(TINY_FOLDER, threads=1)


@pytest.fixture(scope="module")
def start_point(deep: DeepBackbone) -> qmaple.DeepPrompt:
    return qmaple.initial_prompt(deep, NAMES, CONTEXT_INIT, qmaple.CONTEXT_VECTORS, 1)


def some_pixels(count: int) -> np.ndarray:
    return np.random.default_rng(count).normal(size=(count, 3, 64, 64)).astype(np.float32)


def folded_file(deep: DeepBackbone, prompt: qmaple.DeepPrompt, bits: int) -> PromptFile:
    shipped = qmaple.reparameterization(FOLDED).forward(prompt.learned)
    return PromptFile(
        method=FOLDED,
        groups=tuple(make_group(role, values, bits) for role, values in shipped.items()),
        classes=tuple(ClassName.from_label(name) for name in NAMES),
        template=prompt.template,
        backbone_name="tiny",
        fingerprint=deep.fingerprint,
        calibration=TINY.calibration,
    )


def test_the_gradient_says_how_the_loss_changes(deep: DeepBackbone, start_point: qmaple.DeepPrompt) -> None:
    """Along the gradient, a small step changes the loss by the step times the gradient's length.

    The step has to be small, because the loss is much curved.
    """
    labels = np.arange(6) % len(NAMES)
    stems = deep.encode_stem(some_pixels(6))
    objective = qmaple.DeepObjective(deep, start_point.tokens, lambda rows, _epoch: stems[rows], labels)
    for method in (FOLDED, COUPLED):
        weights = qmaple.reparameterization(method).forward(start_point.learned)
        _, gradients = objective(weights, np.arange(6), 0)
        for name, gradient in gradients.items():
            length = float(np.linalg.norm(gradient))
            step = 1e-5 * float(np.linalg.norm(weights[name])) / length
            ahead, behind = (
                objective({**weights, name: weights[name] + sign * step * gradient}, np.arange(6), 0)[0]
                for sign in (1, -1)
            )
            assert (ahead - behind) / (2 * step) == pytest.approx(length**2, rel=0.1), (method, name)


@pytest.mark.parametrize("method", [FOLDED, COUPLED])
@pytest.mark.parametrize("bits", [1, 4, 32])
def test_learning_lowers_the_loss(
    deep: DeepBackbone, start_point: qmaple.DeepPrompt, method: str, bits: int
) -> None:
    labels = np.arange(8) % len(NAMES)
    stems = deep.encode_stem(some_pixels(8))
    objective = qmaple.DeepObjective(deep, start_point.tokens, lambda rows, _epoch: stems[rows], labels)
    config = default_training("qcoop", bits=bits, epochs=12, batch_size=8, lr=0.02, warmup_epochs=0)
    reparameterization = qmaple.reparameterization(method)
    losses = [
        progress.loss
        for progress in train(
            start(start_point.learned, config, reparameterization),
            objective,
            labels,
            config,
            reparameterization,
        )
    ]
    assert min(losses[-3:]) < losses[0]


def test_a_folded_file_classifies_as_its_prompts_do(
    deep: DeepBackbone, start_point: qmaple.DeepPrompt, tmp_path: Path
) -> None:
    path = tmp_path / "deep.qpt"
    write_prompt_file(path, folded_file(deep, start_point, 32))
    classifier = PromptClassifier.load(path, backbone=TINY_FOLDER, threads=1)
    assert isinstance(classifier.backbone, DeepBackbone)
    pixels = some_pixels(3)
    shipped = qmaple.reparameterization(FOLDED).forward(start_point.learned)
    expected = deep.encode_prompted_images(pixels, shipped[qmaple.IMAGE])
    np.testing.assert_allclose(classifier.encode_images(pixels), expected, atol=1e-5)
    classes = deep.encode_prompted_classes(shipped[qmaple.TEXT], start_point.tokens)
    np.testing.assert_allclose(classifier.class_features, classes, atol=1e-5)
    other = PromptClassifier(read_prompt_file(path), deep, classes=["horse", "ship"])
    assert other.class_features.shape == (2, 256)


def test_size_in_proportion_to_the_towers(deep: DeepBackbone, start_point: qmaple.DeepPrompt) -> None:
    """Both towers' prompts and one codebook each."""
    prompt = folded_file(deep, start_point, 1)
    numbers = sum(int(np.prod(group.shape)) for group in prompt.groups)
    assert numbers == deep.deep.depth * 2 * (192 + 192)
    assert prompt.payload_bytes == numbers // 8 + 2 * 2 * 2


def changed(prompt: PromptFile, index: int, shape: tuple[int, ...]) -> Any:
    groups = list(prompt.groups)
    groups[index] = make_group(groups[index].role, np.ones(shape, np.float32), 32)
    return replace(prompt, groups=tuple(groups))


@pytest.mark.parametrize("shape", [(3, 3, 192), (2, 192), (1, 2, 192)])
def test_towers_of_different_depth_are_refused(
    deep: DeepBackbone, start_point: qmaple.DeepPrompt, shape: tuple[int, ...]
) -> None:
    with pytest.raises(PromptFileError, match=r"expected \[J, n, D\] and \[J, n, V\]"):
        changed(folded_file(deep, start_point, 4), 1, shape)


def test_groups_in_another_order_are_refused(deep: DeepBackbone, start_point: qmaple.DeepPrompt) -> None:
    prompt = folded_file(deep, start_point, 4)
    with pytest.raises(PromptFileError, match="the list of roles"):
        replace(prompt, groups=prompt.groups[::-1])


def test_another_width_is_refused(deep: DeepBackbone, start_point: qmaple.DeepPrompt) -> None:
    prompt = folded_file(deep, start_point, 4)
    narrow = np.ones((deep.deep.depth, 2, 100), np.float32)
    groups = tuple(make_group(group.role, narrow, 32) for group in prompt.groups)
    with pytest.raises(PromptFileError, match="the prompt's context is 100, but the backbone's is 192"):
        _ = PromptClassifier(replace(prompt, groups=groups), deep).class_features


def test_a_backbone_opened_without_deep_prompts_is_refused(
    deep: DeepBackbone, start_point: qmaple.DeepPrompt
) -> None:
    plain = Backbone(TINY_FOLDER, threads=1)
    with pytest.raises(TypeError, match="makes the right one"):
        _ = PromptClassifier(folded_file(deep, start_point, 4), plain).class_features


def test_a_coupled_prompt_runs_as_the_folded_one_that_follows_from_it(
    deep: DeepBackbone, start_point: qmaple.DeepPrompt
) -> None:
    whole = folded_file(deep, start_point, 32)
    groups = tuple(make_group(role, values, 32) for role, values in start_point.learned.items())
    coupled = PromptClassifier(replace(whole, method=COUPLED, groups=groups), deep)
    expected = PromptClassifier(whole, deep)
    assert np.array_equal(coupled.class_features, expected.class_features)
    assert np.array_equal(coupled.encode_images(some_pixels(2)), expected.encode_images(some_pixels(2)))


def test_a_coupled_prompt_that_was_not_folded_is_refused(
    deep: DeepBackbone, start_point: qmaple.DeepPrompt
) -> None:
    groups = tuple(make_group(role, values, 32) for role, values in start_point.learned.items())
    coupled = replace(folded_file(deep, start_point, 32), method=COUPLED, groups=groups)
    with pytest.raises(PromptFileError, match="must be folded before it runs"):
        prompt_features(coupled, deep, coupled.classes)
