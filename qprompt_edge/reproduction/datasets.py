"""The paper's eleven data sets and four variants of ImageNet, as the CoOp project lays them out on disk.

The idea: what differs between the sets is a row of data in `DATA_SETS`, not code. A row names one of four
readers: a split file in JSON, FGVC-Aircraft's lists, folders named after WordNet ids, folders named after
numbers. Labels are CoOp's, so that its base and new classes are ours. Nothing is downloaded and no photo is
opened. What is missing is reported once, with its source and its place.

Layout and names: github.com/KaiyangZhou/CoOp, DATASETS.md, datasets/*.py; templates: trainers/zsclip.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np

from qprompt_edge.data.photos import LabelledPhotos, find_photos
from qprompt_edge.reproduction.dataset_lists import (
    PARTS,
    Entry,
    names_by_label,
    read_split,
    read_variants,
    read_wordnet_names,
)
from qprompt_runtime.errors import PhotosError
from qprompt_runtime.text import printable

GUIDE = "https://github.com/KaiyangZhou/CoOp/blob/main/DATASETS.md"
Reader = Literal["split", "aircraft", "imagenet", "wordnet", "numbered"]


@dataclass(frozen=True)
class Source:
    """Where a data set lies below the folder of all sets, and how it is read.

    Attributes:
        name: As CoOp's `configs/datasets/` calls it.
        title: As the paper calls it.
        reader: `split`: a JSON file; `aircraft`: text lists; `imagenet`: folders of WordNet ids for train and
            val; `wordnet`, `numbered`: folders for testing only.
        folder: The set's own folder.
        split: The list of photos, or of classes, in `folder`.
        images: The image folder in `folder`, from which the paths in `split` start.
        template: Hand-written prompt; `{}` stands for the class name.
        split_page: Where `split` is downloaded from.
        images_page: Where the images are downloaded from.
        renamed: Class names that CoOp replaces. Its split files have the new ones already; those that were
            made from the bare folders get them here.
        dropped: Classes that CoOp leaves out.
        partial: Some classes of `split` may have no folder (ImageNet-A and -R have 200 of 1,000).
    """

    name: str
    title: str
    reader: Reader
    folder: str
    split: str
    images: str
    template: str
    split_page: str
    images_page: str
    renamed: Mapping[str, str] = field(default_factory=dict)
    dropped: tuple[str, ...] = ()
    partial: bool = False


@dataclass(frozen=True)
class Dataset:
    """A data set on disk; its three parts have the same classes.

    Attributes:
        name: As in `Source`.
        template: Hand-written prompt; `{}` stands for the class name.
        class_names: What stands for the C classes in a prompt, in the order of CoOp's labels (not always
            sorted). Two classes of ImageNet may share a name ("crane"), so `classes` of the parts are WordNet
            ids there; elsewhere they are the names in CoOp's spelling, `_` for a space.
        train: Photos to train on; none for the four variants of ImageNet.
        val: Photos to choose settings by; `test` itself for ImageNet, as in CoOp; none for its variants.
        test: Photos to judge by.
    """

    name: str
    template: str
    class_names: tuple[str, ...]
    train: LabelledPhotos
    val: LabelledPhotos
    test: LabelledPhotos


_DRIVE = "https://drive.google.com/open?id="
_NAMES = _DRIVE + "1-61f_ol79pViBFDG_IDlUQSwoLcn2XXF"
_VGG = "https://www.robots.ox.ac.uk/~vgg/data/"
_PHOTO = "a photo of a {}."
_VARIANTS = {part: f"images_variant_{part}.txt" for part in PARTS}

# fmt: off
_CALTECH = {"airplanes": "airplane", "Faces": "face", "Leopards": "leopard", "Motorbikes": "motorbike"}
_EUROSAT = {
    "AnnualCrop": "Annual Crop Land", "HerbaceousVegetation": "Herbaceous Vegetation Land",
    "Highway": "Highway or Road", "Industrial": "Industrial Buildings", "Pasture": "Pasture Land",
    "PermanentCrop": "Permanent Crop Land", "Residential": "Residential Buildings", "SeaLake": "Sea or Lake",
}

DATA_SETS: tuple[Source, ...] = (
    Source("imagenet", "ImageNet", "imagenet", "imagenet", "classnames.txt", "images",
           _PHOTO, _NAMES, "https://image-net.org"),
    Source("caltech101", "Caltech101", "split", "caltech-101", "split_zhou_Caltech101.json", "101_ObjectCategories",
           _PHOTO, _DRIVE + "1hyarUivQE36mY6jSomru6Fjd-JzwcCzN", "https://data.caltech.edu/records/mzrjq-6wc02",
           renamed=_CALTECH, dropped=("BACKGROUND_Google", "Faces_easy")),
    Source("oxford_pets", "OxfordPets", "split", "oxford_pets", "split_zhou_OxfordPets.json", "images",
           "a photo of a {}, a type of pet.", _DRIVE + "1501r8Ber4nNKvmlFVQZ8SeUHTcdTTEqs", _VGG + "pets/"),
    Source("stanford_cars", "StanfordCars", "split", "stanford_cars", "split_zhou_StanfordCars.json", "",
           _PHOTO, _DRIVE + "1ObCFbaAgVu0I-k_Au-gIUcefirdAuizT", "https://github.com/pytorch/vision/issues/7545"),
    Source("oxford_flowers", "Flowers102", "split", "oxford_flowers", "split_zhou_OxfordFlowers.json", "jpg",
           "a photo of a {}, a type of flower.", _DRIVE + "1Pp0sRXzZFZq15zVOzKjKBu4A9i01nozT", _VGG + "flowers/102/"),
    Source("food101", "Food101", "split", "food-101", "split_zhou_Food101.json", "images",
           "a photo of {}, a type of food.", _DRIVE + "1QK0tGi096I0Ba6kggatX1ee6dJFIcEJl",
           "https://data.vision.ee.ethz.ch/cvl/datasets_extra/food-101/"),
    Source("fgvc_aircraft", "FGVCAircraft", "aircraft", "fgvc_aircraft", "variants.txt", "images",
           "a photo of a {}, a type of aircraft.", _VGG + "fgvc-aircraft/", _VGG + "fgvc-aircraft/"),
    Source("sun397", "SUN397", "split", "sun397", "split_zhou_SUN397.json", "SUN397",
           _PHOTO, _DRIVE + "1y2RD81BYuiyvebdN-JymPfyWYcd8_MUq", "https://vision.princeton.edu/projects/2010/SUN/"),
    Source("dtd", "DTD", "split", "dtd", "split_zhou_DescribableTextures.json", "images",
           "{} texture.", _DRIVE + "1u3_QfB467jqHgNXC00UIzbLZRQCg2S7x", _VGG + "dtd/"),
    Source("eurosat", "EuroSAT", "split", "eurosat", "split_zhou_EuroSAT.json", "2750",
           "a centered satellite photo of {}.", _DRIVE + "1Ip7yaCWFi0eaOFUGga0lUdVi_DDQth1o",
           "https://github.com/phelber/EuroSAT", renamed=_EUROSAT),
    Source("ucf101", "UCF101", "split", "ucf101", "split_zhou_UCF101.json", "UCF-101-midframes",
           "a photo of a person doing {}.", _DRIVE + "1I0S0q91hJfsV9Gf4xDIjgDq4AqBNJb1y",
           _DRIVE + "10Jqome3vtUA2keJkNanAiFpgbyC9Hc2O"),
    Source("imagenetv2", "ImageNetV2", "numbered", "imagenetv2", "classnames.txt",
           "imagenetv2-matched-frequency-format-val", _PHOTO, _NAMES, "https://github.com/modestyachts/ImageNetV2"),
    Source("imagenet_sketch", "ImageNet-Sketch", "wordnet", "imagenet-sketch", "classnames.txt", "images",
           _PHOTO, _NAMES, "https://github.com/HaohanWang/ImageNet-Sketch"),
    Source("imagenet_a", "ImageNet-A", "wordnet", "imagenet-adversarial", "classnames.txt", "imagenet-a",
           _PHOTO, _NAMES, "https://github.com/hendrycks/natural-adv-examples", partial=True),
    Source("imagenet_r", "ImageNet-R", "wordnet", "imagenet-rendition", "classnames.txt", "imagenet-r",
           _PHOTO, _NAMES, "https://github.com/hendrycks/imagenet-r", partial=True),
)
# fmt: on


def read_dataset(name: str, root: Path) -> Dataset:
    """Read which photos a data set has, and their labels.

    Args:
        name: One of the names in `DATA_SETS`, such as `caltech101`.
        root: The folder that holds the sets' own folders; links are followed.

    Returns:
        The set, with labels from 0 to C-1 in CoOp's order.

    Raises:
        PhotosError: The name is unknown; something is missing (all of it is named, with download page and
            place); or a list is damaged, contradicts itself, or points out of its folder.
    """
    source = next((source for source in DATA_SETS if source.name == name), None)
    if source is None:
        known = ", ".join(source.name for source in DATA_SETS)
        raise PhotosError(f"unknown data set {printable(name)}; known are {known}")
    folder = root / source.folder
    _check_present(source, folder)
    return _READERS[source.reader](source, folder)


def _check_present(source: Source, folder: Path) -> None:
    """Say everything that is missing at once."""
    files, folders = [source.split], [source.images]
    if source.reader == "aircraft":
        files += _VARIANTS.values()
    if source.reader == "imagenet":
        folders = [f"{source.images}/{part}" for part in ("train", "val")]
    missing = [(folder / n, source.split_page) for n in files if not _is_there(folder / n)]
    missing += [(folder / n, source.images_page) for n in folders if not _is_there(folder / n, folder=True)]
    if missing:
        shown = " and ".join(f"{printable(path)} (from {page})" for path, page in missing)
        raise PhotosError(
            f"{source.title}: missing {shown}; download what is missing and put it there; "
            f"{GUIDE}#{source.title.lower()} shows the layout"
        )


def _read_split(source: Source, folder: Path) -> Dataset:
    """A split file; classes to drop are left out and the others numbered anew."""
    path = folder / source.split
    listed = {
        part: [(photo, label, source.renamed.get(name, name)) for photo, label, name in entries]
        for part, entries in read_split(path).items()
    }
    names = names_by_label(path, (entry for part in PARTS for entry in listed[part]))
    kept = tuple(name for name in names if name not in source.dropped)
    positions = {name: index for index, name in enumerate(kept)}
    parts = {
        part: [(photo, positions[name], name) for photo, _, name in entries if name in positions]
        for part, entries in listed.items()
    }
    return _listed_dataset(source, folder, kept, parts)


def _read_aircraft(source: Source, folder: Path) -> Dataset:
    """Text lists, the same for each part."""
    lists = {part: folder / name for part, name in _VARIANTS.items()}
    classes, parts = read_variants(folder / source.split, lists)
    return _listed_dataset(source, folder, classes, parts)


def _listed_dataset(
    source: Source, folder: Path, classes: tuple[str, ...], parts: Mapping[str, Sequence[Entry]]
) -> Dataset:
    """Entries to labelled photos, all of which must be there."""
    images = folder / source.images
    photos = {
        part: LabelledPhotos(
            tuple(images / name for name, _, _ in entries),
            np.array([label for _, label, _ in entries], dtype=np.int64),
            classes,
        )
        for part, entries in parts.items()
    }
    paths = [path for part in PARTS for path in photos[part].paths]
    absent = [path for path in paths if not _is_there(path)]
    if absent:
        raise PhotosError(
            f"{source.title}: {len(absent)} of {len(paths)} listed photos are missing, the first is "
            f"{printable(absent[0])}; download the images from {source.images_page} and extract all into "
            f"{printable(images)}"
        )
    return Dataset(source.name, source.template, _prompt_names(classes), **photos)


def _is_there(path: Path, *, folder: bool = False) -> bool:
    try:
        return path.is_dir() if folder else path.is_file()
    except (OSError, ValueError):  # a name too long, with characters that no file has, or not to be looked at
        return False


def _prompt_names(names: Sequence[str]) -> tuple[str, ...]:
    """What CoOp's trainers make of a name; `-` stays, as in 737-300."""
    return tuple(name.replace("_", " ") for name in names)


