"""Prompt files that are cut short, altered, forged or out of bounds: one clear error each."""

import dataclasses
import re
from pathlib import Path

import cbor2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prompts import (
    CHECKSUM_KEYS,
    FIELDS,
    FULL,
    FULL_FIELDS,
    INF16,
    NAN16,
    PROMPTS,
    TINY,
    TINY_HEX,
    forge,
    seal,
)

from qprompt_runtime import prompt_envelope
from qprompt_runtime.errors import PromptFileError, TrustError
from qprompt_runtime.prompt_file import (
    ClassName,
    PromptFile,
    PromptGroup,
    read_prompt_file,
)


@pytest.mark.parametrize("name", PROMPTS)
def test_truncated_at_every_length(name: str) -> None:
    data = PROMPTS[name][0].to_bytes()
    for length in range(len(data)):
        with pytest.raises(PromptFileError):
            PromptFile.from_bytes(data[:length])
    body = bytes.fromhex(PROMPTS[name][1])
    for length in range(len(body)):  # cut short by someone who knows the checksum
        with pytest.raises(PromptFileError):
            PromptFile.from_bytes(seal(body[:length]))


@pytest.mark.parametrize("name", PROMPTS)
def test_every_bit_changed(name: str) -> None:
    data = PROMPTS[name][0].to_bytes()
    for position in range(len(data)):
        changes = range(1, 256) if position in (0, 3, 5, 7, 30, len(data) - 1) else [1 << b for b in range(8)]
        for change in changes:
            altered = bytearray(data)
            altered[position] ^= change
            with pytest.raises(PromptFileError):
                PromptFile.from_bytes(bytes(altered))


@settings(max_examples=800)
@given(st.data())
def test_any_body_with_a_good_checksum_gives_a_prompt_or_our_error(data: st.DataObject) -> None:
    body = bytearray.fromhex(PROMPTS[data.draw(st.sampled_from(list(PROMPTS)))][1])
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(5, len(body) - 1))] = data.draw(st.integers(0, 255))
    sealed = seal(bytes(body))
    try:
        prompt = PromptFile.from_bytes(sealed)
    except PromptFileError:
        return
    assert prompt.to_bytes() == sealed


items = st.recursive(
    st.integers(0, 2**40) | st.floats(width=16) | st.binary(max_size=9) | st.text("ab", max_size=4),
    lambda inner: st.lists(inner, max_size=7) | st.dictionaries(st.integers(0, 24), inner, max_size=3),
    max_leaves=12,
)


@settings(max_examples=300)
@given(st.data())
def test_any_items_with_a_good_checksum_give_a_prompt_or_our_error(data: st.DataObject) -> None:
    changes = data.draw(st.dictionaries(st.integers(1, 22), items, min_size=1, max_size=3))
    sealed = forge(changes, FULL_FIELDS, data.draw(st.sampled_from([1, 2])))
    try:
        prompt = PromptFile.from_bytes(sealed)
    except PromptFileError:
        return
    assert prompt.to_bytes() == sealed


def test_trailing_bytes() -> None:
    data = TINY.to_bytes()
    with pytest.raises(PromptFileError, match="checksum"):
        PromptFile.from_bytes(data + b"\x00")
    with pytest.raises(PromptFileError, match="nothing after the map"):
        PromptFile.from_bytes(seal(data + b"\x40\x48"))


@pytest.mark.parametrize("start", ["d9d9f7 a9 0003", "d9d9f7 b7 0000 ff ff", "d9d9f7 a1 00 190200"])
def test_unknown_version(start: str) -> None:
    with pytest.raises(
        PromptFileError, match=r"format version (3|0|512), this program reads the versions 1 and 2"
    ):
        PromptFile.from_bytes(bytes.fromhex(start))


@pytest.mark.parametrize("data", [b"", b"\xd9\xd9", b"PK\x03\x04", b"\xd2\xd9\xf7", TINY.to_bytes()[3:]])
def test_not_a_prompt_file(data: bytes) -> None:
    with pytest.raises(
        PromptFileError,
        match=r"no prompt file: it (is an empty file|is a zip|begins with .*, a prompt file with d9d9f7)",
    ):
        PromptFile.from_bytes(data)


