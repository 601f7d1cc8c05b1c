"""What stands before the image tower's blocks.

It is the tower's own, also in a subclass of open_clip's ViT, and runs once a photo.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("open_clip")
pytest.importorskip("onnx")

import torch
from open_clip.transformer import VisionTransformer
from torch import nn

from qprompt_edge import adapt
from qprompt_edge.data.photo_stems import PhotoStems
from qprompt_exporters import bundle_writer, parity
from qprompt_exporters.models import load_source
from qprompt_exporters.towers import ImageStem
from qprompt_runtime.deep_backbone import DeepBackbone

pytestmark = pytest.mark.export

NAME = "small-causal"


class TrunkTransformer(VisionTransformer):
    """A ViT behind a convolutional trunk, which gives its patches and, from their mean, its class token."""

    def __init__(self) -> None:
        super().__init__(
            image_size=32, patch_size=8, width=64, layers=2, heads=2, mlp_ratio=4.0, output_dim=32
        )
        self.conv1 = nn.Sequential(
            nn.Conv2d(3, 24, 4, stride=4), nn.BatchNorm2d(24), nn.GELU(), nn.Conv2d(24, 64, 2, stride=2)
        )
        self.start = nn.Linear(64, 64)
        del self.class_embedding

    def _embeds(self, x: torch.Tensor) -> torch.Tensor:
        patches = self.conv1(x).flatten(2).transpose(1, 2)
        start = self.start(patches.mean(dim=1, keepdim=True))
        return self.ln_pre(self.patch_dropout(torch.cat([start, patches], dim=1) + self.positional_embedding))


@pytest.fixture
def trunk_model(small_model: Callable[[str], Any]) -> Any:
    """`small-causal` with such a tower in the place of its own, as a source to export."""
    source = load_source(NAME, checkpoint=small_model(NAME).checkpoint)
    torch.manual_seed(0)
    visual = TrunkTransformer().eval()
    with torch.no_grad():
        for key, parameter in visual.named_parameters():
            if parameter.ndim == 1:  # norms are 1 and biases 0 at first: an error there would not show
                parameter += 0.2 * torch.randn_like(parameter)
            if "embedding" in key or key == "start.weight":
                parameter *= 5  # so that places and photos decide a feature
    source.model.visual = visual
    return replace(source, name="trunk")


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_class_token_that_the_photo_decides(
    trunk_model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    monkeypatch.setattr(bundle_writer, "load_source", lambda *_arguments: trunk_model)
    manifest = bundle_writer.export_bundle("trunk", tmp_path / "out", deep_prompts=2, precision=precision)
    parity.check(manifest.parity, precision)
    assert "deep_gradient_error" in manifest.parity
    backbone = DeepBackbone(tmp_path / "out", threads=1)
    assert backbone.stem_shape == (17, 64)
    pixels = np.random.default_rng(0).normal(size=(3, 3, 32, 32)).astype(np.float32)
    stems = backbone.encode_stem(pixels)
    with torch.no_grad():
        trunk_model.model.visual.ln_pre = nn.Identity()
        expected = trunk_model.model.visual._embeds(torch.from_numpy(pixels)).numpy()
    np.testing.assert_allclose(stems, expected, atol=1e-5 if precision == "fp32" else 0.02)
    assert np.abs(stems[0, 0] - stems[1, 0]).max() > 0.1, "the class tokens hardly differ"


def test_a_stem_leaves_its_model_as_it_is(small_model: Callable[[str], Any]) -> None:
    model = small_model(NAME).model
    before = dict(model.visual.named_modules())
    pixels = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        tokens = ImageStem(model)(pixels)
        np.testing.assert_array_equal(model.visual.ln_pre(tokens), model.visual._embeds(pixels))
    assert dict(model.visual.named_modules()) == before
    assert isinstance(model.visual.ln_pre, nn.LayerNorm)


@pytest.mark.parametrize("views", [0, 1])
def test_a_whole_adaptation_runs_the_stem_once_a_photo(
    small_bundle: Any, photos: Path, stem_runs: Counter[bytes], views: int
) -> None:
    folder = small_bundle("small-deep", "fp32", 4)
    stem_runs.clear()  # of what the export compared with torch
    result = adapt(photos, backbone=folder, method="qmaple", views=views, epochs=4, batch_size=5, threads=1)
    assert result.holdout is not None
    assert result.holdout.adapted.n == 3
    assert set(stem_runs.values()) == {1}
    assert 18 <= len(stem_runs) <= 15 * (1 + views) + 3


def test_where_memory_is_short_the_stem_does_not_stay_open(small_bundle: Any, photos: Path) -> None:
    folder = small_bundle("small-deep", "fp32", 4)
    roomy, frugal = (DeepBackbone(folder, threads=1) for _ in range(2))
    frugal.spare_memory = True
    paths = sorted(photos.rglob("*.png"))
    found = [PhotoStems(paths, one, views=0, seed=1)(np.arange(4), 0) for one in (roomy, frugal)]
    np.testing.assert_array_equal(*found)
    assert found[0].shape == (4, 17, 64)
    assert (roomy._stem_session is None, frugal._stem_session is None) == (False, True)
