"""Format version 2 through `convert`.

To safetensors and back, and at other bits and classes.
"""

import dataclasses
import json
import struct

import numpy as np
import pytest
from make_corpus import CORPUS
from prompts import FULL, TINY, TINY_1
from safetensors.numpy import load, save

from qprompt_edge.convert.convert import Additions, convert
from qprompt_edge.convert.safetensors import to_safetensors
from qprompt_runtime.errors import CheckpointError, PromptFileError
from qprompt_runtime.prompt_file import (
    Calibration,
    PromptFile,
    PromptGroup,
    read_prompt_file,
    write_prompt_file,
)

LATER = dataclasses.replace(TINY, extras={20: b"x"}, photos=(1, 2))


def changed(tmp_path, prompt: PromptFile, kind: str, **additions: object) -> PromptFile:
    """A prompt through a file of either kind and `convert`."""
    path = tmp_path / f"a.{kind}"
    if kind == "qpt":
        write_prompt_file(path, prompt)
    else:
        path.write_bytes(to_safetensors(prompt))
    return convert(path, Additions(**additions))


@pytest.mark.parametrize("path", sorted(CORPUS.glob("*.qpt")), ids=lambda path: path.stem)
def test_every_file_of_the_corpus_there_and_back(tmp_path, path):
    prompt = read_prompt_file(path)
    back = changed(tmp_path, prompt, "safetensors")
    assert dataclasses.replace(back, groups=prompt.groups) == prompt
    for old, new in zip(prompt.groups, back.groups, strict=True):
        assert (new.role, new.shape, new.bits, new.scales, new.rows) == (
            old.role,
            old.shape,
            old.bits,
            old.scales,
            old.rows,
        )
        np.testing.assert_array_equal(new.values(), old.values())
    assert changed(tmp_path, back, "safetensors").to_bytes() == back.to_bytes()


def test_the_header_says_everything():
    content = to_safetensors(FULL)
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["qprompt"])
    expected = {
        "version": 2,
        "method": "qtaskres",
        "bits": [["class-residuals", 1], ["class-offsets", 16]],
        "calibration": {
            "logit_scale": 100.0,
            "accept_scores": [0.5, 0.25, 0.25, 0.125, -0.5],
            "accept": 0.95,
        },
        "scales": [[1.0, 3.0], []],
        "rows": [[0, 2], [0, 2]],
        "photos": [16, 0, 300],
        "extras": {"20": "ff00"},
    }
    assert {key: header[key] for key in expected} == expected
    assert load(content)["class-residuals"].tolist() == [[-0.5, 0.5, -0.5, 0.5], [1.5, -1.5, -1.5, 1.5]]


def test_a_header_of_version_1_is_as_before():
    content = to_safetensors(TINY_1)
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["qprompt"])
    assert header == {
        "version": 1,
        "method": "qcoop",
        "bits": [["text-context", 1]],
        "classes": [["cat", "cat"], ["ok", "good weld"]],
        "template": ["", "."],
        "backbone": "tiny",
        "fingerprint": "000102030405060708090a0b0c0d0e0f",
        "calibration": {"logit_scale": 100.0},
        "metadata": {},
    }


@pytest.mark.parametrize("zeros", [(0,), (2,), (0, 1, 2)])
def test_rows_of_scale_zero(tmp_path, zeros):
    scales = np.array([0.3, 0.7, 2], np.float16)
    scales[list(zeros)] = 0
    indices = np.random.default_rng(1).integers(0, 2, (3, 40)).astype(np.uint8)
    codebook = np.array([-0.013, 0.57], np.float16)
    groups = (
        PromptGroup.quantized("class-residuals", codebook, indices, 1, scales),
        PromptGroup.plain("class-offsets", np.zeros(3, np.float16)),
    )
    back = changed(tmp_path, dataclasses.replace(FULL, groups=groups), "safetensors")
    np.testing.assert_array_equal(back.groups[0].values(), groups[0].values())
    assert back.groups[0].scales == groups[0].scales


@pytest.mark.parametrize("kind", ["qpt", "safetensors"])
def test_residuals_at_other_bits(tmp_path, kind):
    prompt = dataclasses.replace(FULL, extras={})
    eight = changed(tmp_path, prompt, kind, bits=8)
    assert [(group.bits, group.rows) for group in eight.groups] == [(8, (0, 2)), (16, (0, 2))]
    assert eight.groups[0].scales == (1.0, 3.0)
    plain = changed(tmp_path, prompt, kind, bits=32)
    assert [(group.bits, group.scales) for group in plain.groups] == [(32, ()), (16, ())]
    three = changed(tmp_path, prompt, kind, bits=1.6)
    assert [(group.bits, group.rows) for group in three.groups] == [(1.6, (0, 2)), (16, (0, 2))]
    assert changed(tmp_path, three, kind) == three
    for made in (three, eight, plain):
        np.testing.assert_array_equal(made.groups[0].values(), prompt.groups[0].values())
        assert made.groups[1] == prompt.groups[1]
        assert made.calibration == Calibration(100.0)  # the scores were measured with the weights of before
        assert made.photos == prompt.photos
    assert changed(tmp_path, prompt, kind, bits=1) == prompt


@pytest.mark.parametrize("kind", ["qpt", "safetensors"])
def test_other_classes(tmp_path, kind):
    scored = dataclasses.replace(TINY, photos=(1, 2), calibration=FULL.calibration)
    made = changed(tmp_path, scored, kind, classes={"dog": None})
    assert (made.photos, made.calibration) == ((), Calibration(100.0))
    same = {"cat": None, "ok": "good weld"}
    assert changed(tmp_path, scored, kind, classes=same) == scored
    assert changed(tmp_path, FULL, kind, classes={**same, "dog": None}) == FULL
    with pytest.raises(CheckpointError, match="residuals of its classes works with its own classes only"):
        changed(tmp_path, FULL, kind, classes=same)


@pytest.mark.parametrize("kind", ["qpt", "safetensors"])
@pytest.mark.parametrize("additions", [{"bits": 4}, {"classes": {"dog": None}}])
def test_optional_keys_of_a_prompt_that_would_change(tmp_path, kind, additions):
    assert changed(tmp_path, LATER, kind) == LATER
    with pytest.raises(
        PromptFileError, match=r"optional keys \[20\], .* leave out --classes, --class-names and --bits"
    ):
        changed(tmp_path, LATER, kind, **additions)


def test_tensors_that_another_tool_changed(tmp_path):
    content = to_safetensors(dataclasses.replace(FULL, extras={}))
    (length,) = struct.unpack("<Q", content[:8])
    header, tensors = json.loads(content[8 : 8 + length])["__metadata__"], load(content)
    path = tmp_path / "a.safetensors"
    path.write_bytes(save({**tensors, "class-offsets": np.full(2, 0.1, np.float32)}, header))
    np.testing.assert_array_equal(
        convert(path, Additions()).groups[1].values(), np.full(2, np.float16(0.1), np.float32)
    )
    for name, shape, message in (
        ("class-offsets", (), r"group's shape is \(\)"),
        ("class-offsets", (0,), r"shape of class-offsets is \(0,\), expected one with weights"),
        ("class-residuals", (), "row scales is 2, expected one a row of weights of shape"),
        ("class-residuals", (0, 4), "shape of class-residuals is .*, expected one with weights"),
        ("class-residuals", (3, 4), "row scales is 2, expected one a row of weights of shape"),
    ):
        path.write_bytes(save({**tensors, name: np.zeros(shape, np.float32)}, header))
        with pytest.raises(PromptFileError, match=message):
            convert(path, Additions())
