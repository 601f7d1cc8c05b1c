"""The prompt file: literal bytes and an independent CBOR reader first, then properties."""

import dataclasses
import re
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prompts import CHECKSUM_KEYS, FIELDS, FULL, FULL_FIELDS, GROUP, PROMPTS, TINY, seal

from qprompt_runtime.errors import OutputError, PromptFileError
from qprompt_runtime.packing import TERNARY, levels
from qprompt_runtime.prompt_file import (
    Calibration,
    ClassName,
    PromptFile,
    PromptGroup,
    read_prompt_file,
    rule_text,
    write_prompt_file,
)


def walk(data: bytes, at: int = 0) -> tuple[object, int]:
    """Read one CBOR item as RFC 8949, section 3, says, independently of cbor2.

    Returns it and where it ends.
    """
    major, info = data[at] >> 5, data[at] & 31
    size = {24: 1, 25: 2, 26: 4, 27: 8}.get(info, 0)
    raw, at = data[at + 1 : at + 1 + size], at + 1 + size
    argument = int.from_bytes(raw, "big") if size else info
    if major == 0:
        return argument, at
    if major == 7:
        return struct.unpack({2: ">e", 4: ">f", 8: ">d"}[size], raw)[0], at
    if major in (2, 3):
        chunk = data[at : at + argument]
        return (chunk if major == 2 else chunk.decode()), at + argument
    entries = []
    for _ in range(argument * (2 if major == 5 else 1)):
        entry, at = walk(data, at)
        entries.append(entry)
    return (dict(zip(entries[::2], entries[1::2], strict=True)) if major == 5 else entries), at


@pytest.mark.parametrize("name", PROMPTS)
def test_literal_bytes(name: str) -> None:
    prompt, body = PROMPTS[name]
    data = seal(bytes.fromhex(body))
    assert prompt.to_bytes() == data
    assert PromptFile.from_bytes(data) == prompt
    fields, end = walk(data, 3)
    expected = {**(FULL_FIELDS if name == "full" else FIELDS), 0: prompt.format_version}
    assert fields == {**expected, CHECKSUM_KEYS[prompt.format_version]: data[-8:]}
    assert end == len(data)


def test_literal_values() -> None:
    assert GROUP.values().tolist() == [[-0.5, 0.5, -0.5, 0.5], [0.5, -0.5, -0.5, 0.5]]
    residuals, offsets = FULL.groups
    assert residuals.values().tolist() == [[-0.5, 0.5, -0.5, 0.5], [1.5, -1.5, -1.5, 1.5]]
    assert offsets.values().tolist() == [0, 0.25]


def test_the_examples_in_the_documentation() -> None:
    page = (Path(__file__).parent.parent / "docs" / "prompt-file.md").read_text()
    blocks = re.findall(r"```hex\n(.*?)```", page, re.DOTALL)
    for block, prompt, start in zip(blocks, (TINY, FULL), ("two classes", "of three classes"), strict=True):
        pairs = [re.match(r"\s*((?:[0-9a-f]{2} )*[0-9a-f]{2})(?=\s)", line) for line in block.splitlines()]
        data = bytes.fromhex(" ".join(pair[1] for pair in pairs if pair))
        assert data == prompt.to_bytes()
        assert f"{start}, {len(data)} bytes" in page
    assert f"| file | {len(budget_prompt().to_bytes())} |" in page
    three, two = (len(residual_budget_prompt(bits).to_bytes()) for bits in (TERNARY, 1))
    assert f"| file | {three} | {two} |" in page