def test_a_signed_prompt_that_is_cut_short() -> None:
    with pytest.raises(TrustError, match="cut short"):
        PromptFile.from_bytes(b"\xd2\x84")


def group(**changes: object) -> dict:
    """The groups' field, with one part of the group changed."""
    names = ["role", "shape", "bits", "codebook", "data"]
    return {2: [[changes.get(name, value) for name, value in zip(names, FIELDS[2][0], strict=True)]]}


FAULTS = {
    "missing key": ({4: None}, r"missing: \[4\]"),
    "unknown method": ({1: 5}, "the method is the unknown number 5"),
    "method of another type": ({1: "qcoop"}, "the method is of type str, expected int"),
    "no groups": ({2: []}, "count of groups is 0"),
    "nine groups": ({1: 2, 2: FIELDS[2] * 9}, "count of groups is 9"),
    "two groups for qcoop": ({2: FIELDS[2] * 2}, "roles of a qcoop prompt"),
    "image prompts for qcoop": (group(role=1), "roles of a qcoop prompt"),
    "unknown role": (group(role=5), "role is the unknown number 5"),
    "residuals for qcoop": (group(role=3), "roles of a qcoop prompt"),
    "group of four parts": ({2: [FIELDS[2][0][:4]]}, "count of parts is 4, expected 5 to 7"),
    "group of eight parts": ({2: [[*FIELDS[2][0], b"", [], 0]]}, "count of parts is 8, expected 5 to 7"),
    "row scales for qcoop": (
        {2: [[*FIELDS[2][0], bytes(4)]]},
        "group of a qcoop prompt is one with row scales or rows, expected neither",
    ),
    "rows for qcoop": (
        {2: [[*FIELDS[2][0], b"", [0, 1]]]},
        "group of a qcoop prompt is one with row scales or rows, expected neither",
    ),
    "empty row scales": ({2: [[*FIELDS[2][0], b""]]}, "one encoding"),
    "empty rows": ({2: [[*FIELDS[2][0], b"", []]]}, "one encoding"),
    "shape is a number": (group(shape=8), "shape is of type int, expected list"),
    "no dimensions": (group(shape=[]), "shape is"),
    "five dimensions": (group(shape=[1, 1, 1, 2, 4]), "shape is"),
    "dimension zero": (group(shape=[0, 8]), "shape is"),
    "negative dimension": (group(shape=[-2, -4]), "of the kind 0x21"),
    "huge dimensions": (group(shape=[2**63, 2**63]), "count of weights is"),
    "one weight too many": (group(shape=[2**24 + 1]), "count of weights is 16777217"),
    "largest group without data": (group(shape=[2**24]), "packed indices are 1 bytes, expected 2097152"),
    "one-dimensional qcoop": (group(shape=[8]), "shape of a qcoop prompt"),
    "context of other classes": (group(shape=[4, 1, 2]), "with C = 2 classes"),
    "bits 0": (group(bits=0), "bits is 0"),
    "bits 9": (group(bits=9), "bits is 9"),
    "codebook far too long": (group(codebook=bytes(514)), "codebook's byte count is 514, expected up to 512"),
    "codebook too short": (group(codebook=b"\0\0"), "codebook's length is 1, expected 2"),
    "odd codebook": (group(codebook=b"\0"), "expected an even number"),
    "codebook NaN": (group(codebook=b"\0\0" + NAN16), "finite float16"),
    "codebook infinite": (group(codebook=b"\0\0" + INF16), "finite float16"),
    "data too long": (group(data=b"\x9a\0"), "packed indices are 2 bytes, expected 1"),
    "spare bits": (group(shape=[1, 7]), "expected zeros in its upper 1 bits"),
    "plain with codebook": (group(bits=16, data=bytes(16)), "codebook at 16 bits is 2, expected none"),
    "plain too short": (group(bits=32, codebook=b"", data=bytes(31)), "byte count is 31, expected 32"),
    "plain NaN": (group(bits=16, codebook=b"", data=bytes(14) + NAN16), "finite numbers"),
    "no classes": ({3: []}, "count of classes is 0"),
    "empty label": ({3: [""]}, "class label is 0 bytes"),
    "long label": ({3: ["x" * 1001]}, "class label is 1001 bytes"),
    "label twice": ({3: ["cat", "cat"]}, "given twice .'cat'."),
    "label is a number": ({3: [1]}, "class is of type int"),
    "class of three parts": ({3: [["a", "b", "c"]]}, "count of parts is 3"),
    "empty prompt text": ({3: [["a", ""]]}, "prompt text of a class is 0 bytes"),
    "prompt text as by the rule": ({3: [["a_b", "a b"]]}, "one encoding"),
    "template of one part": ({4: ["."]}, "count of parts is 1"),
    "long template": ({4: ["", "x" * 1001]}, "template part is 1001 bytes"),
    "no backbone name": ({5: ["", bytes(16)]}, "backbone's name is 0 bytes"),
    "short fingerprint": ({5: ["tiny", bytes(15)]}, "fingerprint's length is 15"),
    "calibration is a list": ({6: [100.0]}, "calibration is of type list"),
    "no logit scale": ({6: {}}, "logit scale is missing"),
    "whole logit scale": ({6: {0: 100}}, "of type int, expected float"),
    "unknown calibration": ({6: {0: 1.0, 3: 1.0}}, "calibration's keys"),
    "logit scale zero": ({6: {0: 0.0}}, "logit scale is 0.0"),
    "logit scale NaN": ({6: {0: float("nan")}}, "logit scale is nan"),
    "logit scale infinite": ({6: {0: float("inf")}}, "logit scale is inf"),
    "empty metadata": ({7: {}}, "one encoding"),
    "metadata of numbers": ({7: {"a": 1}}, "metadata value is of type int"),
    "many metadata": ({7: {str(n): "" for n in range(65)}}, "pairs in a map is 65"),
    "long metadata": ({7: {"a": "x" * 1001}}, "metadata value is 1001 bytes"),
    "true": ({1: True}, "of the kind 0xf5"),
    "null": ({6: {0: 1.0, 1: cbor2.undefined}}, "of the kind 0xf7"),
    "tag": ({3: [cbor2.CBORTag(0, "2020-01-01T00:00:00Z")]}, "of the kind 0xc0"),
    "deep nesting": (group(shape=[[[[]]]]), "depth of arrays and maps"),
    "many items": ({3: [0] * 700_000}, "count of CBOR items"),
}


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("key", [9, 15, 17, 24, "x", b"x"])
def test_unknown_key(version: int, key: object) -> None:
    fields = {
        **FIELDS,
        0: version,
        CHECKSUM_KEYS[version]: bytes(8),
        key: bytes(8),
    }  # the file's end is its value
    message = f"a key of the file is [{key!r}], expected the keys 0 to {CHECKSUM_KEYS[version]} only"
    if version == 2 and key in (9, 15):
        message = f"the file has the critical key {key}, which this version does not know"
    sealed = seal(b"\xd9\xd9\xf7" + cbor2.dumps(fields)[:-8])
    with pytest.raises(
        PromptFileError, match="one encoding" if (version, key) == (2, 17) else re.escape(message)
    ):
        PromptFile.from_bytes(sealed)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("fault", FAULTS)
