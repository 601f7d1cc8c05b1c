"""Miniatures of the fifteen data sets, in the folders and with the lists that the CoOp project publishes.

Folder, list and image names are typed from CoOp's DATASETS.md and datasets/*.py here once more, so that a
slip in the table of the code shows.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scenes import write_photo

Split = dict[str, list[list[Any]]]
IDS = ("n01440764", "n02012849", "n03126707")
CLASSNAMES = "n01440764 tench\nn02012849 crane\nn03126707 crane\n"
WORDS = ("tench", "crane", "crane")
PHOTO = "a photo of a {}."


@dataclass(frozen=True)
class Layout:
    """A miniature set, and what is to be read from it.

    For a split file: the path pattern and name of each class.
    """

    folder: str
    template: str
    images: str = "images"
    split: str = "classnames.txt"
    patterns: tuple[tuple[str, str], ...] = ()
    words: tuple[str, ...] = WORDS
    counts: tuple[int, int, int] = (0, 0, 3)


LAYOUTS = {
    "imagenet": Layout("imagenet", PHOTO, counts=(6, 3, 3)),
    "caltech101": Layout(
        "caltech-101",
        PHOTO,
        "101_ObjectCategories",
        "split_zhou_Caltech101.json",
        (("Faces/image_000{}.jpg", "face"), ("yin_yang/image_000{}.jpg", "yin_yang")),
        ("face", "yin yang"),
    ),
    "oxford_pets": Layout(
        "oxford_pets",
        "a photo of a {}, a type of pet.",
        "images",
        "split_zhou_OxfordPets.json",
        (("Abyssinian_{}.jpg", "abyssinian"), ("american_bulldog_{}.jpg", "american_bulldog")),
        ("abyssinian", "american bulldog"),
    ),
    "stanford_cars": Layout(
        "stanford_cars",
        PHOTO,
        ".",
        "split_zhou_StanfordCars.json",
        (
            ("cars_train/0000{}.jpg", "2000 AM General Hummer SUV"),
            ("cars_test/0000{}.jpg", "1991 Audi TT-S Coupe"),
        ),
        ("2000 AM General Hummer SUV", "1991 Audi TT-S Coupe"),  # labels are not in alphabetical order
    ),
    "oxford_flowers": Layout(
        "oxford_flowers",
        "a photo of a {}, a type of flower.",
        "jpg",
        "split_zhou_OxfordFlowers.json",
        (("image_0000{}.jpg", "pink primrose"), ("image_0001{}.jpg", "hard-leaved pocket orchid")),
        ("pink primrose", "hard-leaved pocket orchid"),
    ),
    "food101": Layout(
        "food-101",
        "a photo of {}, a type of food.",
        "images",
        "split_zhou_Food101.json",
        (("apple_pie/{}.jpg", "apple_pie"), ("waffles/{}.jpg", "waffles")),
        ("apple pie", "waffles"),
    ),
    "fgvc_aircraft": Layout(
        "fgvc_aircraft",
        "a photo of a {}, a type of aircraft.",
        "images",
        "variants.txt",
        (("000000{}", "707-320"), ("000001{}", "F/A-18"), ("000002{}", "Boeing 717")),
        ("707-320", "F/A-18", "Boeing 717"),
    ),
    "sun397": Layout(
        "sun397",
        PHOTO,
        "SUN397",
        "split_zhou_SUN397.json",
        (
            ("a/abbey/sun_{}.jpg", "abbey"),
            ("a/apartment_building/outdoor/sun_{}.jpg", "outdoor apartment_building"),
        ),
        ("abbey", "outdoor apartment building"),
    ),
    "dtd": Layout(
        "dtd",
        "{} texture.",
        "images",
        "split_zhou_DescribableTextures.json",
        (("banded/banded_000{}.jpg", "banded"), ("zigzagged/zigzagged_000{}.jpg", "zigzagged")),
        ("banded", "zigzagged"),
    ),
    "eurosat": Layout(
        "eurosat",
        "a centered satellite photo of {}.",
        "2750",
        "split_zhou_EuroSAT.json",
        (("AnnualCrop/AnnualCrop_{}.jpg", "Annual Crop Land"), ("Forest/Forest_{}.jpg", "Forest")),
        ("Annual Crop Land", "Forest"),
    ),
    "ucf101": Layout(
        "ucf101",
        "a photo of a person doing {}.",
        "UCF-101-midframes",
        "split_zhou_UCF101.json",
        (
            ("Apply_Eye_Makeup/v_ApplyEyeMakeup_g0{}_c01.jpg", "Apply_Eye_Makeup"),
            ("Yo_Yo/v_YoYo_g0{}_c01.jpg", "Yo_Yo"),
        ),
        ("Apply Eye Makeup", "Yo Yo"),
    ),
    "imagenetv2": Layout("imagenetv2", PHOTO, "imagenetv2-matched-frequency-format-val"),
    "imagenet_sketch": Layout("imagenet-sketch", PHOTO),
    "imagenet_a": Layout("imagenet-adversarial", PHOTO, "imagenet-a", words=WORDS[1:], counts=(0, 0, 2)),
    "imagenet_r": Layout("imagenet-rendition", PHOTO, "imagenet-r", words=WORDS[1:], counts=(0, 0, 2)),
}
SHARES = {"train": range(0, 3), "val": range(3, 4), "test": range(4, 6)}
"""The numbers of a class's photos in each part: three, one, two."""


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def split_of(patterns: tuple[tuple[str, str], ...]) -> Split:
    return {
        part: [
            [pattern.format(n), label, name]
            for label, (pattern, name) in enumerate(patterns)
            for n in numbers
        ]
        for part, numbers in SHARES.items()
    }


