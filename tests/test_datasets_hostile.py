"""Broken lists and folders of data sets are refused in one line.

So are those that contradict themselves or do not fit.
"""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from dataset_layouts import CLASSNAMES, LAYOUTS, Split, split_of, write, write_set
from scenes import complaint

from qprompt_edge.reproduction.datasets import read_dataset

# Split files that cannot be used


def change(part: str, index: int, value: object) -> Callable[[Split], object]:
    """A split file in which one entry is something else."""

    def changed(split: Split) -> Split:
        return {**split, part: [value if i == index else entry for i, entry in enumerate(split[part])]}

    return changed


BROKEN: dict[str, tuple[Callable[[Split], object], str]] = {
    "a list": (lambda split: [], "expected an object with the lists train, val and test"),
    "without val": (
        lambda split: {"train": [], "test": []},
        "expected an object with the lists train, val and test",
    ),
    "a part of another type": (lambda split: {**split, "val": {}}, "expected an object with the lists"),
    "empty": (lambda split: {"train": [], "val": [], "test": []}, "lists no photos"),
    "an entry of another type": (
        change("train", 1, 7),
        "train entry 2: expected [path, label, class name], found 7;",
    ),
    "too short an entry": (change("val", 0, ["a.jpg", 0]), "val entry 1: expected [path, label, class name]"),
    "a path of another type": (
        change("val", 0, [1, 0, "banded"]),
        "expected [path, label, class name], found [1, 0,",
    ),
    "a label as text": (
        change("test", 2, ["a.jpg", "0", "banded"]),
        "test entry 3: expected [path, label, class",
    ),
    "a label that is a truth": (
        change("val", 0, ["a.jpg", True, "zigzagged"]),
        "found ['a.jpg', True, 'zigzagged']",
    ),
    "a label that is a fraction": (
        change("val", 0, ["a.jpg", 0.5, "banded"]),
        "found ['a.jpg', 0.5, 'banded']",
    ),
    "a negative label": (change("val", 0, ["a.jpg", -1, "banded"]), "found ['a.jpg', -1, 'banded']"),
    "a vast label": (change("val", 0, ["a.jpg", 10**100, "banded"]), "expected [path, label, class name]"),
    "a name of another type": (change("val", 0, ["a.jpg", 0, None]), "found ['a.jpg', 0, None]"),
    "an empty name": (change("val", 0, ["a.jpg", 0, " "]), "found ['a.jpg', 0, ' ']"),
    "a vast name": (change("val", 0, ["a.jpg", 0, "n" * 10**6]), "expected [path, label, class name]"),
    "a name that is no text": (
        change("val", 0, ["a.jpg", 0, "\udcff"]),
        "val entry 1: the class name is not valid",
    ),
    "a path upwards": (
        change("val", 0, ["../a.jpg", 0, "banded"]),
        "val entry 1: '../a.jpg' is no path inside",
    ),
    "a path up and down": (
        change("val", 0, ["b/../../a.jpg", 0, "banded"]),
        "is no path inside the image folder",
    ),
    "an absolute path": (change("val", 0, ["/etc/passwd", 0, "banded"]), "'/etc/passwd' is no path inside"),
    "an empty path": (change("val", 0, ["", 0, "banded"]), "'' is no path inside the image folder"),
    "a path with a zero": (change("val", 0, ["a\0.jpg", 0, "banded"]), r"'a\x00.jpg' is no path inside"),
    "a path that is no text": (
        change("val", 0, ["\udcff.jpg", 0, "banded"]),
        "1 of 12 listed photos are missing",
    ),
    "a path too long": (change("val", 0, ["a" * 300, 0, "banded"]), "1 of 12 listed photos are missing"),
    "a gap in the labels": (
        change("val", 0, ["a.jpg", 3, "c"]),
        "expected labels from 0 to 2, but 2 is missing",
    ),
    "two names": (change("test", 0, ["a.jpg", 0, "c"]), "label 0 is both banded and c"),
    "two labels": (change("test", 0, ["a.jpg", 1, "banded"]), "label 1 is both zigzagged and banded"),
    "a name again": (change("test", 0, ["a.jpg", 2, "banded"]), "class banded has both label 0 and 2"),
    "a photo in two parts": (
        change("test", 0, ["banded/./banded_0000.jpg", 0, "banded"]),
        "the photo banded/./banded_0000.jpg is listed twice",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_split_files(tmp_path: Path, case: str) -> None:
    folder = write_set(tmp_path, "dtd")
    broken, expected = BROKEN[case]
    path = folder / "split_zhou_DescribableTextures.json"
    path.write_text(json.dumps(broken(split_of(LAYOUTS["dtd"].patterns))))
    message = complaint(read_dataset, "dtd", tmp_path)
    assert expected in message
    assert message.startswith((str(path), "DTD: 1 of 12"))
    assert len(message) < 1000


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "not JSON (Expecting value: line 1"),
        (
            b"<!DOCTYPE html>",
            "not JSON (Expecting value: line 1",
        ),  # what a page for confirming a download gives
        (b'{"train": [[', "not JSON ("),
        (b"[" * 10**6, "not JSON ("),
        (b"\xff\xfe", "cannot be read: not UTF-8 text"),
    ],
)
def test_split_files_that_are_no_json(tmp_path: Path, content: bytes, expected: str) -> None:
    folder = write_set(tmp_path, "dtd")
    (folder / "split_zhou_DescribableTextures.json").write_bytes(content)
    message = complaint(read_dataset, "dtd", tmp_path)
    assert expected in message
    assert message.endswith("; download it again")