def test_faults_of_meaning(version: int, fault: str) -> None:
    changes, message = FAULTS[fault]
    with pytest.raises(PromptFileError, match=message):
        PromptFile.from_bytes(forge(changes, FIELDS, version))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("0002 0101", "0002 011801", "one encoding"),  # a long form of 1
        ("03 82 63636174", "02 82 63636174", "missing: .3."),  # a key twice, and one missing
        ("f95640", "fa42c80000", "one encoding"),  # a long form of 100.0
        ("a8 0002 0101", "a9 0002 0101 0101", "one encoding"),  # a key twice
        ("04 82 60 612e", "04 82 60 61ff", "not valid CBOR"),  # not UTF-8
        ("04 82 60 612e", "04 9f 60 612e ff", "of the kind 0x9f"),  # indefinite length
        ("04 82 60 612e", "04 9bffffffffffffffff", "declared count of items is 18446744073709551615"),
        ("04 82 60 612e", "04 bb7fffffffffffffff", "declared count of items"),
        ("04 82 60 612e", "04 5bffffffffffffffff", "declared length is 18446744073709551615"),
        ("04 82 60 612e", "04 7a7fffffff", "declared length is 2147483647"),
        ("04 82 60 612e", "04 a18001", "expected list"),  # an array as key
        ("04 82 60 612e", "04 1c", "of the kind 0x1c"),  # a reserved head
        ("04 82 60 612e", "04" + "81" * 5000, "depth of arrays and maps"),
    ],
)
def test_faults_of_encoding(old: str, new: str, message: str) -> None:
    assert old in TINY_HEX
    with pytest.raises(PromptFileError, match=message):
        PromptFile.from_bytes(seal(bytes.fromhex(TINY_HEX.replace(old, new))))


