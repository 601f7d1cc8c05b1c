"""Image towers that merge tokens, against torch; and that their features are not taken for others'."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

pytest.importorskip("torch")
pytest.importorskip("open_clip")
pytest.importorskip("onnx")

import torch
from command_line import assert_refused
from torch.nn import functional

from qprompt_edge import PromptClassifier, adapt
from qprompt_exporters import parity
from qprompt_exporters.bundle_writer import export_bundle
from qprompt_exporters.merged import _merge, merged_features
from qprompt_runtime.backbone import Backbone
from qprompt_runtime.bundle import read_manifest, verify_hashes
from qprompt_runtime.errors import BackboneMismatchError, BundleError

pytestmark = pytest.mark.export


def some_pixels(count: int = 5) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(count, 3, 32, 32)).astype(np.float32)


# ---------------------------------------------------------------------- the reference


def test_alike_tokens_become_their_mean() -> None:
    """Class token c and patches p1 to p5: B is p1, p3, p5, and p4 is more like p5 than p2 is like p1."""
    metric = torch.tensor([[[9.0, 9.0], [1.0, 0.0], [1.0, 0.3], [-1.0, 0.0], [0.0, 2.0], [0.1, 1.0]]])
    x = torch.tensor([[[7.0], [10.0], [20.0], [30.0], [40.0], [50.0]]])
    sizes = torch.tensor([[[1.0], [1.0], [2.0], [1.0], [3.0], [1.0]]])
    rows, counts = _merge(x, sizes, metric, 1)
    assert rows[0, :, 0].tolist() == [7.0, 20.0, 10.0, 30.0, (3 * 40 + 50) / 4]
    assert counts[0, :, 0].tolist() == [1.0, 2.0, 1.0, 1.0, 4.0]
    rows, counts = _merge(x, sizes, metric, 2)
    assert rows[0, :, 0].tolist() == pytest.approx([7.0, (2 * 20 + 10) / 3, 30.0, (3 * 40 + 50) / 4])
    assert counts[0, :, 0].tolist() == [1.0, 3.0, 1.0, 4.0]


@pytest.mark.parametrize("name", ["small-causal", "small-quickgelu", "small-deep"])
def test_without_merging_the_reference_is_open_clip(small_model: Callable[[str], Any], name: str) -> None:
    model = copy.deepcopy(small_model(name).model).double()
    pixels = torch.from_numpy(some_pixels()).double()
    with torch.no_grad():
        expected = functional.normalize(model.encode_image(pixels), dim=-1)
        torch.testing.assert_close(merged_features(model, pixels, 0), expected, atol=1e-12, rtol=0)


# ---------------------------------------------------------------------- the graph


@pytest.mark.parametrize(
    ("name", "merged"),
    [
        ("small-causal", 1),
        ("small-causal", 8),  # all of A but the class token
        ("small-quickgelu", 5),
        ("small-deep", 2),  # the mean over patches, three blocks that merge
        ("small-deep", 4),
    ],
)
def test_features_are_those_of_torch(
    small_model: Callable[[str], Any], small_bundle: Any, name: str, merged: int
) -> None:
    folder = small_bundle(name, "fp32", 0, merged)
    backbone = Backbone(folder, threads=1)
    pixels = some_pixels()
    exact = copy.deepcopy(small_model(name).model).double()
    with torch.no_grad():
        expected = merged_features(exact, torch.from_numpy(pixels).double(), merged).numpy()
        plain = functional.normalize(exact.encode_image(torch.from_numpy(pixels).double()), dim=-1).numpy()
    session = onnxruntime.InferenceSession(folder / "image.onnx", providers=["CPUExecutionProvider"])
    (together,) = session.run(["features"], {"pixels": pixels})
    one_by_one = backbone.encode_images(pixels)
    for found in (together, one_by_one):
        assert np.abs(found - expected).max() < 1e-5
    assert np.abs(expected - plain).max() > 1e-3, "merging changed nothing"


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_every_precision_is_compared_with_torch(small_bundle: Any, precision: str) -> None:
    folder = small_bundle("small-deep", precision, 0, 4)
    manifest = verify_hashes(folder)
    parity.check(manifest.parity, "merging int8" if precision == "int8" else precision)
    assert (manifest.name, manifest.merged_tokens) == ("small-deep-merge4", 4)
    assert manifest.image_graph.max_batch == 1
    assert manifest.image_graph.inputs == {"pixels": ["B", 3, 32, 32]}
    assert manifest.image_graph.outputs == {"features": ["B", 32]}
    measured = manifest.parity
    assert measured["merged_tokens"] == 4
    assert measured["unmerged_cosine_min"] <= measured["unmerged_cosine_mean"] < measured["image_cosine_mean"]


def test_an_unmerged_bundle_does_not_mention_it(small_bundle: Any) -> None:
    manifest = read_manifest(small_bundle("small-deep"))
    assert (manifest.name, manifest.merged_tokens) == ("small-deep", 0)
    assert not [name for name in manifest.parity if "merged" in name]


# ---------------------------------------------------------------------- not mixed with others


def test_a_prompt_runs_on_the_tower_that_it_was_tuned_for(small_bundle: Any, photos: Path) -> None:
    plain, merging = (Backbone(small_bundle("small-deep", "fp32", 0, merged), threads=1) for merged in (0, 4))
    for own, other in ((plain, merging), (merging, plain)):
        prompt = adapt(photos, backbone=own.folder, threads=1).prompt  # both with one cache of features
        assert PromptClassifier(prompt, own).labels
        names = f"tuned for backbone '{own.manifest.name}' .*but this is '{other.manifest.name}'"
        with pytest.raises(BackboneMismatchError, match=names):
            PromptClassifier(prompt, other)


# ---------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "small-deep",
            {"merge_tokens": 5},
            "--merge-tokens 5 does not fit small-deep, whose image tower has 17 tokens and 4 blocks; it can "
            "merge 1 to 4 a block",
        ),
        ("small-deep", {"merge_tokens": -1}, "--merge-tokens -1 does not fit small-deep"),
        (
            "small-convolutional",
            {"merge_tokens": 1},
            r"this image tower \(ModifiedResNet\) cannot merge tokens: it has no tokens of a ViT; export it "
            "without --merge-tokens",
        ),
        (
            "small-deep",
            {"merge_tokens": 1, "deep_prompts": 1},
            "deep prompts need every token; leave --merge-tokens or --deep-prompts out",
        ),
    ],
)
def test_refusals(
    small_model: Callable[[str], Any], tmp_path: Path, name: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(BundleError, match=message):
        export_bundle(name, tmp_path / "bundle", checkpoint=small_model(name).checkpoint, **options)
    assert not (tmp_path / "bundle").exists()


def test_the_command_line_says_so(
    run: Callable[..., Any], small_model: Callable[[str], Any], small_bundle: Any, tmp_path: Path
) -> None:
    weights = small_model("small-deep").checkpoint
    options = ("--model", "small-deep", "--checkpoint", weights, "--out", tmp_path / "bundle", "--json")
    assert_refused(run("export", *options, "--merge-tokens", 9), "it can merge 1 to 4 a block")
    shown = run("inspect", small_bundle("small-deep", "fp32", 0, 4)).out
    assert "4 a block, experimental" in shown
    assert "small-deep-merge4" in shown