def write_split(folder: Path, layout: Layout, split: Split) -> None:
    """The split file, indented as the published ones are, and its photos."""
    write(folder / layout.split, json.dumps(split, indent=4))
    for seed, (path, label, _) in enumerate(entry for part in split.values() for entry in part):
        write_photo(folder / layout.images / path, (80 * label % 256, 90, 90), seed, size=4)


def write_aircraft(folder: Path, layout: Layout) -> None:
    write(folder / "variants.txt", "".join(f"{name}\n" for _, name in layout.patterns))
    for part, entries in split_of(layout.patterns).items():
        write(
            folder / f"images_variant_{part}.txt", "".join(f"{photo} {name}\n" for photo, _, name in entries)
        )
        for photo, label, _ in entries:
            write_photo(folder / "images" / f"{photo}.jpg", (80 * label, 90, 90), label, size=4)


def write_folders(folder: Path, layout: Layout, name: str) -> None:
    write(folder / "classnames.txt", CLASSNAMES)
    images = folder / layout.images
    places = {
        "imagenet": [f"{part}/{wordnet_id}" for part in ("train", "val") for wordnet_id in IDS],
        "imagenetv2": ["0", "1", "2"],
        "imagenet_sketch": list(IDS),
    }.get(name, list(IDS[1:]))
    for seed, place in enumerate(places):
        for number in range(2 if place.startswith("train") else 1):
            write_photo(images / place / f"{number}.JPEG", (90, 90, 90), 10 * seed + number, size=4)
    write(images / places[0] / ".DS_Store", "x")
    if name in ("imagenet_a", "imagenet_r"):
        write(images / "README.txt", "x")


def write_set(root: Path, name: str) -> Path:
    """The miniature of a set below `root`; returns its folder."""
    layout = LAYOUTS[name]
    folder = root / layout.folder
    if name == "fgvc_aircraft":
        write_aircraft(folder, layout)
    elif layout.patterns:
        write_split(folder, layout, split_of(layout.patterns))
    else:
        write_folders(folder, layout, name)
    return folder
