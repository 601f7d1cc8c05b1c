"""Sharpness and brightness of photos: what they mean, and that each photo is measured once."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageFilter
from scenes import write_photo, write_photos

from qprompt_edge.data import features as features_module
from qprompt_edge.data.feature_cache import FeatureCache
from qprompt_edge.data.features import encode_photos, feature_identity
from qprompt_edge.data.photo_quality import Quality, QualityCache, measure
from qprompt_runtime.backbone import Backbone
from qprompt_runtime.errors import OutputError

PHOTO = Path(__file__).parent.parent / "examples" / "photos" / "leaf" / "00.jpg"
SIDE = 112


@pytest.fixture
def image() -> Image.Image:
    return Image.open(PHOTO).convert("RGB")


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    return sorted(write_photos(tmp_path / "photos", count=2).rglob("*.png"))


def test_blurring_lowers_the_sharpness_and_little_else(image: Image.Image) -> None:
    sharp = measure(image, SIDE)
    soft = [measure(image.filter(ImageFilter.GaussianBlur(radius)), SIDE) for radius in (1, 2, 4)]
    figures = [sharp.sharpness, *(it.sharpness for it in soft)]
    assert figures == sorted(figures, reverse=True)
    assert figures[-1] < 0.1 * figures[0]
    assert soft[0].brightest == pytest.approx(sharp.brightest, abs=0.05)


def test_light_and_size_hardly_change_the_sharpness(image: Image.Image) -> None:
    figure = measure(image, SIDE).sharpness
    assert measure(ImageEnhance.Brightness(image).enhance(0.8), SIDE).sharpness == pytest.approx(
        figure, rel=0.1
    )
    assert measure(image.resize((512, 512)), SIDE).sharpness == pytest.approx(figure, rel=0.15)


def test_the_dark_and_the_bright_ends() -> None:
    levels = np.zeros((100, 100), np.uint8)
    levels[:4], levels[4:10], levels[90:] = 255, 204, 102
    quality = measure(Image.fromarray(levels), 100)
    assert (quality.darkest, quality.brightest) == pytest.approx((0, 0.8))
    assert measure(Image.new("L", (50, 50), 255), 50) == Quality(0.0, 1.0, 1.0)


@pytest.mark.parametrize("size", [(1, 1), (3, 900), (4000, 2)])
def test_any_shape_can_be_measured(size: tuple[int, int]) -> None:
    assert measure(Image.new("RGB", size, (9, 9, 9)), 32).brightest == pytest.approx(9 / 255)


def test_a_photo_is_measured_once(
    tiny: Backbone, paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    transform, identity = tiny.manifest.image_transform, feature_identity(tiny, 0, 1)
    plain = encode_photos(tiny, paths, cache=FeatureCache(tmp_path / "features", identity))
    read, decoded = features_module.read_image, []
    monkeypatch.setattr(features_module, "read_image", lambda *given: decoded.append(1) or read(*given))
    figures = []
    for _ in range(2):
        quality = QualityCache(transform, tmp_path / "quality")
        cache = FeatureCache(tmp_path / "features", identity)
        encoded = encode_photos(tiny, paths, cache=cache, quality=quality)
        assert np.array_equal(encoded.features, plain.features)
        figures.append([quality.get(key.tobytes()) for key in encoded.keys])
    assert len(decoded) == len(paths)  # by the first of the two: features were known, figures were not
    assert figures[0] == figures[1]
    assert None not in figures[0]


def test_measuring_changes_neither_features_nor_their_file(
    tiny: Backbone, paths: list[Path], tmp_path: Path
) -> None:
    identity = feature_identity(tiny, 1, 1)
    plain = encode_photos(tiny, paths, views=1, cache=FeatureCache(tmp_path / "plain", identity))
    quality = QualityCache(tiny.manifest.image_transform, None)
    cache = FeatureCache(tmp_path / "measured", identity)
    measured = encode_photos(tiny, paths, views=1, cache=cache, quality=quality)
    assert np.array_equal(measured.features, plain.features)
    assert np.array_equal(measured.hashes, plain.hashes)
    assert (tmp_path / "measured").read_bytes() == (tmp_path / "plain").read_bytes()


def test_bad_files_are_not_measured(tiny: Backbone, paths: list[Path], tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_text("no photo")
    quality = QualityCache(tiny.manifest.image_transform, None)
    encoded = encode_photos(tiny, [tmp_path / "bad.jpg", paths[0]], quality=quality)
    assert list(encoded.failures) == [0]
    assert [quality.get(key.tobytes()) is None for key in encoded.keys] == [True, False]


def test_figures_depend_on_the_size_at_which_a_model_sees(
    tiny: Backbone, shipped: Backbone, tmp_path: Path
) -> None:
    write_photo(tmp_path / "photo.png", (9, 99, 199), 1)
    for backbone in (tiny, shipped):
        quality = QualityCache(backbone.manifest.image_transform, tmp_path / "cache")
        quality.put(b"k" * 16, quality.measure(Image.open(tmp_path / "photo.png")))
        quality.save()
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_a_folder_that_cannot_be_written_is_told(tiny: Backbone, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    said: list[OutputError] = []
    quality = QualityCache(tiny.manifest.image_transform, tmp_path / "file", said.append)
    quality.put(b"k" * 16, Quality(1, 0, 1))
    quality.save()
    assert len(said) == 1
    assert quality.get(b"k" * 16) == Quality(1, 0, 1)
