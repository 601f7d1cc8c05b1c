"""Render the photo set in `examples/photos`: what a camera above a vegetable farm's picking belt sees.

The idea: potatoes, carrots and tomatoes stay on the belt; leaves, stones, gloves, bolts and bottles must be
picked out. A thing is a function of the plane that gives its outline, its height and its colour
(`shapes.py`); one renderer turns height into light, gloss and shadow on one of five belts, and a cheap camera
adds its blur, its colour cast, its noise.

Every photo has a random generator of its own, seeded by its class and number, so the set is the same each
time and any photo can be rendered alone. Needs numpy and pillow. Run: python examples/make_photos.py [--out
DIR]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter
from shapes import CANVAS, CLASSES, SIDE, SOIL, Array, Rng, cloud, mixed, painted

SEED = 2026
PER_CLASS = 30
QUALITY = 82


def blurred(image: Array, radius: float) -> Array:
    """Gaussian blur of [H, W] with values from 0 to 1."""
    picture = Image.fromarray((np.clip(image, 0, 1) * 255).astype(np.uint8))
    return np.asarray(picture.filter(ImageFilter.GaussianBlur(float(radius))), dtype=np.float64) / 255


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
