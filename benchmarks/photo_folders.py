"""Folders of real photos for the benchmarks, made from `examples/photos`.

    python -m benchmarks.photo_folders OUT [--classes 10] [--shots 16] [--large 2]

The example set has eight classes of thirty photos. A class more than that is filled with photos that no class
has taken, in turn from all of them: time and memory do not depend on which label stands over a photo. With
`--large` the first photos of each class are enlarged to 4032 x 3024, the 12 megapixels of a phone's camera.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from benchmarks.processes import ROOT, run_module

EXAMPLES = ROOT / "examples" / "photos"
LARGE = (4032, 3024)
_QUALITY = 90


def choose(classes: int, shots: int) -> dict[str, list[Path]]:
    """Which photo goes into which class.

    Raises:
        ValueError: The example set has too few photos.
    """
    folders = sorted(path for path in EXAMPLES.iterdir() if path.is_dir())
    files = {folder.name: sorted(folder.iterdir()) for folder in folders}
    if min(map(len, files.values())) < shots:
        raise ValueError(f"{EXAMPLES} has fewer than {shots} photos in a class")
    chosen = {name: paths[:shots] for name, paths in list(files.items())[:classes]}
    spare = [path for row in zip(*(paths[shots:] for paths in files.values()), strict=False) for path in row]
    for extra in range(classes - len(chosen)):
        taken = spare[extra * shots : (extra + 1) * shots]
        if len(taken) < shots:
            raise ValueError(f"{EXAMPLES} has too few photos for {classes} classes of {shots}")
        chosen[f"mixture {extra + 1}"] = taken
    return chosen


def write(out: Path, classes: int, shots: int, large: int) -> None:
    """Copy the photos, the first `large` of each class enlarged."""
    for name, paths in choose(classes, shots).items():
        folder = out / name
        folder.mkdir(parents=True)
        for index, path in enumerate(paths):
            target = folder / f"{index:02}{path.suffix}"
            if index < large:
                _enlarge(path, target)
            else:
                shutil.copyfile(path, target)


def _enlarge(path: Path, target: Path) -> None:
    from PIL import Image

    with Image.open(path) as image:
        image.convert("RGB").resize(LARGE).save(target, "JPEG", quality=_QUALITY)


def make(out: Path, classes: int = 10, shots: int = 16, large: int = 0) -> Path:
    """Write a folder of photos in a process of its own.

    Large pictures then don't count as the parent's memory.
    """
    run_module("benchmarks.photo_folders", out, "--classes", classes, "--shots", shots, "--large", large)
    return out


def main() -> None:
    """Write one folder."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--shots", type=int, default=16)
    parser.add_argument("--large", type=int, default=0)
    options = parser.parse_args()
    write(options.out, options.classes, options.shots, options.large)


if __name__ == "__main__":
    main()
