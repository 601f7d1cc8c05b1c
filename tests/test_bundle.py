"""Bundles: sound, incomplete or altered, and where they are found."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from bundles import FILES, installed, zipped
from conftest import TINY_FOLDER

from qprompt_runtime.backbone import Backbone
from qprompt_runtime.bundle import add_bundle, find_bundle, read_manifest, user_folder, verify_hashes
from qprompt_runtime.errors import BundleError
from qprompt_runtime.manifest import Manifest

# ---------------------------------------------------------------------- files


def test_a_sound_bundle(dummy: Path) -> None:
    manifest = verify_hashes(dummy)
    assert manifest.name == "dummy"
    assert set(manifest.files) == set(FILES)
    assert manifest.image_transform.size == (8, 8)
    assert Manifest.from_json(manifest.to_json()) == manifest


@pytest.mark.parametrize("name", FILES)
def test_missing_file(dummy: Path, name: str) -> None:
    (dummy / name).unlink()
    with pytest.raises(BundleError, match=rf"{name} is missing"):
        read_manifest(dummy)


@pytest.mark.parametrize("name", FILES)
def test_file_of_another_size(dummy: Path, name: str) -> None:
    with (dummy / name).open("ab") as file:
        file.write(b"x")
    size = len(FILES[name])
    with pytest.raises(BundleError, match=rf"{name} has {size + 1} bytes, its manifest says {size}"):
        read_manifest(dummy)


@pytest.mark.parametrize("name", FILES)
def test_altered_byte(dummy: Path, name: str) -> None:
    content = bytearray(FILES[name])
    content[len(content) // 2] ^= 1
    (dummy / name).write_bytes(content)
    read_manifest(dummy)  # an opening checks sizes only
    with pytest.raises(BundleError, match=rf"{name} was altered"):
        verify_hashes(dummy)
    for source in (dummy, zipped(dummy)):
        with pytest.raises(BundleError, match=rf"{name} was altered"):
            add_bundle(source)
    assert installed() == []


def test_a_folder_where_a_file_should_be(dummy: Path) -> None:
    (dummy / "image.onnx").unlink()
    (dummy / "image.onnx").mkdir()
    with pytest.raises(BundleError, match=r"image\.onnx"):
        verify_hashes(dummy)


# ---------------------------------------------------------------------- finding


def test_find_by_folder(dummy: Path) -> None:
    assert find_bundle(dummy) == dummy
    assert find_bundle(str(dummy)) == dummy


def test_unknown_name_lists_what_is_installed(dummy: Path) -> None:
    add_bundle(dummy, "one")
    add_bundle(dummy, "two")
    with pytest.raises(BundleError, match=r"no backbone 'three'; installed: .*one, two"):
        find_bundle("three")


def test_a_folder_without_a_manifest(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"is no backbone bundle: it has no manifest.json"):
        find_bundle(tmp_path)


def linked(source: Path, folder: Path) -> Path:
    """A folder whose files are links, as download caches keep them.

    The bytes lie elsewhere under other names.
    """
    (folder / "blobs").mkdir(parents=True)
    (folder / "bundle").mkdir()
    for number, path in enumerate(sorted(source.iterdir())):
        shutil.copyfile(path, folder / "blobs" / f"{number:04}")
        (folder / "bundle" / path.name).symlink_to(Path("..", "blobs", f"{number:04}"))
    return folder / "bundle"


def test_a_bundle_may_be_a_link_or_made_of_links(tmp_path: Path, tiny: Backbone) -> None:
    (tmp_path / "whole").symlink_to(TINY_FOLDER)
    pixels = np.zeros((1, 3, *tiny.manifest.image_transform.size), np.float32)
    for folder in (tmp_path / "whole", linked(TINY_FOLDER, tmp_path / "parts")):
        found = Backbone.load(folder, threads=1)
        np.testing.assert_allclose(found.encode_images(pixels), tiny.encode_images(pixels), atol=1e-5)
        assert verify_hashes(folder) == tiny.manifest


def test_a_linked_folder_among_the_added_ones_is_found(dummy: Path) -> None:
    user_folder().mkdir()
    (user_folder() / "mine").symlink_to(dummy)
    (user_folder() / "broken").symlink_to(dummy.parent / "nothing")
    assert find_bundle("mine") == user_folder() / "mine"
    assert installed() == ["broken", "mine"]


def test_a_name_too_long_for_a_file_is_no_backbone() -> None:
    with pytest.raises(BundleError, match="no backbone 'xxx"):
        find_bundle("x" * 5000)


def test_backbones_live_under_the_data_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("QPE_BACKBONES")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert user_folder() == tmp_path / "qprompt-edge" / "backbones"


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 7\n"


def test_what_a_download_left_in_place_of_a_file_is_named(dummy: Path, tmp_path: Path) -> None:
    (dummy / next(iter(FILES))).write_bytes(POINTER)
    with pytest.raises(BundleError, match=r"has \d+ bytes.*\(the file is a Git LFS pointer"):
        read_manifest(dummy)
    (dummy / "manifest.json").write_bytes(POINTER)
    with pytest.raises(BundleError, match=r"is not JSON.*\(the file is a Git LFS pointer"):
        read_manifest(dummy)
    page = tmp_path / "other.zip"
    page.write_bytes(b"<!DOCTYPE html>\n<html>")
    with pytest.raises(BundleError, match=r"nor a readable zip file: .*\(the file is a web page \(HTML\)"):
        add_bundle(page)
    assert installed() == []
