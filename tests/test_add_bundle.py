"""Adding a folder or a zip file, sound or hostile: one clear error, and nothing half-installed."""

import shutil
import zipfile
from pathlib import Path

import pytest
from bundles import FILES, installed, names, zipped

from qprompt_runtime import bundle
from qprompt_runtime.bundle import add_bundle, find_bundle, read_manifest, user_folder, verify_hashes
from qprompt_runtime.errors import BundleError, OutputError

# ---------------------------------------------------------------------- adding


def test_add_a_folder(dummy: Path) -> None:
    (dummy / "notes.txt").write_text("not of the bundle", encoding="utf-8")
    target = add_bundle(dummy)
    assert target == user_folder() / "dummy" == find_bundle("dummy")
    assert names(target) == sorted([*FILES, "manifest.json"])
    assert verify_hashes(target) == read_manifest(dummy)
    assert installed() == ["dummy"]


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("prefix", ["", "dummy/", "deep/inside/"])
def test_add_a_zip_file(dummy: Path, prefix: str, method: int) -> None:
    target = add_bundle(zipped(dummy, prefix, method))
    assert names(target) == sorted([*FILES, "manifest.json"])
    assert verify_hashes(target) == read_manifest(dummy)
    assert installed() == ["dummy"]


def test_add_under_another_name(dummy: Path) -> None:
    assert add_bundle(dummy, "mine") == find_bundle("mine")
    assert installed() == ["mine"]


def test_a_link_keeps_its_name_and_files_are_copied(dummy: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").symlink_to(dummy)
    target = add_bundle(tmp_path / "mine")
    assert target == user_folder() / "mine"
    assert not any(path.is_symlink() for path in (target, *target.iterdir()))
    assert verify_hashes(target) == read_manifest(dummy)


def test_a_dot_in_a_folder_name_stays(dummy: Path) -> None:
    dotted = dummy.rename(dummy.with_name("model-v2.5"))
    assert add_bundle(dotted).name == "model-v2.5"


def test_add_the_present_folder(dummy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(dummy)
    assert add_bundle(Path()).name == "dummy"


@pytest.mark.parametrize("name", ["../escaped", "sub/name", "..", ".hidden"])
def test_a_name_that_is_no_plain_name(dummy: Path, name: str) -> None:
    with pytest.raises(BundleError, match="name"):
        add_bundle(dummy, name)
    assert installed() == []


def test_a_name_that_is_taken(dummy: Path) -> None:
    target = add_bundle(dummy)
    before = {path.name: path.read_bytes() for path in target.iterdir()}
    with pytest.raises(BundleError, match="'dummy' is installed already"):
        add_bundle(dummy)
    assert {path.name: path.read_bytes() for path in target.iterdir()} == before


def test_the_name_of_a_shipped_backbone(dummy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(dummy, tmp_path / "shipped" / "dummy")
    monkeypatch.setattr(bundle, "_SHIPPED", tmp_path / "shipped")
    with pytest.raises(BundleError, match="installed already"):
        add_bundle(dummy)


def test_nothing_to_add(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no such file or folder"):
        add_bundle(tmp_path / "absent.zip")
    assert installed() == []


def test_a_folder_that_is_no_bundle(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(BundleError):
        add_bundle(tmp_path / "empty")
    assert installed() == []


def test_a_backbone_folder_that_cannot_be_written(
    dummy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("QPE_BACKBONES", str(tmp_path / "file"))
    with pytest.raises(OutputError, match="cannot add"):
        add_bundle(dummy)


# ---------------------------------------------------------------------- zip files


@pytest.mark.parametrize("content", [b"", b"PK", b"no zip at all", b"PK\x05\x06" + bytes(18)])
def test_bad_zip_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.zip").write_bytes(content)
    with pytest.raises(BundleError, match=r"readable zip file|holds 0 bundles"):
        add_bundle(tmp_path / "bad.zip")
    assert installed() == []


def test_zip_of_two_bundles(dummy: Path) -> None:
    path = zipped(dummy)
    with zipfile.ZipFile(path, "a") as archive:
        archive.write(dummy / "manifest.json", "other/manifest.json")
    with pytest.raises(BundleError, match="holds 2 bundles"):
        add_bundle(path)


def test_zip_with_a_missing_file(dummy: Path) -> None:
    (dummy / "text.weights").unlink()
    with pytest.raises(BundleError, match=r"'text.weights' is missing"):
        add_bundle(zipped(dummy))
    assert installed() == []


def test_zip_with_a_file_of_the_wrong_size(dummy: Path) -> None:
    (dummy / "text.weights").write_bytes(b"short")
    with pytest.raises(BundleError, match=r"'text.weights' is missing, or its size is not"):
        add_bundle(zipped(dummy))
    assert installed() == []


@pytest.mark.parametrize("name", ["../../escaped", "/tmp/escaped", "dummy/../../escaped"])
def test_zip_with_names_that_leave_the_folder(dummy: Path, name: str) -> None:
    """Members that the manifest does not list are never unpacked, whatever they are called."""
    path = zipped(dummy)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(name, b"escaped")
    target = add_bundle(path)
    assert names(target) == sorted([*FILES, "manifest.json"])
    assert installed() == ["dummy"]
    assert not (user_folder().parent / "escaped").exists()


def test_zip_with_a_password(dummy: Path) -> None:
    path = zipped(dummy)
    data = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):  # the flags' place in each header
        start = 0
        while (start := data.find(signature, start)) >= 0:
            data[start + offset] |= 1
            start += 4
    path.write_bytes(data)
    with pytest.raises(BundleError, match="zip file"):
        add_bundle(path)
    assert installed() == []


@pytest.mark.parametrize(
    "method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
)
def test_zip_with_any_damage(dummy: Path, method: int) -> None:
    """A changed byte gives one clear error, or was in a place that does not matter."""
    path = zipped(dummy, method=method)
    sound = path.read_bytes()
    for place in range(0, len(sound), max(1, len(sound) // 150)):
        path.write_bytes(sound[:place] + bytes([sound[place] ^ 0x55]) + sound[place + 1 :])
        try:
            target = add_bundle(path)
        except BundleError:
            assert installed() == []
        else:
            verify_hashes(target)
            shutil.rmtree(target)


def test_zip_that_points_before_its_start(dummy: Path) -> None:
    path = zipped(dummy)
    data = bytearray(path.read_bytes())
    end = data.rfind(b"PK\x05\x06")
    data[end + 16 : end + 20] = (2**31).to_bytes(4, "little")  # where the list of members begins
    path.write_bytes(data)
    with pytest.raises(BundleError, match="nor a readable zip file"):
        add_bundle(path)
    assert installed() == []


def test_truncated_zip_file(dummy: Path) -> None:
    path = zipped(dummy)
    sound = path.read_bytes()
    for length in range(0, len(sound), max(1, len(sound) // 40)):
        path.write_bytes(sound[:length])
        with pytest.raises(BundleError):
            add_bundle(path)
    assert installed() == []
