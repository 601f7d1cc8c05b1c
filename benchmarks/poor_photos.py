"""How many photos `check` lists as blurred, dark or blown out after they were made so.

    python -m benchmarks.poor_photos --set caltech101=FOLDER --set pacs=FOLDER

Of each set at most 100 photos are taken, evenly from the list, and each is judged beside the others as they
are. Blurring is Gaussian, its standard deviation a share of the photo's short side; light is multiplied.
Nothing is written.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image, ImageEnhance, ImageFilter

from benchmarks.labelled import sets_and_backbone
from benchmarks.tables import text_table
from qprompt_edge.checking.poor_photos import poor_photos
from qprompt_edge.data.photo_quality import Quality, measure
from qprompt_edge.data.photos import find_photos
from qprompt_runtime.images import ImageTransform, read_image

MOST = 100
KINDS = ("blurred", "dark", "blown out")


def _blurred(share: float) -> Callable[[Image.Image], Image.Image]:
    return lambda image: image.filter(ImageFilter.GaussianBlur(share * min(image.size)))


def _lit(factor: float) -> Callable[[Image.Image], Image.Image]:
    return lambda image: ImageEnhance.Brightness(image).enhance(factor)


MADE: dict[str, tuple[str, Callable[[Image.Image], Image.Image]]] = {
    "blur 1%": ("blurred", _blurred(0.01)),
    "blur 2%": ("blurred", _blurred(0.02)),
    "blur 4%": ("blurred", _blurred(0.04)),
    "light x 0.1": ("dark", _lit(0.1)),
    "light x 8": ("blown out", _lit(8.0)),
}
"""What is made of each photo, and the kind that it should be listed as."""


def shares(folder: Path, transform: ImageTransform) -> dict[str, Any]:
    """Shares of a set's photos that are listed: of each kind as they are, and of each that was made."""
    found = find_photos(folder)
    chosen = found.select(range(0, len(found.paths), -(-len(found.paths) // MOST)))
    images = [read_image(path, transform) for path in chosen.paths]
    side, count = min(transform.size), len(chosen.paths)
    usual = [measure(image, side) for image in images]

    def listed(quality: list[Quality], place: int) -> dict[str, bool]:
        kinds = poor_photos(quality, chosen.paths, chosen.labels, chosen.classes)
        path = chosen.paths[place]
        return {kind: any(it.path == path for it in them) for kind, them in zip(KINDS, kinds, strict=True)}

    result: dict[str, Any] = {"photos": count, "as they are": {}, "made": {}}
    kinds = poor_photos(usual, chosen.paths, chosen.labels, chosen.classes)
    result["as they are"] = {kind: len(them) / count for kind, them in zip(KINDS, kinds, strict=True)}
    for name, (kind, make) in MADE.items():
        hits = 0
        for place, image in enumerate(images):
            poor = measure(make(image), side)
            hits += listed([*usual[:place], poor, *usual[place + 1 :]], place)[kind]
        result["made"][name] = hits / count
    return result


def table(sets: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Header and rows for people."""
    header = ["set", "photos", *(f"{kind} as they are" for kind in KINDS), *MADE]
    rows = [
        [
            name,
            str(row["photos"]),
            *(f"{100 * share:.0f}%" for part in ("as they are", "made") for share in row[part].values()),
        ]
        for name, row in sets.items()
    ]
    return header, rows


def main() -> None:
    """Run it from the command line."""
    sets, backbone = sets_and_backbone(__doc__)
    found = {name: shares(folder, backbone.manifest.image_transform) for name, folder in sets.items()}
    print(text_table("Share of the photos that is listed", *table(found)))
    print(json.dumps({"backbone": backbone.manifest.name, "sets": found}))


if __name__ == "__main__":
    main()
