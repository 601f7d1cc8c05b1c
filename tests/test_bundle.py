"""Bundles that are incomplete, altered or hostile: one clear error each, and nothing half-installed."""

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnxruntime
import pytest

from qprompt_runtime import bundle, providers
from qprompt_runtime.bundle import (
    add_bundle,
    file_record,
    find_bundle,
    read_manifest,
    user_folder,
    verify_hashes,
)
from qprompt_runtime.errors import BundleError, OutputError, ProviderError
from qprompt_runtime.manifest import Manifest

FILES = {
    "image.onnx": b"not a graph",
    "image.weights": bytes(5000),
    "text.onnx": b"not a graph either",
    "text.weights": bytes(range(256)) * 20,
    "tokenizer.json": b"{}",
}
GRAPH = {"precision": "fp32", "inputs": {"pixels": ["B", 3, 8, 8]}, "outputs": {}, "max_batch": 0}


def facts() -> dict[str, Any]:
    """A manifest without its files' records."""
    return {
        "format_version": 1,
        "name": "dummy",
        "pretrained": "",
        "random_weights": True,
        "licence": "none",
        "fingerprint": "00112233445566778899aabbccddeeff",
        "embed_dim": 32,
        "logit_scale": 100.0,
        "image_transform": {
            "size": [8, 8], "resize_mode": "shortest", "interpolation": "bicubic",
            "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "fill_color": 0,
        },
        "text": {
            "width": 64, "layers": 3, "context_length": 77, "causal": True, "cleaning": "lower",
            "start_token": 49406, "end_token": 49407, "pad_token": 0, "pooling": "end_token",
        },
        "image_graph": {"file": "image.onnx", **GRAPH},
        "text_graph": {"file": "text.onnx", **GRAPH},
        "files": {},
        "parity": {"gradient_error": 1e-6},
        "accuracy": {},
        "tool_version": "0.1.0",
    }  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A bundle as far as its manifest goes; its graphs are no graphs."""
    path = tmp_path / "somewhere" / "dummy"
    path.mkdir(parents=True)
    for name, content in FILES.items():
        (path / name).write_bytes(content)
    records = {name: vars(file_record(path / name)) for name in FILES}
    (path / "manifest.json").write_text(json.dumps({**facts(), "files": records}), encoding="utf-8")
    return path


def change(folder: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    raw = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    edit(raw)
    (folder / "manifest.json").write_text(json.dumps(raw), encoding="utf-8")


def zipped(folder: Path, prefix: str = "dummy/", method: int = zipfile.ZIP_DEFLATED) -> Path:
    path = folder.parent / "dummy.zip"
    with zipfile.ZipFile(path, "w", method) as archive:
        for file in sorted(folder.iterdir()):
            archive.write(file, prefix + file.name)
    return path


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def installed() -> list[str]:
    """What the user's backbone folder holds, hidden leftovers included."""
    return names(user_folder()) if user_folder().exists() else []


def assert_one_line(error: pytest.ExceptionInfo[BaseException]) -> None:
    assert str(error.value).strip()
    assert "\n" not in str(error.value)


# ---------------------------------------------------------------------- files


def test_a_sound_bundle(folder: Path) -> None:
    manifest = verify_hashes(folder)
    assert manifest.name == "dummy"
    assert set(manifest.files) == set(FILES)
    assert manifest.image_transform.size == (8, 8)
    assert Manifest.from_json(manifest.to_json()) == manifest