def budget_prompt() -> PromptFile:
    names = ["plane", "car", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    indices = np.random.default_rng(1).integers(0, 2, (4, 512)).astype(np.uint8)
    group = PromptGroup.quantized("text-context", np.array([-0.0137, 0.0142], np.float16), indices, 1)
    classes = tuple(map(ClassName.from_label, names))
    return dataclasses.replace(TINY, groups=(group,), classes=classes, backbone_name="ViT-B-16")


def residual_budget_prompt(bits: float) -> PromptFile:
    """What `adapt` makes of ten classes on the embedded backbone."""
    rng, count = np.random.default_rng(1), levels(bits)
    indices, scales = rng.integers(0, count, (10, 256)).astype(np.uint8), rng.random(10).astype(np.float16)
    codebook = np.linspace(-0.5, 0.5, count).astype(np.float16)
    groups = (
        PromptGroup.quantized("class-residuals", codebook, indices, bits, scales),
        PromptGroup.plain("class-offsets", rng.normal(size=10).astype(np.float16)),
    )
    return dataclasses.replace(
        budget_prompt(),
        method="qtaskres",
        groups=groups,
        template=("a photo of a", "."),
        backbone_name="small",
        calibration=Calibration(100.0, (0.25, 0.21875, 0.1875, 0.15625, 0.125)),
        photos=(16,) * 10,
    )


def test_budget() -> None:
    prompt = budget_prompt()
    assert prompt.payload_bytes == 260
    assert len(prompt.to_bytes()) <= 450
    residuals = residual_budget_prompt(1)
    assert residuals.payload_bytes == 320 + 4 + 20 + 20
    assert len(residuals.to_bytes()) <= 550
    default = residual_budget_prompt(TERNARY)
    assert default.payload_bytes == 512 + 6 + 20 + 20
    assert len(default.to_bytes()) <= 750


@pytest.mark.parametrize("bits", [*range(1, 9), TERNARY])
def test_quantized_values(bits: float) -> None:
    codebook = np.random.default_rng(int(bits)).normal(size=levels(bits)).astype(np.float16)
    indices = np.random.default_rng(int(bits)).integers(0, levels(bits), (2, 3, 5)).astype(np.uint8)
    group = PromptGroup.quantized("projections", codebook, indices, bits)
    groups = (PromptGroup.plain("text-context", np.ones((2, 1, 4), np.float32)), group)
    read = PromptFile.from_bytes(dataclasses.replace(TINY, method="qmaple-coupled", groups=groups).to_bytes())
    values = read.groups[1].values()
    assert values.dtype == np.float32
    np.testing.assert_array_equal(values, codebook[indices].astype(np.float32))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, ">f2", ">f4"])
def test_plain_values(dtype: type) -> None:
    weights = np.random.default_rng(0).normal(size=(3, 7)).astype(dtype)
    group = PromptGroup.plain("text-context", weights)
    assert group.data == weights.astype(f"<f{weights.itemsize}").tobytes()
    read = PromptFile.from_bytes(dataclasses.replace(TINY, groups=(group,)).to_bytes())
    np.testing.assert_array_equal(read.groups[0].values(), weights.astype(np.float32))


def test_row_scales_of_three_dimensions() -> None:
    codebook, scales = np.array([-1, 0.3], np.float16), np.array([2, 0.1, 0], np.float16)
    indices = np.random.default_rng(3).integers(0, 2, (3, 2, 5)).astype(np.uint8)
    group = PromptGroup.quantized("projections", codebook, indices, 1, scales)
    expected = codebook[indices].astype(np.float32) * scales.astype(np.float32)[:, None, None]
    np.testing.assert_array_equal(group.values(), expected)
    assert group.payload_bytes == 4 + 6 + 4


def test_rows_that_name_all_classes_are_no_rows() -> None:
    groups = tuple(dataclasses.replace(group, rows=(0, 1)) for group in FULL.groups)
    prompt = dataclasses.replace(FULL, groups=groups, classes=TINY.classes, photos=())
    assert [group.rows for group in prompt.groups] == [(), ()]
    assert PromptFile.from_bytes(prompt.to_bytes()) == prompt


def test_about_says_the_bits_of_what_was_tuned() -> None:
    assert TINY.about == "qcoop, 1 bit, 2 classes"
    assert FULL.about == "qtaskres, 1 bit, 3 classes"


texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60)
class_names = st.lists(
    st.builds(ClassName, texts, texts) | texts.map(ClassName.from_label),
    min_size=1,
    max_size=6,
    unique_by=lambda entry: entry.label,
)
scores = st.lists(st.floats(-2, 2, width=16), min_size=5, max_size=5).map(
    lambda found: tuple(sorted(found, reverse=True))
)
accepts = st.tuples(st.just(()), st.none()) | st.tuples(scores, st.none() | st.floats(0.8, 0.99))
extras = st.dictionaries(st.integers(17, 22), st.binary(max_size=40), max_size=6)


