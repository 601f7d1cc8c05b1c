"""Render the photo set in `examples/photos`: what a camera above a vegetable farm's picking belt sees.

The idea: potatoes, carrots and tomatoes stay on the belt; leaves, stones, gloves, bolts and bottles must be picked
out. A thing is a function of the plane that gives its outline, its height and its colour; one renderer turns height
into light, gloss and shadow on one of five belts, and a cheap camera adds its blur, its colour cast, its noise.

Every photo has a random generator of its own, seeded by its class and number, so the set is the same each time and
any photo can be rendered alone. Needs numpy and pillow. Run: python examples/make_photos.py [--out DIR]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

Array = NDArray[np.float64]
Rng = np.random.Generator

SEED = 2026
PER_CLASS = 30
SIDE = 128
CANVAS = 2 * SIDE  # rendered at twice the size, then halved: smooth edges
QUALITY = 82
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
    """[CANVAS, CANVAS] smooth noise of mean 0 and deviation 1; `cells` bumps across, then ever finer ones."""
    total = np.zeros((CANVAS, CANVAS))
    for octave in range(octaves):
        side = min(cells * 2**octave, CANVAS)
        grid = Image.fromarray(rng.standard_normal((side, side)).astype(np.float32))
        total += np.asarray(grid.resize((CANVAS, CANVAS), Image.Resampling.BICUBIC)) / 2**octave
    scaled: Array = (total - total.mean()) / total.std()
    return scaled


def blurred(image: Array, radius: float) -> Array:
    """Gaussian blur of [H, W] with values from 0 to 1."""
    picture = Image.fromarray((np.clip(image, 0, 1) * 255).astype(np.uint8))
    return np.asarray(picture.filter(ImageFilter.GaussianBlur(float(radius))), dtype=np.float64) / 255


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


def belt(rng: Rng) -> tuple[Array, Array]:
    """Colour [H, W, 3] and height [H, W] in pixels of one of five belts, with crumbs of earth."""
    kind, phase = int(rng.integers(5)), rng.uniform(0, 6.3)
    across, along = np.mgrid[0:CANVAS, 0:CANVAS] / CANVAS * 2 * np.pi
    if rng.random() < 0.5:
        across, along = along, across
    tone = ((0.17, 0.18, 0.18), (0.2, 0.36, 0.56), (0.5, 0.51, 0.52), (0.5, 0.37, 0.25), (0.72, 0.72, 0.68))[
        kind
    ]
    colour = painted(rng, tone, 0.05)
    pitch = rng.uniform(4, 9)
    if kind == 0:  # ribbed rubber
        height = 2.5 * np.clip(np.sin(pitch * along + phase), 0.6, 1)
    elif kind == 1:  # plastic links
        gaps = (np.abs(np.sin(pitch * along / 2 + phase)) < 0.1) | (np.abs(np.sin(pitch * across / 3)) < 0.07)
        colour, height = mixed(colour, (0.05, 0.07, 0.1), gaps * 0.8), -4.0 * gaps
    elif kind == 2:  # steel rods
        rods = np.abs(np.sin(pitch * along / 2 + phase))
        colour, height = mixed(colour, (0.06, 0.06, 0.07), (0.45 - rods) * 6), 12 * np.sqrt(rods)
    elif kind == 3:  # wooden slats
        grain = cloud(rng, 40, 2).mean(axis=1, keepdims=True) * 0.3 + 0.1 * np.sin(
            40 * across + 2 * cloud(rng, 3)
        )
        gaps = np.abs(np.sin(pitch * across / 4 + phase)) < 0.06
        colour, height = mixed(colour * (1 + grain)[..., None], (0.08, 0.06, 0.05), gaps * 0.9), -5.0 * gaps
    else:  # cloth
        height = 0.6 * np.sin(60 * across) * np.sin(60 * along)
    earth = np.clip(cloud(rng, 14, 4) - rng.uniform(1.2, 2.6), 0, 1)
    stain = 0.5 * np.clip(cloud(rng, 3) - rng.uniform(-0.3, 1.5), 0, 1)
    return mixed(mixed(colour, SOIL, stain), SOIL, earth * 3), height + 5 * earth + 0.3 * cloud(rng, 60, 2)


def lit(colour: Array, height: Array, light: Array, gloss: float = 0.0, metal: float = 0.0) -> Array:
    """Colour as it looks under a lamp; `height` in pixels, `light` a unit vector to the lamp."""
    slope_y, slope_x = np.gradient(height)
    normal = np.stack([-slope_x, -slope_y, np.ones_like(height)], axis=-1)
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    middle = light + np.array([0.0, 0.0, 1.0])
    shine = gloss * np.clip(normal @ (middle / np.linalg.norm(middle)), 0, 1) ** 40
    room = 0.55 + 0.65 * np.sin(4 * normal[..., 0] + 5 * normal[..., 1] + 4 * light[0])
    shade = 0.35 + 0.75 * np.clip(normal @ light, 0, 1)
    shade = shade * (1 - metal) + np.clip(room, 0.1, 1.3) * metal
    seen: Array = colour * shade[..., None] + shine[..., None]
    return seen


def placed(scene: Array, name: str, rng: Rng, light: Array, scale: float, centre: Array) -> Array:
    """The scene with one more thing in it, at a random angle, and with its shadow."""
    turn = rng.uniform(0, 2 * np.pi)
    v, u = (np.mgrid[0:CANVAS, 0:CANVAS] - centre[::-1, None, None]) / scale
    thing = CLASSES[name](np.cos(turn) * u + np.sin(turn) * v, np.cos(turn) * v - np.sin(turn) * u, rng)
    cover = np.clip(0.5 - thing.distance * scale / 2, 0, 1)
    throw = 0.28 * scale * np.clip(thing.height.max(), 0.08, 0.6) / light[2]
    shadow = np.roll(cover, [round(-light[1] * throw), round(-light[0] * throw)], axis=(0, 1))
    scene = scene * (1 - 0.6 * blurred(np.maximum(shadow, 0.8 * cover), 1 + throw * 0.35))[..., None]
    return mixed(
        scene, lit(thing.colour, thing.height * scale, light, thing.gloss, thing.metal), cover * thing.opacity
    )


def photographed(scene: Array, rng: Rng) -> Image.Image:
    """What the camera makes of the scene: uneven light, colour cast, blur of the moving belt, noise."""
    v, u = np.mgrid[0:CANVAS, 0:CANVAS] / CANVAS - 0.5
    falloff = 1 + u * rng.normal(0, 0.3) + v * rng.normal(0, 0.3) - rng.uniform(0, 0.7) * (u**2 + v**2)
    scene = scene * falloff[..., None] * rng.uniform(0.75, 1.2) * rng.normal(1, 0.05, 3)
    steps = int(rng.integers(1, 7))
    wide = np.pad(scene, ((0, 0), (0, steps), (0, 0)), mode="edge")
    scene = np.mean([wide[:, shift : shift + CANVAS] for shift in range(steps)], axis=0)
    picture = Image.fromarray((np.clip(scene, 0, 1) ** 0.9 * 255).astype(np.uint8))
    picture = picture.filter(ImageFilter.GaussianBlur(rng.uniform(0, 1.4)))
    pixels = np.asarray(picture.resize((SIDE, SIDE), Image.Resampling.BOX), dtype=np.float64)
    pixels += rng.normal(0, rng.uniform(1, 5), pixels.shape)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def render(name: str, number: int) -> Image.Image:
    """Photo `number` of a class, the same each time."""
    rng = np.random.default_rng([SEED, list(CLASSES).index(name), number])
    direction, steepness = rng.uniform(0, 2 * np.pi), rng.uniform(0.6, 1.1)
    flat = np.cos(steepness)
    light = np.array([flat * np.cos(direction), flat * np.sin(direction), np.sin(steepness)])
    colour, height = belt(rng)
    scene = lit(colour, height, light)
    scale = CANVAS / 2 * rng.uniform(0.5, 0.85)
    if rng.random() < 0.2:  # a second one at the edge
        corner = CANVAS * (0.5 + rng.choice([-0.45, 0.45], 2) + rng.normal(0, 0.05, 2))
        scene = placed(scene, name, rng, light, scale, corner)
    scene = placed(scene, name, rng, light, scale, CANVAS * (0.5 + rng.normal(0, 0.07, 2)))
    return photographed(scene, rng)


def main() -> None:
    """Write the whole set."""
    parser = argparse.ArgumentParser(description="Render the example photos.")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "photos")
    folder = parser.parse_args().out
    for name in CLASSES:
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(PER_CLASS):
            render(name, number).save(folder / name / f"{number:02d}.jpg", quality=QUALITY)


if __name__ == "__main__":
    main()
