"""`predict` on a folder of photos of 640 x 480, against the bare image tower.

    python -m benchmarks.predicting [--repeats 5] [--photos 1000] [--from FOLDER]

Whole runs of the command on the folder, with its default and with `--threads 1`, and one on a single photo
take turns with the image tower alone. What a photo adds to the command is the difference of two runs, over
the number of photos; its ratio to the tower's time says what decoding, the class head and the output cost.

The bare tower runs in three ways: on one thread; with all threads on one photo; and on one thread a photo, as
many photos at once as there are cores. The default is compared with the last two and with the better one.
With all cores in use, decoding can only come on top; `--threads 1` may decode on other cores. The commands
find the class features in the cache. `--from` takes real photos from a folder, resized; without it, each
photo is a mosaic of `examples/photos`.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import threading
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from benchmarks.bundles import DEFAULT, bundle
from benchmarks.memory import write_prompt
from benchmarks.options import parser
from benchmarks.photo_folders import EXAMPLES, make
from benchmarks.processes import Child, run_module
from benchmarks.tables import duration, median, megabytes, ratio, text_table
from qprompt_runtime.cores import usable_cores

WIDTH, HEIGHT = 640, 480
QUALITY = 90
_TOWER_RUNS, _WARM_UP = 100, 5
_WRITE, _TOWER = "write", "tower"


def measure(cores: int, bundles: Path, repeats: int, count: int, source: Path | None) -> dict[str, Any]:
    """Seconds a photo of the commands and of the tower in its three ways, and peak memory in MB."""
    backbone = bundle(bundles, DEFAULT, "as shipped")
    with tempfile.TemporaryDirectory(prefix="qprompt-edge-predict-") as name:
        folder = Path(name)
        photos, cache = folder / "photos", folder / "cache"
        run_module("benchmarks.predicting", _WRITE, photos, count, *([source] if source else []))
        prompt = write_prompt(
            backbone, make(folder / "few", classes=8, shots=2), folder / "prompt.qpt", cores
        )

        def command(place: Path, *more: object) -> Child:
            return run_module(
                "qprompt_edge", "predict", place, "--prompt", prompt, "--csv", *more, cache=cache
            )

        def tower(threads: int, callers: int) -> float:
            child = run_module("benchmarks.predicting", _TOWER, backbone, threads, callers)
            return float(child.answer)

        one = sorted(photos.iterdir())[0]
        command(one)  # fills the cache of class features
        seconds: dict[str, list[float]] = defaultdict(list)
        peaks: dict[str, float] = defaultdict(float)
        for _ in range(repeats):
            seconds["tower, one thread"].append(tower(1, 1))
            seconds["tower, all threads on a photo"].append(tower(cores, 1))
            seconds["tower, a thread a photo"].append(tower(1, cores))
            for what, more in (("default", ()), ("--threads 1", ("--threads", 1))):
                start, whole = command(one, *more), command(photos, *more)
                seconds[f"start, {what}"].append(start.seconds)
                seconds[what].append((whole.seconds - start.seconds) / (count - 1))
                peaks[what] = max(peaks[what], whole.peak_mb)
    found = {what: median(values) for what, values in seconds.items()}
    return {"photos": count, "cores": cores, "seconds": found, "ratios": ratios(found), "peak_mb": peaks}


def ratios(seconds: dict[str, float]) -> dict[str, float]:
    """A photo's time in the commands to the tower's, in the ways that can be compared."""
    ways = ("tower, all threads on a photo", "tower, a thread a photo")
    found = {f"default to {way}": ratio(seconds["default"], seconds[way]) for way in ways}
    found["default to the better"] = max(found.values())
    found["--threads 1 to tower, one thread"] = ratio(seconds["--threads 1"], seconds["tower, one thread"])
    return found


def tower_seconds(backbone: Path, threads: int, callers: int) -> float:
    """Seconds a photo of the image tower alone, run by so many threads at the same time."""
    import numpy as np

    from qprompt_runtime.backbone import Backbone

    loaded = Backbone.load(backbone, threads=threads)
    pixels = np.random.default_rng(0).standard_normal(
        (1, 3, *loaded.manifest.image_transform.size), np.float32
    )

    def runs(count: int) -> None:
        for _ in range(count):
            loaded.encode_images(pixels)

    runs(_WARM_UP)
    others = [threading.Thread(target=runs, args=(_TOWER_RUNS,)) for _ in range(callers - 1)]
    started = time.perf_counter()
    for thread in others:
        thread.start()
    runs(_TOWER_RUNS)
    for thread in others:
        thread.join()
    return (time.perf_counter() - started) / (_TOWER_RUNS * callers)


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
    rows = [
        [what if what.startswith("tower") else f"`predict`, {what}", duration(value)]
        for what, value in result["seconds"].items()
    ]
    rows += [[what, f"{value:.2f}x"] for what, value in result["ratios"].items()]
    rows += [[f"peak memory, {what}", megabytes(value)] for what, value in result["peak_mb"].items()]
    return [f"a photo of {result['photos']:,}, {DEFAULT}, {result['cores']} cores", "measured"], rows


def main() -> None:
    """Run it from the command line."""
    if sys.argv[1:2] == [_WRITE]:
        out, count, *source = sys.argv[2:]
        write(Path(out), int(count), Path(source[0]) if source else None)
        return
    if sys.argv[1:2] == [_TOWER]:
        print(json.dumps(tower_seconds(Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))))
        return
    options = _options()
    cores = options.threads or usable_cores()
    result = measure(cores, options.bundles, options.repeats, options.photos, options.source)
    print(text_table("Predicting", *table(result)))
    print(json.dumps(result))


def _options() -> argparse.Namespace:
    made = parser(__doc__)
    made.set_defaults(threads=0)  # one for each core
    made.add_argument("--photos", type=int, default=1000)
    made.add_argument("--from", dest="source", type=Path, help="folder of real photos, which are resized")
    return made.parse_args()


if __name__ == "__main__":
    main()
