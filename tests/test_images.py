"""Pixels are those that open_clip would give the model; views for training are random but repeatable."""

import numpy as np
import pytest
from PIL import Image

from qprompt_runtime.errors import BundleError
from qprompt_runtime.images import ImageTransform, augment, to_pixels

SMALL = ImageTransform((8, 8))
RED, WHITE = (255, 0, 0), (255, 255, 255)


def smooth(width: int, height: int) -> Image.Image:
    """A picture without symmetry; red grows to the right."""
    x, y = np.linspace(0, 1, width)[None, :], np.linspace(0, 1, height)[:, None]
    channels = [255 * x + 0 * y, 255 * y + 0 * x, 127 * (1 + np.sin(3 * x + 5 * y))]
    return Image.fromarray(np.stack(channels, axis=-1).astype(np.uint8))


TRANSFORMS = [
    ImageTransform((24, 24)),
    ImageTransform((24, 24), interpolation="bilinear"),
    ImageTransform((20, 32)),
    ImageTransform((32, 20), interpolation="bilinear"),
    ImageTransform((24, 24), "squash", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
    ImageTransform((17, 24), "squash", "bilinear"),
    ImageTransform((24, 24), "longest"),
    ImageTransform((21, 30), "longest", "bilinear", fill_color=124),
]
SIZES = [(24, 24), (100, 60), (61, 100), (7, 5), (333, 24), (25, 24), (24, 333), (1, 9), (500, 375)]


@pytest.mark.export
@pytest.mark.parametrize("transform", TRANSFORMS, ids=repr)
def test_pixels_equal_open_clips(transform: ImageTransform) -> None:
    pytest.importorskip("open_clip")
    from open_clip.transform import PreprocessCfg, image_transform_v2

    config = PreprocessCfg(
        size=transform.size[0] if transform.size[0] == transform.size[1] else transform.size,
        mean=transform.mean,
        std=transform.std,
        interpolation=transform.interpolation,
        resize_mode=transform.resize_mode,
        fill_color=transform.fill_color,
    )
    rng = np.random.default_rng(1)
    for width, height in SIZES:
        image = Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
        expected = image_transform_v2(config, is_train=False)(image).numpy()
        gap = np.abs(to_pixels(image, transform) - expected).max()
        assert gap <= 1e-6, f"{width} x {height}: {gap}"


@pytest.mark.parametrize("filter_name", ["bicubic", "bilinear"])
def test_cutting_between_the_passes_changes_no_bit(filter_name: str) -> None:
    transform = ImageTransform((24, 24), interpolation=filter_name, mean=(0, 0, 0), std=(1, 1, 1))
    rng = np.random.default_rng(2)
    for width, height in [*SIZES, (640, 480), (641, 359), (26, 24), (50, 25)]:
        image = Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
        long = int(24 * max(width, height) / min(width, height))
        size = (24, long) if width <= height else (long, 24)
        whole = image.resize(size, Image.Resampling[filter_name.upper()])
        left, top = (round((side - 24) / 2) for side in size)
        expected = np.asarray(whole.crop((left, top, left + 24, top + 24)), np.float32) / np.float32(255)
        assert np.array_equal(to_pixels(image, transform), expected.transpose(2, 0, 1)), (width, height)


def test_pixels_by_hand() -> None:
    image = Image.new("RGB", (4, 2), (255, 0, 51))
    transform = ImageTransform((2, 2), mean=(0.5, 0.5, 0.2), std=(0.5, 0.25, 1.0))
    pixels = to_pixels(image, transform)
    assert pixels.dtype == np.float32
    assert pixels.flags.c_contiguous
    np.testing.assert_allclose(pixels[:, 0, 0], [1, -2, 0], atol=1e-7)


def test_the_longest_side_decides_and_the_rest_is_padded() -> None:
    plain = ImageTransform((4, 4), "longest", mean=(0, 0, 0), std=(1, 1, 1), fill_color=51)
    pixels = to_pixels(Image.new("RGB", (8, 4), WHITE), plain)
    np.testing.assert_allclose(pixels[0, :, 0], [0.2, 1, 1, 0.2], atol=1e-7)


@pytest.mark.parametrize("size", [(40_000, 1), (1, 40_000)])
@pytest.mark.parametrize("mode", ["shortest", "longest", "squash"])
def test_long_strips_stay_small(size: tuple[int, int], mode: str) -> None:
    pixels = to_pixels(Image.new("RGB", size, WHITE), ImageTransform((224, 224), mode))
    assert pixels.shape == (3, 224, 224)


def test_views_are_random_but_repeatable() -> None:
    image, transform = smooth(60, 40), ImageTransform((16, 12))
    first = [augment(image, transform, np.random.default_rng(5)) for _ in range(2)]
    assert first[0].shape == (3, 16, 12)
    assert np.array_equal(*first)
    rng = np.random.default_rng(5)
    views = [augment(image, transform, rng) for _ in range(20)]
    assert len({view.tobytes() for view in views}) == 20
    mirrored = sum(bool(view[0, :, 0].mean() > view[0, :, -1].mean()) for view in views)
    assert 3 <= mirrored <= 17  # red grows to the right


def test_views_of_extreme_shapes() -> None:
    for size in [(1, 1), (200, 1), (1, 200)]:
        view = augment(Image.new("RGB", size, RED), SMALL, np.random.default_rng(0))
        assert np.isfinite(view).all()


@pytest.mark.parametrize(
    "wrong",
    [
        {"size": (0, 8)},
        {"size": (8,)},
        {"size": (8.5, 8)},
        {"resize_mode": "fit"},
        {"interpolation": "random"},
        {"std": (1.0, 0.0, 1.0)},
        {"mean": (float("nan"), 0.0, 0.0)},
        {"fill_color": 256},
    ],
)
def test_a_transform_of_wrong_values_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(BundleError, match=next(iter(wrong))):
        ImageTransform(**{"size": (8, 8), **wrong})  # type: ignore[arg-type]


def test_json_lists_are_taken() -> None:
    assert ImageTransform([8, 8], mean=[0, 0, 0]) == ImageTransform((8, 8), mean=(0, 0, 0))  # type: ignore[arg-type]