@pytest.mark.parametrize("name", FILES)
def test_missing_file(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(BundleError, match=rf"{name} is missing"):
        read_manifest(folder)


@pytest.mark.parametrize("name", FILES)
def test_file_of_another_size(folder: Path, name: str) -> None:
    with (folder / name).open("ab") as file:
        file.write(b"x")
    size = len(FILES[name])
    with pytest.raises(BundleError, match=rf"{name} has {size + 1} bytes, its manifest says {size}"):
        read_manifest(folder)


@pytest.mark.parametrize("name", FILES)
def test_altered_byte(folder: Path, name: str) -> None:
    content = bytearray(FILES[name])
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    read_manifest(folder)  # an opening checks sizes only
    with pytest.raises(BundleError, match=rf"{name} was altered"):
        verify_hashes(folder)
    for source in (folder, zipped(folder)):
        with pytest.raises(BundleError, match=rf"{name} was altered"):
            add_bundle(source)
    assert installed() == []


# ---------------------------------------------------------------------- manifests


def test_a_folder_where_a_file_should_be(folder: Path) -> None:
    (folder / "image.onnx").unlink()
    (folder / "image.onnx").mkdir()
    with pytest.raises(BundleError, match=r"image\.onnx"):
        verify_hashes(folder)


@pytest.mark.parametrize("text", ["", "{", "not json", "[" * 100_000, '{"a": 1,}', "\ufeff{}"])
def test_manifest_that_is_not_json(folder: Path, text: str) -> None:
    (folder / "manifest.json").write_text(text, encoding="utf-8")
    with pytest.raises(BundleError, match="manifest is not JSON") as error:
        read_manifest(folder)
    assert_one_line(error)


def test_manifest_that_is_not_text(folder: Path) -> None:
    (folder / "manifest.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BundleError, match="cannot read"):
        read_manifest(folder)


@pytest.mark.parametrize("text", ["[]", "null", "3", '"text"', "{}"])
def test_manifest_that_is_no_manifest(folder: Path, text: str) -> None:
    (folder / "manifest.json").write_text(text, encoding="utf-8")
    with pytest.raises(BundleError, match="format version None"):
        read_manifest(folder)


@pytest.mark.parametrize("version", [0, 2, "1", None, [1]])
def test_manifest_of_another_version(folder: Path, version: object) -> None:
    change(folder, lambda raw: raw.update(format_version=version))
    with pytest.raises(BundleError, match=r"format version .*this program reads 1"):
        read_manifest(folder)


@pytest.mark.parametrize("name", [name for name in facts() if name != "format_version"])
def test_manifest_with_a_missing_field(folder: Path, name: str) -> None:
    change(folder, lambda raw: raw.pop(name))
    with pytest.raises(BundleError, match=rf"missing \['{name}'\]"):
        read_manifest(folder)


def test_manifest_with_an_unknown_field(folder: Path) -> None:
    change(folder, lambda raw: raw["text"].update(colour="red"))
    with pytest.raises(
        BundleError, match=r"manifest.text does not match: missing \[\], unknown \['colour'\]"
    ):
        read_manifest(folder)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("name", 3),
        ("embed_dim", 3.5),
        ("embed_dim", True),
        ("random_weights", 1),
        ("logit_scale", "100"),
        ("logit_scale", 10**400),
        ("logit_scale", float("nan")),
        ("parity", {"gradient_error": float("inf")}),
        ("text", []),
        ("files", [1]),
        ("parity", {"gradient_error": "small"}),
        ("fingerprint", "0011"),
        ("fingerprint", "Z" * 32),
        ("image_graph", {"file": "image.onnx", **GRAPH, "inputs": {"pixels": [None]}}),
        ("image_transform", {**facts()["image_transform"], "size": [8]}),
        ("image_transform", {**facts()["image_transform"], "size": [0, 8]}),
        ("image_transform", {**facts()["image_transform"], "interpolation": "nearest"}),
    ],
)
def test_manifest_with_a_value_of_the_wrong_kind(folder: Path, place: str, value: object) -> None:
    change(folder, lambda raw: raw.update({place: value}))
    with pytest.raises(BundleError) as error:
        read_manifest(folder)
    assert str(folder) in str(error.value)
    assert len(str(error.value)) < 1000
    assert_one_line(error)


def test_manifest_that_does_not_list_what_it_uses(folder: Path) -> None:
    change(folder, lambda raw: raw["files"].pop("tokenizer.json"))
    with pytest.raises(BundleError, match=r"does not list tokenizer\.json"):
        read_manifest(folder)