def test_constructors_check_what_a_file_cannot_hold() -> None:
    with pytest.raises(PromptFileError, match="text that can be encoded as UTF-8"):
        ClassName.from_label("\udcff")
    with pytest.raises(PromptFileError, match="finite float16"):
        PromptGroup("text-context", (1, 1), 1, (0.1, 0.2), b"\0")
    with pytest.raises(PromptFileError, match="finite float16"):
        PromptGroup("text-context", (1, 1), 1, (0.0, 1e6), b"\0")
    with pytest.raises(PromptFileError, match="the method is coop, expected one of"):
        dataclasses.replace(TINY, method="coop")
    with pytest.raises(PromptFileError, match="role is context, expected one of"):
        PromptGroup.plain("context", np.zeros((1, 1)))
    with pytest.raises(PromptFileError, match=r"row scales is .*finite float16"):
        dataclasses.replace(FULL.groups[0], scales=(0.1, 1.0))
    with pytest.raises(PromptFileError, match="indices of classes in ascending order"):
        dataclasses.replace(FULL.groups[0], rows=(-1, 0))
    with pytest.raises(PromptFileError, match="indices of classes in ascending order"):
        dataclasses.replace(FULL.groups[0], rows=(False, True))
    for extra in ({16: b""}, {23: b""}, {17: "text"}, {"17": b""}):
        with pytest.raises(PromptFileError, match=r"an extra is .*, expected a key of 17 to 22 with bytes"):
            dataclasses.replace(TINY, extras=extra)
    with pytest.raises(PromptFileError, match=r"photos a class is .*, expected whole numbers"):
        dataclasses.replace(TINY, photos=(1, -1))
    with pytest.raises(PromptFileError, match="metadata entries is 65"):
        dataclasses.replace(TINY, metadata={str(n): "" for n in range(65)})


def test_count_of_classes() -> None:
    many = tuple(ClassName(f"{n}", "x") for n in range(100_001))
    rows = range(99_999)
    groups = (
        PromptGroup.plain("class-residuals", np.zeros((99_999, 1), np.float16), rows),
        PromptGroup.plain("class-offsets", np.zeros(99_999, np.float16), rows),
    )
    prompt = dataclasses.replace(FULL, groups=groups, classes=many[:-1], photos=(16,) * 100_000)
    assert PromptFile.from_bytes(prompt.to_bytes()) == prompt
    with pytest.raises(PromptFileError, match="count of classes is 100001"):
        dataclasses.replace(TINY, classes=many)


def test_file_size(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    data = TINY.to_bytes()
    path = tmp_path / "prompt.qpt"
    path.write_bytes(data)
    monkeypatch.setattr(prompt_envelope, "MAX_FILE_BYTES", len(data) - 1)
    with pytest.raises(PromptFileError, match="size is larger, expected at most"):
        read_prompt_file(path)
    with pytest.raises(PromptFileError, match=f"size is {len(data)}, expected at most"):
        TINY.to_bytes()
