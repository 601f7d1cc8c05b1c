"""`predict` on a folder of photos of 640 x 480, against the bare image tower.

    python -m benchmarks.predicting [--threads 2] [--repeats 5] [--photos 1000] [--from FOLDER]

A whole run of the command on the folder and one on a single photo take turns with the image tower alone, on
as many threads. What a photo adds to the command is the difference of the two runs, over the number of
photos; its ratio to the tower's time says what decoding, the class head and the output cost. On one core,
decoding can only come on top. Both commands find the class features in the cache. `--from` takes real photos
from a folder, resized; without it, each photo is a mosaic of `examples/photos`.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.bundles import DEFAULT, bundle
from benchmarks.memory import write_prompt
from benchmarks.options import parser
from benchmarks.photo_folders import EXAMPLES, make
from benchmarks.processes import run_module
from benchmarks.tables import duration, median, ratio, text_table

WIDTH, HEIGHT = 640, 480
QUALITY = 90
_TOWER_RUNS = 100
_WRITE = "write"


def measure(threads: int, bundles: Path, repeats: int, count: int, source: Path | None) -> dict[str, Any]:
    """Seconds a photo of the command and of the tower, and their ratio."""
    backbone = bundle(bundles, DEFAULT, "as shipped")
    with tempfile.TemporaryDirectory(prefix="qprompt-edge-predict-") as name:
        folder = Path(name)
        photos, cache = folder / "photos", folder / "cache"
        run_module("benchmarks.predicting", _WRITE, photos, count, *([source] if source else []))
        few = make(folder / "few", classes=8, shots=2)
        prompt = write_prompt(backbone, few, folder / "prompt.qpt", threads)

        def command(place: Path) -> float:
            arguments = ("predict", place, "--prompt", prompt, "--threads", threads, "--csv")
            return run_module("qprompt_edge", *arguments, threads=threads, cache=cache).seconds

        one = sorted(photos.iterdir())[0]
        command(one)  # fills the cache of class features
        found: dict[str, list[float]] = {"tower": [], "photo": [], "start": []}
        for _ in range(repeats):
            tower = run_module(
                "benchmarks.our_steps", "--backbone", backbone, "--parts", "photos", "--repeats", _TOWER_RUNS,
                "--threads", threads,
                threads=threads,
            )  # fmt: skip
            found["tower"].append(median(tower.answer["seconds"]["photos"]))
            found["start"].append(command(one))
            found["photo"].append((command(photos) - found["start"][-1]) / (count - 1))
    seconds = {what: median(values) for what, values in found.items()}
    return {"photos": count, "seconds": seconds, "ratio": ratio(seconds["photo"], seconds["tower"])}


def write(out: Path, count: int, source: Path | None) -> None:
    """Write so many JPEGs of 640 x 480, always the same.

    Args:
        out: The folder; it must not exist.
        count: How many.
        source: A folder of real photos; without it, mosaics of the example set.
    """
    from PIL import Image, ImageOps

    out.mkdir(parents=True)
    paths = sorted(path for path in (source or EXAMPLES).rglob("*") if path.is_file())
    draw = random.Random(0)
    for number in range(count):
        if source:
            with Image.open(paths[number % len(paths)]) as photo:
                picture = ImageOps.fit(photo.convert("RGB"), (WIDTH, HEIGHT))
        else:
            picture = _mosaic(draw, paths)
        picture.save(out / f"{number:05}.jpg", quality=QUALITY)


def _mosaic(draw: random.Random, paths: list[Path]) -> Any:
    """Example photos beside each other."""
    from PIL import Image

    picture = Image.new("RGB", (WIDTH, HEIGHT))
    side = 128
    for left in range(0, WIDTH, side):
        for top in range(0, HEIGHT, side):
            with Image.open(draw.choice(paths)) as tile:
                picture.paste(tile.resize((side, side)), (left, top))
    return picture


def table(result: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Header and rows for people."""
    seconds = result["seconds"]
    return [f"`predict` of {result['photos']:,} photos, {DEFAULT}", "measured"], [
        ["image tower alone, a photo", duration(seconds["tower"])],
        ["`predict`, each further photo", duration(seconds["photo"])],
        ["... to the tower's time", f"{result['ratio']:.2f}x"],
        ["`predict` of one photo, whole", duration(seconds["start"])],
    ]


def main() -> None:
    """Run it from the command line."""
    if sys.argv[1:2] == [_WRITE]:
        out, count, *source = sys.argv[2:]
        write(Path(out), int(count), Path(source[0]) if source else None)
        return
    options = _options()
    result = measure(options.threads, options.bundles, options.repeats, options.photos, options.source)
    print(text_table("Predicting", *table(result)))
    print(json.dumps(result))


def _options() -> argparse.Namespace:
    made = parser(__doc__)
    made.add_argument("--photos", type=int, default=1000)
    made.add_argument("--from", dest="source", type=Path, help="folder of real photos, which are resized")
    return made.parse_args()


if __name__ == "__main__":
    main()