@pytest.mark.parametrize(
    "name", ["../secret", "/etc/hostname", "sub/file", "..", ".", "", "../dummy/image.onnx", "a\0b"]
)
def test_manifest_that_reaches_outside_of_the_bundle(folder: Path, name: str) -> None:
    (folder.parent / "secret").write_bytes(b"secret")
    target = folder / name if "\0" not in name else folder
    size = target.stat().st_size if target.exists() else 5
    change(folder, lambda raw: raw["files"].update({name: {"bytes": size, "sha256": "0" * 64}}))
    with pytest.raises(BundleError, match="outside of the bundle"):
        read_manifest(folder)
    with pytest.raises(BundleError):
        add_bundle(folder)
    with pytest.raises(BundleError):
        add_bundle(zipped(folder))
    assert installed() == []


def test_manifest_of_enormous_size(folder: Path) -> None:
    with (folder / "manifest.json").open("ab") as file:
        file.write(b" " * 2_000_000)
    with pytest.raises(BundleError, match="larger than"):
        read_manifest(folder)
    with pytest.raises(BundleError, match="larger than"):
        add_bundle(zipped(folder))


# ---------------------------------------------------------------------- adding


def test_add_a_folder(folder: Path) -> None:
    (folder / "notes.txt").write_text("not of the bundle", encoding="utf-8")
    target = add_bundle(folder)
    assert target == user_folder() / "dummy" == find_bundle("dummy")
    assert names(target) == sorted([*FILES, "manifest.json"])
    assert verify_hashes(target) == read_manifest(folder)
    assert installed() == ["dummy"]


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("prefix", ["", "dummy/", "deep/inside/"])
def test_add_a_zip_file(folder: Path, prefix: str, method: int) -> None:
    target = add_bundle(zipped(folder, prefix, method))
    assert names(target) == sorted([*FILES, "manifest.json"])
    assert verify_hashes(target) == read_manifest(folder)
    assert installed() == ["dummy"]


def test_add_under_another_name(folder: Path) -> None:
    assert add_bundle(folder, "mine") == find_bundle("mine")
    assert installed() == ["mine"]


def test_a_dot_in_a_folder_name_stays(folder: Path) -> None:
    dotted = folder.rename(folder.with_name("model-v2.5"))
    assert add_bundle(dotted).name == "model-v2.5"


def test_add_the_present_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    assert add_bundle(Path()).name == "dummy"


@pytest.mark.parametrize("name", ["../escaped", "sub/name", "..", ".hidden"])
def test_a_name_that_is_no_plain_name(folder: Path, name: str) -> None:
    with pytest.raises(BundleError, match="name"):
        add_bundle(folder, name)
    assert installed() == []


def test_a_name_that_is_taken(folder: Path) -> None:
    target = add_bundle(folder)
    before = {path.name: path.read_bytes() for path in target.iterdir()}
    with pytest.raises(BundleError, match="'dummy' is installed already"):
        add_bundle(folder)
    assert {path.name: path.read_bytes() for path in target.iterdir()} == before


