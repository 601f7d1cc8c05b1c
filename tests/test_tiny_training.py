"""How the embedded backbone is trained: the parts that a result rests on, on a handful of images."""

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("open_clip")

import torch

from qprompt_exporters.embedded.backbones import EMBEDDED
from qprompt_exporters.embedded.tiny import train
from qprompt_exporters.embedded.tiny.class_tree import ClassTree
from qprompt_exporters.embedded.tiny.image_stage import ImageConfig, encode_images, silence_blocks
from qprompt_exporters.embedded.tiny.model import build_tiny
from qprompt_exporters.embedded.tiny.muon import Muon, orthogonalise

pytestmark = pytest.mark.export

TREE = ClassTree(
    nodes=["n1", "n2", "n3", "n4"],
    names=[["cat"], ["dog"], ["teapot"], ["animal"]],
    children=[[], [], [], [0, 1, 2]],
    leaf_sets=[[0], [1], [2], [0, 1, 2]],
    root=3,
    leaves=3,
)
CONFIG = ImageConfig(epochs=6, small_until=2, medium_until=4, blocks_from=3, batch_size=6, decay=0.5)
"""Two steps an epoch; image sizes and blocks change on the way."""


@pytest.mark.parametrize("shape", [(8, 30), (30, 8), (16, 16)])
def test_steps_are_orthogonal(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    values = torch.linalg.svdvals(orthogonalise(torch.randn(shape)))
    assert values.min() > 0.5
    assert values.max() < 1.3


def test_muon_walks_downhill() -> None:
    torch.manual_seed(0)
    target = torch.randn(4, 3, 2, 2)
    weight = torch.nn.Parameter(torch.zeros(4, 3, 2, 2))
    optimizer = Muon([weight], lr=0.1, weight_decay=0.0)
    for _ in range(60):
        optimizer.zero_grad()
        (weight - target).square().sum().backward()
        optimizer.step()
    assert (weight - target).norm() < 0.3 * target.norm()


def test_the_trained_tower_encodes_as_open_clip_does() -> None:
    model = EMBEDDED["tiny"].load()
    pixels = torch.randn(3, 3, 64, 64)
    with torch.no_grad():
        expected = model.encode_image(pixels, normalize=True)
        assert torch.allclose(encode_images(model, pixels), expected, atol=1e-6)
        assert encode_images(model, pixels[:, :, :48, :48]).shape == expected.shape


def test_silent_blocks_may_be_left_out() -> None:
    model = build_tiny().eval()
    silence_blocks(model)
    pixels = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(encode_images(model, pixels, blocks=False), encode_images(model, pixels))


def run_to(out: Path, images: Any, labels: Any) -> dict[str, Any]:
    """Trains from `out`'s checkpoint if there is one; the final moving average."""
    torch.manual_seed(0)
    model = build_tiny()
    silence_blocks(model)
    run = train.Run(model, TREE, CONFIG)
    if (out / "checkpoint.pt").exists():
        run.load(out / "checkpoint.pt")
    train.train_images(run, images, labels, [], torch.empty(0), out)
    return run.average.module.state_dict()


def test_a_run_that_was_killed_ends_like_one_that_was_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    images = torch.randint(
        0, 256, (12, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )
    labels = torch.arange(12) % 3
    monkeypatch.setattr(train, "SAVE_SECONDS", 0.0)
    monkeypatch.setattr(train, "EMA_STEPS", 1)
    (tmp_path / "whole").mkdir()
    (tmp_path / "killed").mkdir()
    whole = run_to(tmp_path / "whole", images, labels)

    save, saved = train.Run.save, 0

    def dying_save(self: train.Run, path: Path) -> None:
        nonlocal saved
        save(self, path)
        saved += 1
        if saved == 7:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(train.Run, "save", dying_save)
        with pytest.raises(KeyboardInterrupt):
            run_to(tmp_path / "killed", images, labels)
    resumed = run_to(tmp_path / "killed", images, labels)
    assert saved == 7
    for name, tensor in whole.items():
        assert torch.equal(resumed[name], tensor), name
    assert (tmp_path / "killed" / "weights.safetensors").exists()
