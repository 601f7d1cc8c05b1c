"""How `small` is trained.

Its trunk is the published network, targets follow from known places, and runs resume to the bit.
"""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("open_clip")

import timm
import torch
from torch import nn

from qprompt_exporters.embedded.small import targets
from qprompt_exporters.embedded.small.head_stage import Grids, HeadConfig, start_head, train_head
from qprompt_exporters.embedded.small.image_stage import ImageConfig, ImageData, ImageStage
from qprompt_exporters.embedded.small.model import build_small
from qprompt_exporters.embedded.small.trunk import Trunk, _fold, _trunk_state
from qprompt_exporters.embedded.small.views import SIZE, centre, crop, worsen
from qprompt_exporters.embedded.wordnet import Synset

pytestmark = pytest.mark.export

CONFIG = ImageConfig(steps=4, photos=2, thumbnails=2, hold_out=3)


@pytest.fixture(scope="module")
def network() -> nn.Module:
    """timm's network with random weights and statistics that are not those of a start."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    made = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.5, 2.0)
    return made


def test_the_folded_trunk_is_the_published_network(network: nn.Module) -> None:
    pixels = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected = network.classifier(network.global_pool(network.forward_features(pixels)))
        trunk = Trunk()
        trunk.load_state_dict(_trunk_state(_fold(network)))
        found = network.classifier(trunk(pixels))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_the_feature_starts_as_the_linear_map() -> None:
    """Cosines of features and mapped class weights order the classes as the centred classifier does.

    The classifier is compared on its leading axes, those that the map keeps.
    """
    rng = np.random.default_rng(0)
    classifier = rng.normal(size=(1000, 1280)).astype(np.float32)
    of_features, of_classes = targets.projection(classifier, 256)
    assert np.abs(of_features.sum(axis=1)).max() < 1e-3
    model = build_small().eval()
    mean = torch.from_numpy(rng.normal(size=1280).astype(np.float32))
    start_head(model.visual, classifier, mean, 1.0)
    grid, pooled = torch.randn(3, 320, 7, 7), torch.randn(3, 1280)
    with torch.no_grad():
        features = model.visual.features(model.visual.tokens(grid, pooled))
    expected = (pooled - mean) @ torch.from_numpy(of_features)
    cosine = torch.nn.functional.cosine_similarity(features, expected)
    torch.testing.assert_close(cosine, torch.ones(3), rtol=0, atol=1e-5)
    centred = classifier - classifier.mean(axis=0)
    axes = np.linalg.svd(centred, full_matrices=False)[2][:255]
    logits = (centred @ of_classes) @ ((pooled.numpy() - mean.numpy()) @ of_features).T
    np.testing.assert_allclose(
        logits, centred @ (axes.T @ axes) @ (pooled.numpy() - mean.numpy()).T, rtol=1e-3, atol=1e-1
    )


def synset(wnid: str, *parents: str) -> Synset:
    return Synset(wnid, 5, (f"name of {wnid}",), parents, f"gloss of {wnid}")


def test_kinds_in_common_make_nouns_alike() -> None:
    """Lin's similarity: 1 with itself, 0 where only the top is shared, more for a nearer kind in common."""
    names = {"top": (), "animal": ("top",), "dog": ("animal",), "cat": ("animal",), "tool": ("top",)}
    names |= {"poodle": ("dog",), "beagle": ("dog",)}
    tree = targets.Tree({wnid: synset(wnid, *parents) for wnid, parents in names.items()})
    vectors = tree.vectors(["poodle", "beagle", "cat", "tool"]).toarray()
    alike = vectors @ vectors.T
    np.testing.assert_allclose(np.diag(alike), 1, rtol=1e-9)
    assert alike[0, 1] > alike[0, 2] > alike[0, 3]
    assert alike[0, 3] < 0.01


