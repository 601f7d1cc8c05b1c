"""The fifteen data sets are read from CoOp's folders as CoOp reads them.

What is missing is reported in one line.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dataset_layouts import IDS, LAYOUTS, SHARES, split_of, write, write_set, write_split
from scenes import complaint

from qprompt_edge.reproduction.datasets import DATA_SETS, Dataset, read_dataset


def parts_of(data: Dataset) -> dict[str, Any]:
    return {"train": data.train, "val": data.val, "test": data.test}


# Every layout


def test_the_layouts_are_those_of_the_table() -> None:
    assert [source.name for source in DATA_SETS] == list(LAYOUTS)
    for source in DATA_SETS:
        assert source.images_page.startswith(("https://", "http://"))
    assert len({source.split_page for source in DATA_SETS}) == 11  # the variants share ImageNet's class names


@pytest.mark.parametrize("name", LAYOUTS)
def test_layout(tmp_path: Path, name: str) -> None:
    folder, layout = write_set(tmp_path, name), LAYOUTS[name]
    data = read_dataset(name, tmp_path)
    classes = len(layout.words)
    counts = (3 * classes, classes, 2 * classes) if layout.patterns else layout.counts
    assert (data.name, data.template, data.class_names) == (name, layout.template, layout.words)
    assert tuple(len(part.paths) for part in parts_of(data).values()) == counts
    for part in parts_of(data).values():
        assert part.labels.dtype == np.int64
        assert len(part.labels) == len(part.paths)
        assert len(part.classes) == len(set(part.classes)) == classes
        assert all(path.is_file() and folder / layout.images in path.parents for path in part.paths)
    assert data.train.classes == data.val.classes == data.test.classes


@pytest.mark.parametrize("name", [name for name, layout in LAYOUTS.items() if layout.patterns])
def test_labels_follow_the_list(tmp_path: Path, name: str) -> None:
    write_set(tmp_path, name)
    data, patterns = read_dataset(name, tmp_path), LAYOUTS[name].patterns
    assert data.test.classes == tuple(name for _, name in patterns)
    for part, numbers in SHARES.items():
        found = [
            (path.stem, label)
            for path, label in zip(parts_of(data)[part].paths, parts_of(data)[part].labels, strict=True)
        ]
        assert found == [
            (Path(pattern.format(n)).stem, label)
            for label, (pattern, _) in enumerate(patterns)
            for n in numbers
        ]


def test_imagenet_is_judged_on_its_validation_photos(tmp_path: Path) -> None:
    write_set(tmp_path, "imagenet")
    data = read_dataset("imagenet", tmp_path)
    assert data.val == data.test
    assert data.train.classes == IDS
    assert data.train.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert {path.parts[-3] for path in data.train.paths} == {"train"}
    assert {path.parts[-3] for path in data.test.paths} == {"val"}


def test_folders_of_imagenetv2_count_the_lines_of_the_class_names(tmp_path: Path) -> None:
    names = "".join(f"n{index:08} name {index}\n" for index in range(12))
    images = tmp_path / "imagenetv2" / "imagenetv2-matched-frequency-format-val"
    write(tmp_path / "imagenetv2" / "classnames.txt", names)
    for index in range(12):
        write(images / str(index) / f"of {index}.jpeg", "x")
    data = read_dataset("imagenetv2", tmp_path)
    assert data.class_names[10] == "name 10"
    assert data.test.classes[10] == "n00000010"
    found = dict(zip([path.stem for path in data.test.paths], data.test.labels.tolist(), strict=True))
    assert found == {f"of {index}": index for index in range(12)}


@pytest.mark.parametrize("name", ["imagenet_a", "imagenet_r"])
def test_variants_with_some_classes_are_labelled_among_those(tmp_path: Path, name: str) -> None:
    write_set(tmp_path, name)
    data = read_dataset(name, tmp_path)
    assert data.test.classes == IDS[1:]
    assert data.test.labels.tolist() == [0, 1]
    assert len(data.train.paths) == len(data.val.paths) == 0


# Class names that CoOp changes


def test_eurosat_from_the_bare_folders_gets_coops_names(tmp_path: Path) -> None:
    names = {
        "AnnualCrop": "Annual Crop Land",
        "Forest": "Forest",
        "HerbaceousVegetation": "Herbaceous Vegetation Land",
        "Highway": "Highway or Road",
        "Industrial": "Industrial Buildings",
        "Pasture": "Pasture Land",
        "PermanentCrop": "Permanent Crop Land",
        "Residential": "Residential Buildings",
        "River": "River",
        "SeaLake": "Sea or Lake",
    }
    split = split_of(tuple((f"{name}/{name}_{{}}.jpg", name) for name in names))
    write_split(tmp_path / "eurosat", LAYOUTS["eurosat"], split)
    assert read_dataset("eurosat", tmp_path).class_names == tuple(names.values())


def test_caltech_from_the_bare_folders_is_without_two_classes(tmp_path: Path) -> None:
    folders = ("BACKGROUND_Google", "Faces", "Faces_easy", "Leopards", "Motorbikes", "airplanes", "anchor")
    split = split_of(tuple((f"{name}/{{}}.jpg", name) for name in folders))
    write_split(tmp_path / "caltech-101", LAYOUTS["caltech101"], split)
    data = read_dataset("caltech101", tmp_path)
    assert data.class_names == ("face", "leopard", "motorbike", "airplane", "anchor")
    assert np.bincount(data.test.labels).tolist() == [2] * 5
    assert {path.parent.name for path in data.test.paths} == set(folders) - {
        "BACKGROUND_Google",
        "Faces_easy",
    }
    assert [path.parent.name for path in data.test.paths][-1] == "anchor"


# What is missing


def test_an_unknown_name(tmp_path: Path) -> None:
    message = complaint(read_dataset, "cifar\n10", tmp_path)
    assert message.startswith(r"unknown data set cifar\n10; known are imagenet, caltech101, ")


@pytest.mark.parametrize("source", DATA_SETS, ids=lambda source: source.name)
def test_everything_missing_is_named_with_its_page_and_place(tmp_path: Path, source: Any) -> None:
    message = complaint(read_dataset, source.name, tmp_path)
    folder = tmp_path / LAYOUTS[source.name].folder
    assert message.startswith(f"{source.title}: missing {folder / source.split} (from {source.split_page})")
    if source.name == "imagenet":
        assert f"{folder / 'images' / 'train'} (from https://image-net.org)" in message
        assert f"{folder / 'images' / 'val'} (from https://image-net.org)" in message
    elif source.name == "fgvc_aircraft":
        assert all(str(folder / f"images_variant_{part}.txt") in message for part in SHARES)
    if source.name != "imagenet":
        assert f"{folder / LAYOUTS[source.name].images} (from {source.images_page})" in message
    assert (
        f"put it there; https://github.com/KaiyangZhou/CoOp/blob/main/DATASETS.md#{source.title.lower()}"
        in message
    )


@pytest.mark.parametrize("name", LAYOUTS)
def test_only_what_is_missing_is_named(tmp_path: Path, name: str) -> None:
    folder = write_set(tmp_path, name)
    (folder / LAYOUTS[name].split).unlink()
    message = complaint(read_dataset, name, tmp_path)
    assert f"missing {folder / LAYOUTS[name].split} (from " in message
    assert message.count("(from") == 1


@pytest.mark.parametrize(
    "root", [Path("/nowhere\0at all"), Path("/n" * 3000), Path("n" * 300)], ids=["0", "deep", "long"]
)
def test_a_root_that_cannot_be(root: Path) -> None:
    assert complaint(read_dataset, "dtd", root).startswith("DTD: missing ")


def test_listed_photos_that_are_missing_are_counted(tmp_path: Path) -> None:
    folder = write_set(tmp_path, "dtd")
    for number in (1, 4):
        (folder / "images" / "banded" / f"banded_000{number}.jpg").unlink()
    message = complaint(read_dataset, "dtd", tmp_path)
    first = folder / "images" / "banded" / "banded_0001.jpg"
    assert message == (
        f"DTD: 2 of 12 listed photos are missing, the first is {first}; download the images from "
        f"https://www.robots.ox.ac.uk/~vgg/data/dtd/ and extract all into {folder / 'images'}"
    )


# The page about them


def test_the_page_has_the_table_of_the_code() -> None:
    page = (Path(__file__).parent.parent / "docs" / "datasets.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    assert rows == [
        f"| `{s.name}` | {s.title} | `{s.folder}/` | `{s.split}` | `{s.images or '.'}/` | {s.template} |"
        for s in DATA_SETS
    ]
    text = " ".join(page.split())
    fixes = next(dict(s.renamed) for s in DATA_SETS if s.name == "caltech101")
    assert all(f"`{old}` is `{new}`" in text for old, new in fixes.items())
    assert all(f"`{name}`" in page for s in DATA_SETS for name in s.dropped)