@settings(max_examples=150)
@given(
    classes=class_names,
    template=st.tuples(st.just("") | texts, st.just("") | texts),
    name=texts,
    fingerprint=st.binary(min_size=16, max_size=16),
    scale=st.floats(0, 10_000, exclude_min=True),
    accept=accepts,
    metadata=st.dictionaries(texts, st.just("") | texts, max_size=5),
    extras=extras,
    version=st.sampled_from([1, 2]),
)
def test_round_trip(classes, template, name, fingerprint, scale, accept, metadata, extras, version) -> None:
    if version == 1:
        accept, extras = ((), None), {}
    prompt = PromptFile(
        "qcoop",
        (GROUP,),
        tuple(classes),
        template,
        name,
        fingerprint,
        Calibration(scale, *accept),
        metadata,
        extras=extras,
        format_version=version,
    )
    data = prompt.to_bytes()
    assert PromptFile.from_bytes(data) == prompt
    fields, end = walk(data, 3)
    assert end == len(data)
    assert fields[0] == version
    assert max(fields) == CHECKSUM_KEYS[version]
    assert fields[6] == {
        0: scale,
        **({1: [1, *accept[0]]} if accept[0] else {}),
        **({} if accept[1] is None else {2: accept[1]}),
    }
    assert fields.get(7, {}) == metadata
    assert {key: value for key, value in fields.items() if 17 <= key <= 22} == extras
    reordered = dataclasses.replace(
        prompt, metadata=dict(reversed(metadata.items())), extras=dict(reversed(extras.items()))
    )
    assert reordered.to_bytes() == data


@settings(max_examples=100)
@given(data=st.data(), bits=st.sampled_from([1, TERNARY, 2, 3, 8, 16, 32]), width=st.integers(1, 9))
def test_round_trip_of_residuals(data: st.DataObject, bits: float, width: int) -> None:
    names = data.draw(class_names)
    rows = tuple(sorted(data.draw(st.sets(st.integers(0, len(names) - 1), min_size=1))))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    values = rng.normal(size=(len(rows), width)).astype(np.float16)
    group = PromptGroup.plain(
        "class-residuals", values.astype(np.float16 if bits == 16 else np.float32), rows
    )
    if bits <= 8:
        codebook, indices = (
            values.ravel()[rng.integers(0, values.size, levels(bits))],
            rng.integers(0, levels(bits), values.shape),
        )
        scales = data.draw(st.none() | st.just(rng.random(len(rows)).astype(np.float16)))
        group = PromptGroup.quantized("class-residuals", codebook, indices, bits, scales, rows)
        values = codebook[indices].astype(np.float32) * (
            1 if scales is None else scales.astype(np.float32)[:, None]
        )
    offsets = PromptGroup.plain("class-offsets", rng.normal(size=len(rows)).astype(np.float16), rows)
    photos = data.draw(st.just(()) | st.tuples(*[st.integers(0, 2**31)] * len(names)))
    prompt = dataclasses.replace(FULL, groups=(group, offsets), classes=tuple(names), photos=photos)
    encoded = prompt.to_bytes()
    read = PromptFile.from_bytes(encoded)
    assert read == prompt
    np.testing.assert_array_equal(read.groups[0].values(), values)
    fields, end = walk(encoded, 3)
    assert end == len(encoded)
    assert fields.get(16, []) == list(photos)
    for written in fields[2]:
        assert (written[6] if len(written) == 7 else []) == (list(rows) if len(rows) < len(names) else [])


@pytest.mark.parametrize(
    "label", ["x" * 200, "猫" * 200, "🐈" * 200, "two\nlines\r\n", "\x1b[31m", "é", "e\u0301", " "]
)
def test_unusual_labels(label: str) -> None:
    prompt = dataclasses.replace(TINY, classes=(ClassName.from_label(label),))
    assert PromptFile.from_bytes(prompt.to_bytes()).classes[0].label == label


def test_rule_text() -> None:
    assert rule_text("great_white-shark") == "great white shark"
    assert ClassName.from_label("defect_A") == ClassName("defect_A", "defect A")


def test_write_and_read(tmp_path: Path) -> None:
    path = tmp_path / "new" / "prompt.qpt"
    write_prompt_file(path, TINY)
    assert path.read_bytes() == TINY.to_bytes()
    assert read_prompt_file(path) == TINY
    assert [entry.name for entry in path.parent.iterdir()] == ["prompt.qpt"]


def test_files_that_cannot_be_read_or_written(tmp_path: Path) -> None:
    with pytest.raises(PromptFileError, match=r"none\.qpt: cannot be read: No such file"):
        read_prompt_file(tmp_path / "none.qpt")
    with pytest.raises(PromptFileError, match="cannot be read: Is a directory"):
        read_prompt_file(tmp_path)
    (tmp_path / "photo.qpt").write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(
        PromptFileError, match=r"photo\.qpt: the file is no prompt file: it begins with ffd8ff"
    ):
        read_prompt_file(tmp_path / "photo.qpt")
    with pytest.raises(OutputError):
        write_prompt_file(tmp_path, TINY)
