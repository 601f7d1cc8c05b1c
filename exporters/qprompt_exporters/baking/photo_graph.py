"""The first part of a baked classifier that takes photos as bytes: `images.to_pixels` as ONNX operators.

`image` uint8 [N,H,W,3] of any size becomes `pixels` float32 [N,3,S,S]. `Resize` on bytes computes in
onnxruntime what pillow computes, to one step of 255 here and there. Every value is called `photo_...`, but
for the graph's input and `pixels`.
"""

from __future__ import annotations

import re

import numpy as np
import onnx
from numpy.typing import NDArray

from qprompt_exporters.baking.graphs import append_nodes
from qprompt_runtime.images import MAX_ASPECT, ImageTransform

IMAGE, PIXELS = "image", "pixels"

_SIDES = f"""
    photo_shape = Shape <start = 1, end = 3> ({IMAGE})
"""

# The ends of very long strips are cut off, which the crop would do anyway.
_STRIP = f"""
    photo_short = ReduceMin <keepdims = 1> (photo_shape, photo_axis)
    photo_limit = Mul (photo_short, photo_aspect)
    photo_sides = Min (photo_shape, photo_limit)
    photo_beyond = Sub (photo_shape, photo_sides)
    photo_start = Div (photo_beyond, photo_two)
    photo_end = Add (photo_start, photo_sides)
    photo_cut = Slice ({IMAGE}, photo_start, photo_end, photo_places)
"""

# The short side becomes the input's; int(size * long / short), as torchvision has it.
_SQUARE = """
    photo_times = Mul (photo_sides, photo_target)
    photo_resized = Div (photo_times, photo_short)
"""

# The ratio of the side that decides; round(side / ratio), half to even, as open_clip has it.
_RATIO = """
    photo_exact = Cast <to = 11> (photo_sides)
    photo_exact_target = Cast <to = 11> (photo_target)
    photo_ratios = Div (photo_exact, photo_exact_target)
    photo_ratio = {pick} <keepdims = 1> (photo_ratios, photo_axis)
    photo_divided = Div (photo_exact, photo_ratio)
    photo_rounded = Round (photo_divided)
    photo_whole = Cast <to = 7> (photo_rounded)
    photo_resized = Max (photo_whole, photo_one)
"""

_RESIZE = """
    photo_planes = Transpose <perm = [0, 3, 1, 2]> ({source})
    photo_outer = Shape <start = 0, end = 2> (photo_planes)
    photo_sizes = Concat <axis = 0> (photo_outer, photo_resized)
    photo_small = Resize <mode = "{mode}", antialias = 1, cubic_coeff_a = -0.5, exclude_outside = 1,
        coordinate_transformation_mode = "half_pixel"> (photo_planes, , , photo_sizes)
"""

# What hangs over is cut on both sides; an odd half is rounded to even, as torchvision's centre crop does.
_CROP = """
    photo_over = Sub (photo_resized, photo_target)
    photo_over_exact = Cast <to = 1> (photo_over)
    photo_half = Mul (photo_over_exact, photo_one_half)
    photo_half_rounded = Round (photo_half)
    photo_left = Cast <to = 7> (photo_half_rounded)
    photo_right = Add (photo_left, photo_target)
    photo_centred = Slice (photo_small, photo_left, photo_right, photo_plane_places)
"""

_PAD = """
    photo_missing = Sub (photo_target, photo_resized)
    photo_before = Div (photo_missing, photo_two)
    photo_behind = Sub (photo_missing, photo_before)
    photo_pads = Concat <axis = 0> (photo_none, photo_before, photo_none, photo_behind)
    photo_centred = Pad <mode = "constant"> (photo_small, photo_pads, photo_fill)
"""

_NORMALISE = f"""
    photo_values = Cast <to = 1> ({{source}})
    photo_shares = Div (photo_values, photo_most)
    photo_level = Sub (photo_shares, photo_mean)
    {PIXELS} = Div (photo_level, photo_std)
"""


def append_photo(graph: onnx.GraphProto, transform: ImageTransform) -> None:
    """Append what turns `image` into the `pixels` that a transform describes."""
    height, width = transform.size
    mode, square = transform.resize_mode, height == width
    # as in `images.to_pixels`: an input that is not square leaves the interpolation at its default
    bicubic = transform.interpolation == "bicubic" or (mode == "shortest" and not square)
    steps = [_SIDES]
    source, centred = "photo_cut", "photo_centred"
    if mode == "shortest":
        steps += [_STRIP, _SQUARE if square else _RATIO.format(pick="ReduceMin")]
    elif mode == "longest":
        steps += ["photo_sides = Identity (photo_shape)", _RATIO.format(pick="ReduceMax")]
        source = IMAGE
    else:
        steps += ["photo_resized = Identity (photo_target)"]
        source, centred = IMAGE, "photo_small"
    steps += [_RESIZE.format(source=source, mode="cubic" if bicubic else "linear")]
    steps += {"shortest": [_CROP], "longest": [_PAD], "squash": []}[mode]
    text = "\n".join([*steps, _NORMALISE.format(source=centred)])
    read = set(re.findall(r"\w+", text))
    append_nodes(graph, text, {name: a for name, a in _constants(transform).items() if name in read})


def _constants(transform: ImageTransform) -> dict[str, NDArray[np.generic]]:
    def channels(values: tuple[float, ...]) -> NDArray[np.float32]:
        return np.asarray(values, np.float32).reshape(1, 3, 1, 1)

    return {
        "photo_axis": np.array([0], np.int64),
        "photo_aspect": np.array([MAX_ASPECT], np.int64),
        "photo_one": np.array([1], np.int64),
        "photo_two": np.array([2], np.int64),
        "photo_one_half": np.asarray(np.float32(0.5)),
        "photo_none": np.zeros(2, np.int64),
        "photo_places": np.array([1, 2], np.int64),
        "photo_plane_places": np.array([2, 3], np.int64),
        "photo_target": np.array(transform.size, np.int64),
        "photo_fill": np.asarray(np.uint8(transform.fill_color)),
        "photo_most": np.asarray(np.float32(255)),
        "photo_mean": channels(transform.mean),
        "photo_std": channels(transform.std),
    }
