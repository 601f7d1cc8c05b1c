"""How each thing on the belt looks: potatoes, carrots, tomatoes, and what must be picked out.

A thing is a function of the plane, [-1, 1] or so both ways, that gives its outline, its height and its
colour. All chance comes from the generator that it is given, in a fixed order: a draw more or less changes
every photo.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Array = NDArray[np.float64]
Rng = np.random.Generator

SIDE = 128
CANVAS = 2 * SIDE  # rendered at twice the size, then halved: smooth edges
SOIL = (0.23, 0.17, 0.12)


@dataclass
class Thing:
    """One object in its own coordinates, about 2 units long.

    Attributes:
        distance: [H, W], negative inside the outline.
        height: [H, W] above the belt, in the same units as x and y.
        colour: [H, W, 3], 0 to 1, as under white light.
        gloss: Strength of the highlight.
        metal: How much it mirrors its surroundings, 0 to 1.
        opacity: 1 hides the belt, less shows it through.
    """

    distance: Array
    height: Array
    colour: Array
    gloss: float = 0.1
    metal: float = 0.0
    opacity: float = 1.0


def cloud(rng: Rng, cells: int, octaves: int = 3) -> Array:
    """[CANVAS, CANVAS] smooth noise of mean 0 and standard deviation 1.

    It has `cells` bumps across, then ever finer ones.
    """
    total = np.zeros((CANVAS, CANVAS))
    for octave in range(octaves):
        side = min(cells * 2**octave, CANVAS)
        grid = Image.fromarray(rng.standard_normal((side, side)).astype(np.float32))
        total += np.asarray(grid.resize((CANVAS, CANVAS), Image.Resampling.BICUBIC)) / 2**octave
    scaled: Array = (total - total.mean()) / total.std()
    return scaled


def painted(rng: Rng, colour: tuple[float, ...], spread: float = 0.05) -> Array:
    """[H, W, 3] of one colour, a little off its nominal value."""
    tone = np.array(colour) * (1 + rng.normal(0, spread)) + rng.normal(0, spread / 3, 3)
    return np.ones((CANVAS, CANVAS, 1)) * np.clip(tone, 0.02, 0.98)


def mixed(below: Array, above: Array | tuple[float, ...], share: NDArray[Any]) -> Array:
    """Lay a colour over another; `share` is [H, W], 0 to 1."""
    result: Array = below + (np.asarray(above) - below) * np.clip(share, 0, 1)[..., None]
    return result


def pick(rng: Rng, *colours: tuple[float, float, float]) -> tuple[float, float, float]:
    """One of the colours."""
    return colours[int(rng.integers(len(colours)))]


def capsule(x: Array, y: Array, start: tuple[float, float], end: tuple[float, float], radius: float) -> Array:
    """Distance to a rounded stick."""
    along = np.subtract(end, start)
    place = np.clip(((x - start[0]) * along[0] + (y - start[1]) * along[1]) / (along @ along), 0, 1)
    reached: Array = np.hypot(x - start[0] - place * along[0], y - start[1] - place * along[1])
    return reached - radius


def rounded(distance: Array, radius: float) -> Array:
    """Height of a body whose edges are rounded off with a radius."""
    depth = np.clip(-distance, 0, radius)
    return np.sqrt(radius**2 - (radius - depth) ** 2)


def lathe(y: Array, width: Array) -> Array:
    """Height of a body of revolution around the x axis, `width` its radius at each x."""
    return np.sqrt(np.clip(width**2 - y**2, 0, None))


def potato(x: Array, y: Array, rng: Rng) -> Thing:
    """A lumpy ball with eyes and some earth on it."""
    angle = np.arctan2(y, x)
    lumps = sum(rng.normal(0, 0.07 / k) * np.cos(k * angle + rng.uniform(0, 6.3)) for k in range(1, 5))
    q = np.hypot(x, y / rng.uniform(0.62, 0.85)) / (0.85 + lumps)
    height = 0.6 * np.sqrt(np.clip(1 - q**2, 0, None))
    skin = pick(rng, (0.74, 0.58, 0.36), (0.83, 0.69, 0.42), (0.68, 0.5, 0.31), (0.66, 0.38, 0.33))
    colour = painted(rng, skin) * (1 + 0.08 * cloud(rng, 12))[..., None]
    for _ in range(int(rng.integers(5, 10))):
        eye = np.exp(
            -(np.hypot((x - rng.uniform(-0.7, 0.7)) / 1.6, y - rng.uniform(-0.5, 0.5)) ** 2) / 0.0025
        )
        colour, height = mixed(colour, (0.3, 0.2, 0.12), 0.7 * eye), height - 0.05 * eye
    colour = mixed(colour, SOIL, 0.7 * (cloud(rng, 5) - rng.uniform(0.8, 2)))
    return Thing((q - 1) * 0.7, height, colour, gloss=0.05)


def carrot(x: Array, y: Array, rng: Rng) -> Thing:
    """An orange cone with rings and the stubs of its green."""
    y = y + rng.uniform(-0.18, 0.18) * x**2
    t = np.clip((x + 0.75) / 1.75, 0, 1)
    width = rng.uniform(0.24, 0.34) * (1 - t) ** rng.uniform(0.45, 0.7) * np.clip((x + 0.78) * 9, 0, 1) ** 0.5
    distance = np.maximum(np.abs(y) - width, np.abs(x - 0.12) - 0.9)
    colour = painted(rng, pick(rng, (0.93, 0.46, 0.12), (0.9, 0.4, 0.1), (0.95, 0.56, 0.2)), 0.03)
    rings = np.sin(x * rng.uniform(26, 36) + cloud(rng, 5)) * (cloud(rng, 9) > 0.2)
    colour = mixed(colour, (0.55, 0.24, 0.07), 0.55 * np.clip(rings - 0.6, 0, 1) * 2)
    height = lathe(y, width) - 0.012 * np.clip(rings, 0, 1)
    for _ in range(int(rng.integers(3, 7))):
        tip = (-0.72 - rng.uniform(0.15, 0.5), rng.uniform(-0.3, 0.3))
        stem = capsule(x, y, (-0.72, rng.uniform(-0.06, 0.06)), tip, rng.uniform(0.03, 0.06))
        green = pick(rng, (0.35, 0.52, 0.16), (0.26, 0.44, 0.14), (0.5, 0.6, 0.25))
        colour = np.where((stem < 0)[..., None], painted(rng, green), colour)
        distance, height = np.minimum(distance, stem), np.maximum(height, rounded(stem, 0.05))
    colour = mixed(colour, SOIL, 0.6 * (cloud(rng, 6) - rng.uniform(1, 2.2)))
    return Thing(distance, height, colour, gloss=0.15)


def tomato(x: Array, y: Array, rng: Rng) -> Thing:
    """A glossy red ball, its green star turned to anywhere but below."""
    angle = np.arctan2(y, x)
    lobes = rng.uniform(0, 0.04) * np.cos(5 * angle + rng.uniform(0, 6.3))
    q = np.hypot(x, y * rng.uniform(1, 1.25)) / (0.78 + lobes)
    height = 0.7 * np.sqrt(np.clip(1 - q**2, 0, None))
    colour = painted(rng, pick(rng, (0.82, 0.11, 0.07), (0.75, 0.07, 0.08), (0.88, 0.26, 0.08)), 0.03)
    colour = mixed(colour, (0.85, 0.55, 0.12), 0.3 * cloud(rng, 2, 1))
    cx, cy = rng.uniform(-0.4, 0.4, 2)
    around = np.arctan2(y - cy, x - cx) * 2.5 + rng.uniform(0, 6.3)
    reach = rng.uniform(0.25, 0.45) * (0.12 + 0.88 * np.abs(np.cos(around)) ** 3)
    star = np.clip((reach - np.hypot(x - cx, y - cy)) * 25, 0, 1)
    colour = mixed(colour, pick(rng, (0.2, 0.4, 0.1), (0.32, 0.46, 0.15)), star)
    return Thing((q - 1) * 0.75, height + 0.03 * star, colour, gloss=0.6)


def leaf(x: Array, y: Array, rng: Rng) -> Thing:
    """Thin, with veins, fresh or withered, pointed or lobed."""
    y = y + rng.uniform(-0.25, 0.25) * x**2
    teeth = rng.uniform(0, 0.05) * np.abs((x * rng.uniform(6, 11)) % 1 - 0.5)
    if rng.random() < 0.7:
        t = np.clip((x + 0.95) / 1.9, 0, 1) ** rng.uniform(0.7, 1.1)
        distance = np.abs(y) - rng.uniform(0.3, 0.55) * np.sin(np.pi * t) + teeth
    else:
        angle = np.arctan2(y, x)
        distance = (
            np.hypot(x, y)
            - 0.55
            - 0.35 * np.abs(np.cos(2.5 * angle)) ** 2 * (1 + 0.4 * np.cos(angle))
            + teeth
        )
    inside = np.clip(-distance * 20, 0, 1)
    side = (x - np.abs(y) * rng.uniform(0.7, 1.1)) * rng.uniform(4, 6.5)
    veins = np.exp(-((y / 0.025) ** 2)) + 0.7 * np.exp(-(((side % 1 - 0.5) / 0.09) ** 2))
    stem = capsule(x, y, (-0.5, 0.0), (-1.25, rng.uniform(-0.15, 0.15)), 0.025)
    tone = pick(
        rng, (0.22, 0.45, 0.12), (0.3, 0.55, 0.16), (0.16, 0.36, 0.14), (0.55, 0.55, 0.15), (0.6, 0.36, 0.14)
    )
    colour = painted(rng, tone, 0.04) * (1 + 0.1 * cloud(rng, 6))[..., None]
    colour = mixed(colour, np.array(tone) * 0.5 + 0.4, 0.55 * veins)
    colour = mixed(colour, (0.42, 0.28, 0.12), 0.8 * (cloud(rng, 4) - rng.uniform(0.8, 2.5)))
    height = inside * (0.06 + 0.05 * cloud(rng, 3, 1) - 0.02 * veins) + rounded(stem, 0.025)
    return Thing(np.minimum(distance, stem), height, colour, gloss=0.12)


def stone(x: Array, y: Array, rng: Rng) -> Thing:
    """A broken piece of rock: flat faces, grey, speckled, sometimes with a vein of quartz."""
    corners = int(rng.integers(6, 10))
    distance, height = np.full_like(x, -9.0), np.full_like(x, rng.uniform(0.3, 0.5))
    for angle in (np.arange(corners) + rng.uniform(-0.35, 0.35, corners)) * 2 * np.pi / corners:
        face = np.cos(angle) * x + np.sin(angle) * y - rng.uniform(0.55, 0.9)
        distance = np.maximum(distance, face + 0.02 * np.sin(7 * x + 5 * y))
        height = np.minimum(height, -face * rng.uniform(0.7, 2.5))
    tilt = rng.normal(0, 0.15, 2)
    height = np.clip(height + tilt[0] * x + tilt[1] * y, 0, None) + 0.02 * cloud(rng, 8, 4)
    tone = pick(rng, (0.5, 0.5, 0.5), (0.36, 0.38, 0.42), (0.6, 0.58, 0.54), (0.44, 0.4, 0.37))
    colour = painted(rng, tone, 0.03) * (1 + 0.12 * cloud(rng, 24, 3))[..., None]
    colour = mixed(colour, (0.85, 0.84, 0.8), 0.8 * (cloud(rng, 90, 1) - 1.6))
    colour = mixed(colour, (0.12, 0.12, 0.13), 0.8 * (cloud(rng, 80, 1) - 1.5))
    if rng.random() < 0.4:
        line = np.abs(np.cos(1.2) * x + np.sin(1.2) * y + 0.05 * cloud(rng, 4) - rng.uniform(-0.2, 0.2))
        colour = mixed(colour, (0.88, 0.87, 0.84), 1 - line / 0.05)
    return Thing(distance, height, colour, gloss=0.04)


def glove(x: Array, y: Array, rng: Rng) -> Thing:
    """A work glove, fingers spread more or less, with a cuff."""
    palm = np.hypot(np.clip(np.abs(x + 0.2) - 0.22, 0, None), np.clip(np.abs(y) - 0.2, 0, None)) - 0.16
    distance, spread = palm, rng.uniform(0.05, 0.3)
    for number in range(4):
        root = (0.1, -0.27 + 0.18 * number)
        turn = (number - 1.5) * spread + rng.normal(0, 0.08)
        length = (0.55, 0.68, 0.64, 0.48)[number] * rng.uniform(0.75, 1.1)
        tip = (root[0] + length * np.cos(turn), root[1] + length * np.sin(turn))
        distance = np.minimum(distance, capsule(x, y, root, tip, 0.085))
    thumb = (rng.uniform(0.05, 0.3), rng.uniform(0.55, 0.72))
    distance = np.minimum(distance, capsule(x, y, (-0.3, 0.25), thumb, 0.095))
    cuff = np.maximum(np.abs(x + 0.75) - 0.25, np.abs(y) - 0.3 - 0.06 * np.abs(x + 0.55))
    colours = ((0.13, 0.3, 0.68), (0.9, 0.75, 0.12), (0.92, 0.42, 0.1), (0.14, 0.48, 0.3), (0.75, 0.12, 0.15))
    colour = painted(rng, pick(rng, *colours, (0.8, 0.78, 0.74)), 0.04)
    trim = pick(rng, (0.85, 0.84, 0.8), (0.15, 0.15, 0.17), (0.5, 0.5, 0.52))
    colour = np.where((cuff < 0)[..., None], painted(rng, trim), colour)
    knit = 0.012 * np.sin(x * 75) * (cuff < 0)
    distance = np.minimum(distance, cuff)
    wrinkles = 0.02 * cloud(rng, 9, 2) * np.clip(-distance * 15, 0, 1)
    colour = mixed(colour, SOIL, 0.5 * (cloud(rng, 5) - rng.uniform(0.8, 2)))
    return Thing(distance, rounded(distance, 0.14) + wrinkles + knit, colour, gloss=rng.uniform(0.05, 0.3))


def bolt(x: Array, y: Array, rng: Rng) -> Thing:
    """A hexagon bolt on its side: head, shaft and thread, bright, brass or rusty."""
    radius, end = rng.uniform(0.13, 0.19), rng.uniform(0.55, 0.95)
    start = rng.uniform(-0.3, 0.2)
    turns = np.abs(((x + 0.12 * y) * rng.uniform(9, 13)) % 1 - 0.5) * (x > start)
    width = radius - 0.07 * turns - 0.3 * np.clip(x - end + 0.08, 0, None)
    shaft = np.maximum(np.abs(y) - width, np.abs(x - (end - 0.4) / 2) - (end + 0.4) / 2)
    wide = radius * rng.uniform(1.9, 2.3)
    head = np.maximum(np.abs(y) - wide, np.abs(x + 0.55) - 0.17)
    facets = np.minimum(0.75 * wide, 1.6 * (wide - np.abs(y)))
    height = np.where(head < 0, facets, lathe(y, np.clip(width, 0, None)))
    colour = painted(rng, pick(rng, (0.66, 0.67, 0.69), (0.56, 0.57, 0.6), (0.72, 0.6, 0.34)), 0.02)
    colour = mixed(colour, (0.42, 0.22, 0.1), 0.8 * (cloud(rng, 7) - rng.uniform(0.2, 2.5)))
    return Thing(np.minimum(shaft, head), height, colour, gloss=0.7, metal=rng.uniform(0.6, 1))


def bottle(x: Array, y: Array, rng: Rng) -> Thing:
    """A drinks bottle on its side, of glass or plastic, with a cap and mostly with a label."""
    body, neck, shoulder = rng.uniform(0.27, 0.36), rng.uniform(0.09, 0.13), rng.uniform(0.15, 0.35)
    t = np.clip((x - shoulder) / rng.uniform(0.2, 0.4), 0, 1)
    width = body + (neck - body) * t * t * (3 - 2 * t) - 0.3 * np.clip(-0.85 - x, 0, None)
    distance = np.maximum(np.abs(y) - width, np.abs(x) - 0.95)
    tone = pick(rng, (0.12, 0.36, 0.16), (0.32, 0.17, 0.06), (0.72, 0.82, 0.86), (0.35, 0.6, 0.78))
    colour = painted(rng, tone, 0.03)
    colour = mixed(colour, np.array(tone) * 0.35, 1 - np.abs(distance) / 0.06)  # thick glass at the rim
    colour = mixed(
        colour,
        pick(rng, (0.85, 0.1, 0.1), (0.9, 0.9, 0.9), (0.1, 0.25, 0.7), (0.85, 0.7, 0.2)),
        40 * (x - 0.78),
    )
    if rng.random() < 0.75:
        label = (np.abs(x + rng.uniform(0.15, 0.4)) < rng.uniform(0.18, 0.3)) & (np.abs(y) < width)
        paper = pick(rng, (0.92, 0.9, 0.84), (0.85, 0.15, 0.12), (0.15, 0.3, 0.65), (0.93, 0.8, 0.2))
        colour = mixed(colour, paper, label * 0.95)
        print_ = label & (np.abs(y) < 0.5 * width) & (np.sin(x * rng.uniform(30, 60)) > 0.3)
        colour = mixed(colour, pick(rng, (0.1, 0.1, 0.1), (0.95, 0.95, 0.95)), print_ * 0.8)
    return Thing(distance, lathe(y, width), colour, gloss=0.9, opacity=rng.uniform(0.75, 0.92))


CLASSES: dict[str, Callable[[Array, Array, Rng], Thing]] = {
    "bolt": bolt,
    "bottle": bottle,
    "carrot": carrot,
    "glove": glove,
    "leaf": leaf,
    "potato": potato,
    "stone": stone,
    "tomato": tomato,
}