def test_the_name_of_a_shipped_backbone(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(folder, tmp_path / "shipped" / "dummy")
    monkeypatch.setattr(bundle, "_SHIPPED", tmp_path / "shipped")
    with pytest.raises(BundleError, match="installed already"):
        add_bundle(folder)


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
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("QPE_BACKBONES", str(tmp_path / "file"))
    with pytest.raises(OutputError, match="cannot add"):
        add_bundle(folder)


# ---------------------------------------------------------------------- zip files


@pytest.mark.parametrize("content", [b"", b"PK", b"no zip at all", b"PK\x05\x06" + bytes(18)])
def test_bad_zip_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.zip").write_bytes(content)
    with pytest.raises(BundleError, match=r"readable zip file|holds 0 bundles"):
        add_bundle(tmp_path / "bad.zip")
    assert installed() == []


def test_zip_of_two_bundles(folder: Path) -> None:
    path = zipped(folder)
    with zipfile.ZipFile(path, "a") as archive:
        archive.write(folder / "manifest.json", "other/manifest.json")
    with pytest.raises(BundleError, match="holds 2 bundles"):
        add_bundle(path)


def test_zip_with_a_missing_file(folder: Path) -> None:
    (folder / "text.weights").unlink()
    with pytest.raises(BundleError, match=r"'text.weights' is missing"):
        add_bundle(zipped(folder))
    assert installed() == []


def test_zip_with_a_file_of_the_wrong_size(folder: Path) -> None:
    (folder / "text.weights").write_bytes(b"short")
    with pytest.raises(BundleError, match=r"'text.weights' is missing or not of the size"):
        add_bundle(zipped(folder))
    assert installed() == []


@pytest.mark.parametrize("name", ["../../escaped", "/tmp/escaped", "dummy/../../escaped"])
def test_zip_with_names_that_leave_the_folder(folder: Path, name: str) -> None:
    """Members that the manifest does not list are never unpacked, whatever they are called."""
    path = zipped(folder)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(name, b"escaped")
    target = add_bundle(path)
    assert names(target) == sorted([*FILES, "manifest.json"])
    assert installed() == ["dummy"]
    assert not (user_folder().parent / "escaped").exists()


def test_zip_with_a_password(folder: Path) -> None:
    path = zipped(folder)
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
def test_zip_with_any_damage(folder: Path, method: int) -> None:
    """A changed byte gives one clear error, or was in a place that does not matter."""
    path = zipped(folder, method=method)
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


def test_truncated_zip_file(folder: Path) -> None:
    path = zipped(folder)
    sound = path.read_bytes()
    for length in range(0, len(sound), max(1, len(sound) // 40)):
        path.write_bytes(sound[:length])
        with pytest.raises(BundleError):
            add_bundle(path)
    assert installed() == []


# ---------------------------------------------------------------------- finding


def test_find_by_folder(folder: Path) -> None:
    assert find_bundle(folder) == folder
    assert find_bundle(str(folder)) == folder


def test_unknown_name_lists_what_is_installed(folder: Path) -> None:
    add_bundle(folder, "one")
    add_bundle(folder, "two")
    with pytest.raises(BundleError, match=r"no backbone 'three'; installed: .*one, two"):
        find_bundle("three")


def test_a_folder_without_a_manifest(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"is no backbone bundle: it has no manifest.json"):
        find_bundle(tmp_path)


def test_backbones_live_under_the_data_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("QPE_BACKBONES")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert user_folder() == tmp_path / "qprompt-edge" / "backbones"


# ---------------------------------------------------------------------- execution providers


def test_an_absent_provider_lists_the_available_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        onnxruntime, "get_available_providers", lambda: ["XnnpackExecutionProvider", "CPUExecutionProvider"]
    )
    with pytest.raises(ProviderError, match="'cuda' is not available here; available: xnnpack, cpu"):
        providers.choose_provider("cuda")


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        (["CPUExecutionProvider"], "CPUExecutionProvider"),
        (["CUDAExecutionProvider", "CPUExecutionProvider"], "CUDAExecutionProvider"),
        (["TensorrtExecutionProvider", "CPUExecutionProvider"], "CPUExecutionProvider"),
    ],
)
def test_auto_takes_the_best(offered: list[str], chosen: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: offered)
    assert providers.choose_provider("auto") == chosen


@pytest.mark.parametrize("name", ["cpu", "CPU"])
def test_a_provider_by_its_short_name(name: str) -> None:
    assert providers.choose_provider(name) == "CPUExecutionProvider"


def test_a_graph_that_is_no_graph(folder: Path) -> None:
    with pytest.raises(BundleError, match=r"onnxruntime cannot open .*image.onnx") as error:
        providers.open_session(folder / "image.onnx", "CPUExecutionProvider", 1, prepack=False)
    assert_one_line(error)