def _read_imagenet(source: Source, folder: Path) -> Dataset:
    """Folders of WordNet ids for training and validation; the latter is also what is tested on."""
    names = read_wordnet_names(folder / source.split)
    train, test = (
        _class_folders(source, folder / source.images / part, tuple(names)) for part in ("train", "val")
    )
    return Dataset(source.name, source.template, _prompt_names(tuple(names.values())), train, test, test)


def _read_wordnet(source: Source, folder: Path) -> Dataset:
    """Folders of WordNet ids for testing only."""
    names = read_wordnet_names(folder / source.split)
    test = _class_folders(source, folder / source.images, tuple(names))
    return _test_only(source, tuple(names[wordnet_id] for wordnet_id in test.classes), test)


def _read_numbered(source: Source, folder: Path) -> Dataset:
    """Folders for testing only, whose numbers count the lines of the list of classes from 0."""
    names = read_wordnet_names(folder / source.split)
    found = _class_folders(source, folder / source.images, tuple(map(str, range(len(names)))))
    numbers = np.array([int(name) for name in found.classes], dtype=np.int64)
    test = replace(found, labels=numbers[found.labels], classes=tuple(names))
    return _test_only(source, tuple(names.values()), test)


def _test_only(source: Source, names: Sequence[str], test: LabelledPhotos) -> Dataset:
    none = replace(test.select([]), skipped=())
    return Dataset(source.name, source.template, _prompt_names(names), none, none, test)


def _class_folders(source: Source, folder: Path, expected: tuple[str, ...]) -> LabelledPhotos:
    """The photos of each class's folder, if the folders are those that the list of classes has."""
    photos = find_photos(folder)
    unknown = sorted(set(photos.classes) - set(expected))
    absent = [] if source.partial else sorted(set(expected) - set(photos.classes))
    if unknown or absent:
        which = (
            f"has a folder {printable(unknown[0])}" if unknown else f"has no folder {printable(absent[0])}"
        )
        raise PhotosError(
            f"{printable(folder)}: {which}, unlike {source.split} with its {len(expected)} classes; extract "
            f"the images from {source.images_page} anew, or take the {source.split} that belongs to them"
        )
    return photos


_READERS: Mapping[Reader, Callable[[Source, Path], Dataset]] = {
    "split": _read_split,
    "aircraft": _read_aircraft,
    "imagenet": _read_imagenet,
    "wordnet": _read_wordnet,
    "numbered": _read_numbered,
}