def test_a_split_file_that_is_too_large(tmp_path: Path) -> None:
    folder = write_set(tmp_path, "dtd")
    with (folder / "split_zhou_DescribableTextures.json").open("r+b") as file:
        file.truncate(64 * 10**6 + 1)  # sparse
    assert "64000001 bytes, expected at most 64000000" in complaint(read_dataset, "dtd", tmp_path)


# Text lists and class folders that do not fit


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("variants.txt", "707-320\n707-320\n", "variants.txt: expected one variant a line, each once"),
        ("variants.txt", "\n", "variants.txt: expected one variant a line, each once"),
        (
            "images_variant_val.txt",
            "0000003 Concorde\n",
            "val.txt, line 1: 'Concorde' is not in variants.txt",
        ),
        ("images_variant_val.txt", "0000003\n", "line 1: '' is not in variants.txt; download both again"),
        (
            "images_variant_test.txt",
            "\n../3 707-320\n",
            "test.txt, line 2: '../3' is no path inside the image folder",
        ),
        ("images_variant_test.txt", "9 707-320\n", "FGVCAircraft: 1 of 13 listed photos are missing"),
    ],
)
def test_broken_lists_of_aircraft(tmp_path: Path, name: str, text: str, expected: str) -> None:
    folder = write_set(tmp_path, "fgvc_aircraft")
    write(folder / name, text)
    assert expected in complaint(read_dataset, "fgvc_aircraft", tmp_path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "classnames.txt: lists no classes"),
        ("n01440764\n", "classnames.txt, line 1: expected an id and a name, sorted by id, found 'n01440764'"),
        ("n2 a\nn1 b\n", "classnames.txt, line 2: expected an id and a name, sorted by id, found 'n1 b'"),
        ("n1 a\n\nn1 b\n", "classnames.txt, line 3: expected an id and a name, sorted by id"),
        (CLASSNAMES + "n09999999 ear\n", "has no folder n09999999, unlike classnames.txt with its 4 classes"),
        ("n01440764 tench\n", "has a folder n02012849, unlike classnames.txt with its 1 classes"),
    ],
)
@pytest.mark.parametrize("name", ["imagenet", "imagenet_sketch"])
def test_class_names_that_do_not_fit(tmp_path: Path, name: str, text: str, expected: str) -> None:
    folder = write_set(tmp_path, name)
    write(folder / "classnames.txt", text)
    assert expected in complaint(read_dataset, name, tmp_path)


def test_other_folders_than_imagenetv2_has(tmp_path: Path) -> None:
    folder = write_set(tmp_path, "imagenetv2")
    write(folder / LAYOUTS["imagenetv2"].images / "3" / "0.jpeg", "x")
    message = complaint(read_dataset, "imagenetv2", tmp_path)
    assert "has a folder 3, unlike classnames.txt with its 3 classes" in message
    assert "https://github.com/modestyachts/ImageNetV2" in message


def test_photos_of_imagenet_without_class_folders(tmp_path: Path) -> None:
    folder = write_set(tmp_path, "imagenet")
    (folder / "images" / "val").rename(folder / "images" / "away")
    write(folder / "images" / "val" / "ILSVRC2012_val_00000001.JPEG", "x")
    assert "holds 1 files but no class folders" in complaint(read_dataset, "imagenet", tmp_path)
