"""Folders and lists become labelled photos; what cannot be used is said in one line."""

import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scenes import complaint

from qprompt_edge.data.csv_files import read_class_names
from qprompt_edge.data.photos import drop_unreadable, find_photos, read_labels_csv
from qprompt_runtime.errors import ImageError
from qprompt_runtime.images import read_image


def make(folder: Path, *names: str) -> Path:
    """Files with something in them; finding photos does not open them."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return folder


def failure(path: Path) -> str | None:
    try:
        read_image(path)
    except ImageError as error:
        return error.reason
    return None


# Folders


def test_classes_are_folders_and_photos_lie_anywhere_below(tmp_path: Path) -> None:
    make(tmp_path, "dog/2.jpg", "dog/1.jpg", "cat/b/deep/3.png", "cat/a.jpg", "cat/no-suffix")
    photos = find_photos(tmp_path)
    assert photos.classes == ("cat", "dog")
    names = [path.relative_to(tmp_path).as_posix() for path in photos.paths]
    assert names == ["cat/a.jpg", "cat/b/deep/3.png", "cat/no-suffix", "dog/1.jpg", "dog/2.jpg"]
    assert photos.labels.dtype == np.int64
    assert photos.labels.tolist() == [0, 0, 0, 1, 1]
    assert photos.skipped == ()


def test_hidden_files_are_passed_over_and_files_beside_classes_are_listed(tmp_path: Path) -> None:
    make(
        tmp_path,
        "a/1",
        "b/1",
        ".git/1",
        ".DS_Store",
        "a/.DS_Store",
        "a/Thumbs.db",
        "b/.cache/1",
        "__MACOSX/1",
    )
    make(tmp_path, "labels.csv")
    photos = find_photos(tmp_path)
    assert len(photos.paths) == 2
    assert [(skip.path.name, skip.reason) for skip in photos.skipped] == [
        ("labels.csv", "lies beside the class folders, not in one")
    ]


@pytest.mark.parametrize("name", ["two words", "grüne Äpfel 日本", "a\nb", "n" * 200, "'quoted', \"both\""])
def test_odd_class_names(tmp_path: Path, name: str) -> None:
    make(tmp_path, f"{name}/1.jpg", "zz/1.jpg")
    assert find_photos(tmp_path).classes == (name, "zz")


def test_labels_are_composed_and_both_spellings_are_one_class(tmp_path: Path) -> None:
    composed, split = unicodedata.normalize("NFC", "café"), unicodedata.normalize("NFD", "café")
    make(tmp_path, f"{split}/1.jpg", "tea/1.jpg")
    assert find_photos(tmp_path).classes == (composed, "tea")
    make(tmp_path, f"{composed}/2.jpg")
    assert find_photos(tmp_path).labels.tolist() == [0, 0, 1]


def test_a_class_name_that_is_no_text(tmp_path: Path) -> None:
    make(tmp_path, "a/1")
    make(tmp_path, os.fsdecode(b"\xff\xfe/1"))
    assert "not valid UTF-8" in complaint(find_photos, tmp_path)


def test_no_such_folder_a_file_and_an_empty_folder(tmp_path: Path) -> None:
    for missing in (tmp_path / "none", tmp_path / ("n" * 300), Path("a\0b")):
        assert "no such folder; give a folder" in complaint(find_photos, missing)
    make(tmp_path, "file", "hidden/.x")
    assert "is a file; give a folder" in complaint(find_photos, tmp_path / "file")
    assert "is empty; put the photos" in complaint(find_photos, tmp_path / "hidden")


def test_images_without_class_folders(tmp_path: Path) -> None:
    make(tmp_path, "1.jpg", "2.jpg")
    assert "holds 2 files but no class folders" in complaint(find_photos, tmp_path)


def test_one_class_only(tmp_path: Path) -> None:
    make(tmp_path, "cat/1.jpg", "cat/2.jpg")
    assert "only one class, cat; at least 2 classes" in complaint(find_photos, tmp_path)
    assert find_photos(tmp_path, min_classes=1).classes == ("cat",)


def test_an_empty_class_is_named(tmp_path: Path) -> None:
    make(tmp_path, "a/1", "b/1")
    (tmp_path / "line\nbreak").mkdir()
    message = complaint(find_photos, tmp_path)
    assert message.startswith("class line\\nbreak has no readable image (its folder is empty)")


def test_links_are_followed_but_circles_end(tmp_path: Path) -> None:
    photos = make(tmp_path / "photos", "a/1.jpg", "b/1.jpg")
    make(tmp_path / "elsewhere", "2.jpg")
    (photos / "a" / "more").symlink_to(tmp_path / "elsewhere")
    (photos / "a" / "self").symlink_to(photos / "a")
    (photos / "a" / "up").symlink_to(photos)
    (photos / "a" / "top").symlink_to("/")
    (photos / "b" / "2.jpg").symlink_to(photos / "nothing")
    (photos / "b" / "3.jpg").symlink_to(photos / "b" / "3.jpg")
    os.mkfifo(photos / "b" / "pipe")
    found = find_photos(photos)
    assert found.labels.tolist() == [0, 0, 1]
    assert [(skip.path.name, skip.reason.split()[-1]) for skip in found.skipped] == [
        ("2.jpg", "nowhere"),
        ("3.jpg", "nowhere"),
        ("pipe", "file"),
    ]


# Lists


def test_a_list_with_a_byte_order_mark_and_missing_files(tmp_path: Path) -> None:
    make(tmp_path, "x/1.jpg", "x/2.jpg", "3.jpg")
    text = "label,path\r\ncat,x/2.jpg\r\ndog,3.jpg\r\ncat,x/1.jpg\r\n\r\ncat,gone.jpg\r\ncat,x/./1.jpg\r\n"
    (tmp_path / "labels.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())
    photos = read_labels_csv(tmp_path / "labels.csv")
    assert photos.classes == ("cat", "dog")
    assert [path.name for path in photos.paths] == ["3.jpg", "1.jpg", "2.jpg"]
    assert photos.labels.tolist() == [1, 0, 0]
    assert [(skip.path, skip.reason) for skip in photos.skipped] == [(tmp_path / "gone.jpg", "no such file")]


def test_relative_paths_start_from_the_folder_given(tmp_path: Path) -> None:
    make(tmp_path / "images", "1.jpg", "with, comma\nand line.jpg")
    lists = make(tmp_path / "lists", "labels.csv") / "labels.csv"
    lists.write_text('path,label\n1.jpg,a\n"with, comma\nand line.jpg",b\n')
    assert len(read_labels_csv(lists, tmp_path / "images").paths) == 2
    lists.write_text(f"path,label\n{tmp_path / 'images' / '1.jpg'},a\n1.jpg,b\n")
    assert complaint(read_labels_csv, lists).startswith("class b has no readable image (1.jpg: no such file)")


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "expected the columns path,label, found nothing"),
        ("file,class\n1,a\n", "expected the columns path,label, found file,class"),
        ("path,label,split\n1,a,x\n", "found path,label,split"),
        ("path:label\n1:a\n", "found path:label"),
        ("path;label\n1,a\n", "line 2: expected two values, path;label, found 1; put quotes around"),
        ("path\tlabel\n1\ta\tb\n", "expected two values, path\\tlabel, found 3"),
        ("path,label\n1\n", "line 2: expected two values"),
        ("path,label\n1,\n", "line 2: expected two values"),
        ("path,label\n1,a\n1,b\n", "1 is listed under two labels: a and b"),
        ("path,label\n1,a\n", "only one class, a"),
        ("path,label\n", "no photos"),
        ("path,label\ngone,a\nalso,b\n", "class a has no readable image (gone: no such file)"),
        ("path,label\n1,a\n2\0,b\n", ""),
    ],
)
def test_lists_that_cannot_be_used(tmp_path: Path, text: str, part: str) -> None:
    make(tmp_path, "1", "2")
    (tmp_path / "labels.csv").write_text(text)
    assert part in complaint(read_labels_csv, tmp_path / "labels.csv")


def test_lists_that_cannot_be_read(tmp_path: Path) -> None:
    assert "cannot be read: No such file" in complaint(read_labels_csv, tmp_path / "none.csv")
    assert "cannot be read" in complaint(read_labels_csv, tmp_path)
    for content, words in {
        "path,label\n1,a\n".encode(
            "utf-16-le"
        ): "(it holds zero bytes, as UTF-16 does); expected CSV with columns path,label",
        "path,label\n1,grün\n".encode(
            "latin-1"
        ): "not a UTF-8 text table (byte 0xfc in line 2 is none of utf-8)",
        b"PK\x03\x04" + bytes(30): "is a zip archive: a download to unpack, a spreadsheet to save as text",
        b"<!DOCTYPE html><html>": "is a web page (HTML)",
    }.items():
        (tmp_path / "odd.csv").write_bytes(content)
        message = complaint(read_labels_csv, tmp_path / "odd.csv")
        assert words in message
        assert message.endswith("save it as CSV, in UTF-8")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_lists_as_spreadsheets_save_them(tmp_path: Path, encoding: str, mark: str) -> None:
    make(tmp_path, "1, 2; 3\t4.jpg", "ä.jpg")
    text = f'label{mark} path\r\ngrün{mark}"1, 2; 3\t4.jpg"\r\nrot{mark}ä.jpg\r\n'
    (tmp_path / "labels.csv").write_bytes(text.encode(encoding))
    photos = read_labels_csv(tmp_path / "labels.csv")
    assert (photos.classes, photos.labels.tolist()) == (("grün", "rot"), [0, 1])
    (tmp_path / "names.csv").write_bytes(f'text{mark}label\n"a, b; c\td"{mark}rot\n'.encode(encoding))
    assert read_class_names(tmp_path / "names.csv", photos.classes) == {"rot": "a, b; c\td"}


def test_class_names(tmp_path: Path) -> None:
    path = tmp_path / "names.csv"
    path.write_text('label,text\nok,"a smooth, clean nut"\n', encoding="utf-8-sig")
    assert read_class_names(path, ("defect_A", "ok")) == {"ok": "a smooth, clean nut"}
    path.write_text("label,text\nmissing,x\n")
    assert complaint(read_class_names, path, ("a", "b")).endswith(
        "unknown class missing; the classes are a, b"
    )
    path.write_text("label,text\na,x\na,y\n")
    assert "class a is listed twice" in complaint(read_class_names, path, ("a", "b"))
    path.write_text("label,name\na,x\n")
    assert "expected the columns label,text, found label,name" in complaint(read_class_names, path, ("a",))


# Photos that cannot be decoded


def test_unreadable_photos_are_skipped_with_their_reason(tmp_path: Path) -> None:
    for name in ("a/1.jpg", "a/2.jpg", "b/1.jpg"):
        make(tmp_path, name)
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    make(tmp_path, "a/text.jpg")
    (tmp_path / "b/empty.jpg").touch()
    photos = find_photos(tmp_path)
    failures = {index: error for index, path in enumerate(photos.paths) if (error := failure(path))}
    rest = drop_unreadable(photos, failures)
    assert rest.labels.tolist() == [0, 0, 1]
    assert [(skip.path.name, skip.reason) for skip in rest.skipped] == [
        ("text.jpg", "is not an image"),
        ("empty.jpg", "is empty (0 bytes)"),
    ]
    assert drop_unreadable(photos, {}).paths == photos.paths
    message = complaint(
        drop_unreadable, photos, {**failures, photos.paths.index(tmp_path / "b/1.jpg"): "is bad"}
    )
    assert message.startswith("class b has no readable image (")
