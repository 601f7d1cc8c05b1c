"""Manifests that are broken or hostile: one clear error each, and nothing half-installed."""

from pathlib import Path

import pytest
from bundles import GRAPH, assert_one_line, change, facts, installed, zipped

from qprompt_runtime.bundle import add_bundle, read_manifest
from qprompt_runtime.errors import BundleError
from qprompt_runtime.manifest import Manifest


@pytest.mark.parametrize("text", ["", "{", "not json", "[" * 100_000, '{"a": 1,}', "\ufeff{}"])
def test_manifest_that_is_not_json(dummy: Path, text: str) -> None:
    (dummy / "manifest.json").write_text(text, encoding="utf-8")
    with pytest.raises(BundleError, match="manifest is not JSON") as error:
        read_manifest(dummy)
    assert_one_line(error)


def test_a_folder_without_a_manifest_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"is no backbone bundle: it has no manifest\.json$"):
        read_manifest(tmp_path)


def test_manifest_that_is_not_text(dummy: Path) -> None:
    (dummy / "manifest.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BundleError, match="cannot read"):
        read_manifest(dummy)


@pytest.mark.parametrize("text", ["[]", "null", "3", '"text"', "{}"])
def test_manifest_that_is_no_manifest(dummy: Path, text: str) -> None:
    (dummy / "manifest.json").write_text(text, encoding="utf-8")
    with pytest.raises(BundleError, match="format version None"):
        read_manifest(dummy)


@pytest.mark.parametrize("version", [0, 2, 6, "5", None, [5]])
def test_manifest_of_another_version(dummy: Path, version: object) -> None:
    change(dummy, lambda raw: raw.update(format_version=version))
    with pytest.raises(BundleError, match=r"format version .*this program reads 3 to 5;"):
        read_manifest(dummy)


def deep_facts(**others: object) -> dict[str, object]:
    """`deep` of version 3; its files are those of the other graphs."""
    graphs = {
        name: {"file": "image.onnx", **GRAPH} for name in ("text_graph", "text_gradient_graph", "image_graph")
    }
    return {"depth": 2, "image_width": 64, "image_layers": 4, "image_tokens": 17, **graphs, **others}


def test_version_3_has_no_stem_before_its_deep_image_graph(dummy: Path) -> None:
    change(dummy, lambda raw: raw.pop("int8_image_graph"))
    change(dummy, lambda raw: raw.update(format_version=3, deep=deep_facts()))
    manifest = read_manifest(dummy)
    assert manifest.format_version == 5
    assert manifest.deep is not None
    assert manifest.deep.stem_graph is None
    assert manifest.deep.image_graph.inputs == {"pixels": ["B", 3, 8, 8]}
    assert Manifest.from_json(manifest.to_json()) == manifest


def test_version_3_without_deep_prompts(dummy: Path) -> None:
    newer = read_manifest(dummy)
    change(dummy, lambda raw: raw.pop("int8_image_graph"))
    change(dummy, lambda raw: raw.update(format_version=3))
    assert read_manifest(dummy) == newer


@pytest.mark.parametrize("stem", [{"file": "image.onnx", **GRAPH}, None])
def test_version_3_with_a_stem(dummy: Path, stem: object) -> None:
    change(dummy, lambda raw: raw.pop("int8_image_graph"))
    change(dummy, lambda raw: raw.update(format_version=3, deep=deep_facts(stem_graph=stem)))
    with pytest.raises(BundleError, match=r"'stem_graph', which format version 3 does not have; export"):
        read_manifest(dummy)


def test_version_3_does_not_excuse_a_missing_field(dummy: Path) -> None:
    change(dummy, lambda raw: raw.pop("int8_image_graph"))
    change(dummy, lambda raw: raw.update(format_version=3) or raw.pop("deep"))
    with pytest.raises(BundleError, match=r"missing \['deep'\]"):
        read_manifest(dummy)


def test_version_4_has_one_image_graph(dummy: Path) -> None:
    newer = read_manifest(dummy)
    change(dummy, lambda raw: raw.update(format_version=4))
    with pytest.raises(
        BundleError, match=r"'int8_image_graph', which format version 4 does not have; export"
    ):
        read_manifest(dummy)
    change(dummy, lambda raw: raw.pop("int8_image_graph"))
    assert read_manifest(dummy) == newer


def test_version_5_may_have_an_int8_image_graph(dummy: Path) -> None:
    graph = {"file": "image.onnx", **GRAPH, "precision": "int8", "max_batch": 1}
    change(dummy, lambda raw: raw.update(int8_image_graph=graph))
    manifest = read_manifest(dummy)
    assert manifest.int8_image_graph is not None
    assert manifest.int8_image_graph in manifest.graphs
    assert Manifest.from_json(manifest.to_json()) == manifest
    change(dummy, lambda raw: raw["int8_image_graph"].update(file="other.onnx"))
    with pytest.raises(BundleError, match=r"does not list other\.onnx"):
        read_manifest(dummy)


def test_a_deep_bundle_says_whether_there_is_a_stem(dummy: Path) -> None:
    stem = {"file": "image.onnx", **GRAPH}
    change(dummy, lambda raw: raw.update(deep=deep_facts(stem_graph=stem)))
    manifest = read_manifest(dummy)
    assert manifest.deep is not None
    assert manifest.deep.stem_graph is not None
    assert manifest.deep.stem_graph.file == "image.onnx"
    assert Manifest.from_json(manifest.to_json()) == manifest
    change(dummy, lambda raw: raw.update(deep=deep_facts()))
    with pytest.raises(BundleError, match=r"missing \['stem_graph'\]"):
        read_manifest(dummy)


@pytest.mark.parametrize("name", [name for name in facts() if name != "format_version"])
def test_manifest_with_a_missing_field(dummy: Path, name: str) -> None:
    change(dummy, lambda raw: raw.pop(name))
    with pytest.raises(BundleError, match=rf"missing \['{name}'\]"):
        read_manifest(dummy)


def test_manifest_with_an_unknown_field(dummy: Path) -> None:
    change(dummy, lambda raw: raw["text"].update(colour="red"))
    with pytest.raises(
        BundleError, match=r"manifest.text has the wrong fields: missing \[\], unknown \['colour'\]"
    ):
        read_manifest(dummy)


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
def test_manifest_with_a_value_of_the_wrong_kind(dummy: Path, place: str, value: object) -> None:
    change(dummy, lambda raw: raw.update({place: value}))
    with pytest.raises(BundleError) as error:
        read_manifest(dummy)
    assert str(dummy) in str(error.value)
    assert len(str(error.value)) < 1000
    assert_one_line(error)


@pytest.mark.parametrize(
    ("name", "value", "known"), [("cleaning", "whitespace", "lower"), ("pooling", "last", "end_token")]
)
def test_a_text_layout_that_is_not_obeyed(dummy: Path, name: str, value: str, known: str) -> None:
    change(dummy, lambda raw: raw["text"].update({name: value}))
    with pytest.raises(
        BundleError, match=f"{name} is '{value}', this version supports '{known}' only; update"
    ):
        read_manifest(dummy)


def test_manifest_that_does_not_list_what_it_uses(dummy: Path) -> None:
    change(dummy, lambda raw: raw["files"].pop("tokenizer.json"))
    with pytest.raises(BundleError, match=r"does not list tokenizer\.json"):
        read_manifest(dummy)


@pytest.mark.parametrize("graph", ["stem_graph", "image_graph", "text_graph", "text_gradient_graph"])
def test_manifest_that_does_not_list_a_deep_graph(dummy: Path, graph: str) -> None:
    deep = {"stem_graph": {"file": "image.onnx", **GRAPH}, graph: {"file": "../other.onnx", **GRAPH}}
    change(dummy, lambda raw: raw.update(deep=deep_facts(**deep)))
    with pytest.raises(BundleError, match=r"does not list \.\./other\.onnx"):
        read_manifest(dummy)


@pytest.mark.parametrize(
    "name", ["../secret", "/etc/hostname", "sub/file", "..", ".", "", "../dummy/image.onnx", "a\0b"]
)
def test_manifest_that_reaches_outside_of_the_bundle(dummy: Path, name: str) -> None:
    (dummy.parent / "secret").write_bytes(b"secret")
    target = dummy / name if "\0" not in name else dummy
    size = target.stat().st_size if target.exists() else 5
    change(dummy, lambda raw: raw["files"].update({name: {"bytes": size, "sha256": "0" * 64}}))
    with pytest.raises(BundleError, match="outside of the bundle"):
        read_manifest(dummy)
    with pytest.raises(BundleError):
        add_bundle(dummy)
    with pytest.raises(BundleError):
        add_bundle(zipped(dummy))
    assert installed() == []


def test_manifest_of_enormous_size(dummy: Path) -> None:
    with (dummy / "manifest.json").open("ab") as file:
        file.write(b" " * 2_000_000)
    with pytest.raises(BundleError, match="larger than"):
        read_manifest(dummy)
    with pytest.raises(BundleError, match="larger than"):
        add_bundle(zipped(dummy))
