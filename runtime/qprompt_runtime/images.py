"""Preprocessing: from a photo to the image tower's input.

A bundle's manifest says how its model wants images (`ImageTransform`). Resizing, cropping and normalisation
here give exactly the pixels that open_clip gives the model it was trained with, with only pillow and numpy.
`decode` decodes files, with everything that can be wrong with them.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

from qprompt_runtime.arrays import Array
from qprompt_runtime.decode import Source, decode, decoding_bytes, image_errors
from qprompt_runtime.errors import BundleError
from qprompt_runtime.photo_sources import name_of

MAX_ASPECT = 32
"""A strip longer than this many times its width is cut at its centre before it is resized."""

_FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
_RESIZE_MODES = ("shortest", "longest", "squash")


@dataclass(frozen=True)
class ImageTransform:
    """How a model wants its images, as kept in the manifest.

    Has the fields of open_clip's `PreprocessCfg`, with the same meaning.

    Attributes:
        size: Height and width of the model's input.
        resize_mode: `shortest` (fill the input, cut what hangs over), `longest` (fit all in, pad), or
            `squash`.
        interpolation: `bicubic` or `bilinear`.
        mean: Mean of each channel, on the scale 0 to 1.
        std: Standard deviation of each channel, on the scale 0 to 1.
        fill_color: Grey level, 0 to 255, of the padding of `longest`.

    Raises:
        BundleError: A value is none of these (lists, as JSON has them, are taken as tuples).
    """

    size: tuple[int, int]
    resize_mode: str = "shortest"
    interpolation: str = "bicubic"
    mean: tuple[float, float, float] = (0.48145466, 0.4578275, 0.40821073)
    std: tuple[float, float, float] = (0.26862954, 0.26130258, 0.27577711)
    fill_color: int = 0

    def __post_init__(self) -> None:
        for name in ("size", "mean", "std"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        valid = {
            "size": len(self.size) == 2 and all(side in range(1, 4097) for side in self.size),
            "resize_mode": self.resize_mode in _RESIZE_MODES,
            "interpolation": self.interpolation in _FILTERS,
            "mean": len(self.mean) == 3 and all(math.isfinite(value) for value in self.mean),
            "std": len(self.std) == 3 and all(math.isfinite(value) and value > 0 for value in self.std),
            "fill_color": self.fill_color in range(256),
        }
        for name, good in valid.items():
            if not good:
                value = getattr(self, name)
                raise BundleError(f"image preprocessing: {name} cannot be {value!r}; export the bundle again")


def read_image(source: Source, transform: ImageTransform | None = None, channels: str = "RGB") -> Image.Image:
    """Decode a photo to upright RGB, large JPEGs at a reduced size that still loses nothing for `transform`.

    Args:
        source: A path, the bytes of a file, an open file, a pillow image, or an array; as `decode` takes
            them.
        transform: What the image is for. None decodes at full size.
        channels: Of an array, the order of its last axis: `RGB` or `BGR`.

    Returns:
        An image of mode RGB, as `decode` describes it.

    Raises:
        ImageError: The photo cannot be read, or is refused; one line that begins with the path.
    """
    return decode(source, None if transform is None else functools.partial(_resized, transform), channels)


def reading_bytes(source: Source, transform: ImageTransform) -> int:
    """Most memory that `read_image` takes for a photo, from its header alone.

    Raises:
        ImageError: As `read_image`, as far as the header shows it.
    """
    return decoding_bytes(source, functools.partial(_resized, transform))


def load_pixels(source: Source, transform: ImageTransform, channels: str = "RGB") -> Array:
    """Decode a photo and bring it to the form that the image tower reads: [3, H, W] float32.

    Raises:
        ImageError: As `read_image`.
    """
    image = read_image(source, transform, channels)
    with image_errors(name_of(source)):
        return to_pixels(image, transform)


def to_pixels(image: Image.Image, transform: ImageTransform) -> Array:
    """Resize, crop or pad, and normalise, as open_clip 3.3's `image_transform_v2(cfg, is_train=False)`.

    Args:
        image: Mode RGB, any size.
        transform: The model's preprocessing.

    Returns:
        [3, H, W] float32, contiguous; the same as open_clip's to the last bit, save for strips longer than
        `MAX_ASPECT` times their width, whose ends no crop would show.
    """
    if transform.resize_mode == "shortest":
        image = _shortened(image)
    height, width = _resized(transform, image.height, image.width)
    # open_clip leaves the interpolation at its default where the input is not square.
    odd = transform.resize_mode == "shortest" and transform.size[0] != transform.size[1]
    resampling = Image.Resampling.BICUBIC if odd else _FILTERS[transform.interpolation]
    if (width, height) != image.size:
        image = _resized_and_cut(image, (width, height), transform.size[1], resampling)
    return _normalised(_centred(image, transform), transform)


def augment(
    image: Image.Image,
    transform: ImageTransform,
    rng: np.random.Generator,
    scale: tuple[float, float] = (0.5, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
) -> Array:
    """A random view of a photo: a random part of it, resized to the input, mirrored half of the time.

    Follows torchvision's `RandomResizedCrop` and `RandomHorizontalFlip`. CoOp takes parts down to 8% of the
    area; half of it is the default here because a view is encoded once and then seen in every epoch, so each
    one should still show its object, and because it keeps within what a reduced JPEG resolves.

    Args:
        image: Mode RGB, any size.
        transform: The model's preprocessing.
        rng: Source of all randomness; the same state gives the same view.
        scale: Least and greatest share of the image's area.
        ratio: Least and greatest width by height of the part, before resizing.

    Returns:
        [3, H, W] float32, normalised as `to_pixels` does.
    """
    left, top, width, height = _random_part(image.width, image.height, rng, scale, ratio)
    image = image.crop((left, top, left + width, top + height))
    image = image.resize(transform.size[::-1], _FILTERS[transform.interpolation])
    if rng.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return _normalised(image, transform)


def _resized(transform: ImageTransform, height: int, width: int) -> tuple[int, int]:
    """Height and width after resizing, before the crop; rounding as torchvision and open_clip do it."""
    target_height, target_width = transform.size
    if transform.resize_mode == "squash":
        return target_height, target_width
    if transform.resize_mode == "shortest" and target_height == target_width:
        long = int(target_height * max(height, width) / min(height, width))
        return (target_height, long) if height <= width else (long, target_width)
    pick = max if transform.resize_mode == "longest" else min
    ratio = pick(height / target_height, width / target_width)
    return max(1, round(height / ratio)), max(1, round(width / ratio))


def _shortened(image: Image.Image) -> Image.Image:
    """Cut the ends off a very long strip, which resized by its short side would take gigabytes."""
    limit = MAX_ASPECT * min(image.size)
    width, height = min(image.width, limit), min(image.height, limit)
    if (width, height) == image.size:
        return image
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


def _resized_and_cut(
    image: Image.Image, size: tuple[int, int], most: int, resampling: Image.Resampling
) -> Image.Image:
    """Resize to width and height; columns that hang over are cut between pillow's two passes."""
    if size[0] <= most:
        return image.resize(size, resampling)
    left = _offset(size[0], most)
    image = image.resize((size[0], image.height), resampling).crop((left, 0, left + most, image.height))
    return image.resize((most, size[1]), resampling)