def test_the_regression_keeps_what_is_known() -> None:
    rng = np.random.default_rng(0)
    names = {"top": (), **{f"n{i}": ("top",) for i in range(6)}}
    tree = targets.Tree({wnid: synset(wnid, *parents) for wnid, parents in names.items()})

    def unit(width: int) -> np.ndarray:
        rows = rng.normal(size=(6, width)).astype(np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    views = targets.NounViews(unit(8), unit(4), tree.vectors(list(names)[1:]))
    known = targets.Prototypes([], rng.normal(size=(6, 5)).astype(np.float32), np.ones(6, np.float32))
    found = targets.regress(views, known, views, block=4)
    lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(known.vectors, axis=1)
    cosines = (found * known.vectors).sum(axis=1) / lengths
    assert cosines.min() > 0.97


def image_data() -> ImageData:
    rng = np.random.default_rng(0)
    photos = [torch.from_numpy(rng.integers(0, 256, (3, 70, 90), dtype=np.uint8)) for _ in range(6)]
    thumbnails = torch.from_numpy(rng.integers(0, 256, (12, 3, 64, 64), dtype=np.uint8))
    labels = np.arange(12) % 6
    return ImageData(photos, torch.arange(6), thumbnails, labels, torch.arange(10, 16))


def image_stage() -> ImageStage:
    torch.manual_seed(3)
    return ImageStage(Trunk().eval(), (torch.randn(1000, 1280), torch.zeros(1000)), image_data(), CONFIG)


def test_an_image_run_resumes_to_the_bit(tmp_path: Path) -> None:
    whole, stopped = image_stage(), image_stage()
    still = {
        n: t.clone() for n, t in whole.trunk.state_dict().items() if n.startswith(("conv_stem", "blocks.1"))
    }
    for _ in range(2):
        whole.update()
    stopped.update()
    stopped.save(tmp_path / "image.pt")
    resumed = image_stage()
    resumed.load(tmp_path / "image.pt")
    resumed.update()
    assert resumed.step == 2
    for name, tensor in whole.trunk.state_dict().items():
        assert torch.equal(tensor, resumed.trunk.state_dict()[name]), name
    for name, tensor in still.items():
        assert torch.equal(tensor, whole.trunk.state_dict()[name]), name
    start = image_stage().trunk.state_dict()
    assert not torch.equal(start["conv_head.weight"], whole.trunk.state_dict()["conv_head.weight"])


def test_the_blocks_learn_and_the_linear_map_stays() -> None:
    torch.manual_seed(0)
    model = build_small()
    start_head(
        model.visual,
        np.random.default_rng(0).normal(size=(1000, 1280)).astype(np.float32),
        torch.zeros(1280),
        1.0,
    )
    before = {name: tensor.clone() for name, tensor in model.visual.state_dict().items()}
    wanted = nn.functional.one_hot(torch.arange(16), 1000).half()
    grids = Grids(
        torch.randn(16, 320, 7, 7).half(),
        torch.rand(16, 1280).half(),
        wanted,
        torch.arange(16) >= 8,
        torch.arange(16) < 4,
    )
    names = nn.functional.normalize(torch.randn(1000, 256), dim=1)
    train_head(model, grids, names, HeadConfig(steps=3, batch_size=8))
    after = model.visual.state_dict()
    for name in ("pooled.weight", "class_embedding", "proj", "conv1.conv_head.weight"):
        assert torch.equal(before[name], after[name]), name
    assert not torch.equal(before["transformer.resblocks.1.mlp.c_proj.weight"],
                           after["transformer.resblocks.1.mlp.c_proj.weight"])  # fmt: skip


@pytest.mark.parametrize("shape", [(3, 64, 64), (3, 50, 300), (3, 300, 40)])
def test_views_have_the_size_and_range_that_the_trunk_reads(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(1)
    image = torch.from_numpy(rng.integers(0, 256, shape, dtype=np.uint8))
    for view in (centre(image), *(worsen(crop(image, 0.3, rng), 20, 160, rng) for _ in range(40))):
        assert view.shape == (3, SIZE, SIZE)
        assert view.min() >= 0
        assert view.max() <= 1