def _offset(side: int, target: int) -> int:
    """Where the centre of a longer side begins; rounding as torchvision's centre crop."""
    return round((side - target) / 2)


def _centred(image: Image.Image, transform: ImageTransform) -> Image.Image:
    """Cut or pad each side equally, to the input size."""
    height, width = transform.size
    if image.size == (width, height):
        return image
    fill = transform.fill_color if transform.resize_mode == "longest" else 0
    left, top = (
        (target - side) // 2 if target > side else -_offset(side, target)
        for target, side in zip((width, height), image.size, strict=True)
    )
    canvas = Image.new("RGB", (width, height), (fill, fill, fill))
    canvas.paste(image, (left, top))
    return canvas


def _normalised(image: Image.Image, transform: ImageTransform) -> Array:
    """[H, W, 3] bytes to [3, H, W] float32: (x / 255 - mean) / std."""
    planes = np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))  # bytes move faster than floats
    pixels = planes.astype(np.float32)
    pixels /= np.float32(255)
    pixels -= np.asarray(transform.mean, dtype=np.float32).reshape(3, 1, 1)
    pixels /= np.asarray(transform.std, dtype=np.float32).reshape(3, 1, 1)
    return pixels


def _random_part(
    width: int, height: int, rng: np.random.Generator, scale: tuple[float, float], ratio: tuple[float, float]
) -> tuple[int, int, int, int]:
    """Left, top, width and height of a random part.

    After ten misses, the largest central part of an allowed shape.
    """
    for _ in range(10):
        area = width * height * rng.uniform(*scale)
        aspect = math.exp(rng.uniform(math.log(ratio[0]), math.log(ratio[1])))
        part_width, part_height = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < part_width <= width and 0 < part_height <= height:
            left = int(rng.integers(0, width - part_width + 1))
            top = int(rng.integers(0, height - part_height + 1))
            return left, top, part_width, part_height
    part_width = max(1, min(width, round(height * ratio[1])))
    part_height = max(1, min(height, round(width / ratio[0])))
    return (width - part_width) // 2, (height - part_height) // 2, part_width, part_height
