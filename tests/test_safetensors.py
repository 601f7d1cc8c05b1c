"""Prompts as safetensors: the same values there and back, in a header that names everything."""

import dataclasses
import json
import struct

import numpy as np
import pytest
from prompts import TINY
from safetensors.numpy import load

from qprompt_edge.convert.convert import Additions, convert
from qprompt_edge.convert.safetensors import to_safetensors
from qprompt_edge.tuning.ptq import make_group
from qprompt_runtime.prompt_file import PromptFile, PromptGroup


def deep_prompt() -> PromptFile:
    """A coupled MaPLe prompt of three layers, with other bits in each group."""
    rng = np.random.default_rng(2)
    shapes = {"text-context": (3, 2, 4), "projections": (3, 6, 5)}
    groups = (
        make_group(role, rng.normal(size=shape).astype(np.float32), bits)
        for (role, shape), bits in zip(shapes.items(), (8, 2), strict=True)
    )
    return dataclasses.replace(
        TINY, method="qmaple-coupled", groups=tuple(groups), metadata={"b": "", "a": "x"}
    )


@pytest.mark.parametrize("bits", [*range(1, 9), 16, 32])
def test_round_trip_gives_the_same_values(tmp_path, bits):
    weights = np.random.default_rng(bits).normal(size=(3, 700)).astype(np.float32)
    prompt = dataclasses.replace(TINY, groups=(make_group("text-context", weights, bits),))
    path = tmp_path / "prompt.safetensors"
    path.write_bytes(to_safetensors(prompt))
    back = convert(path, Additions())
    np.testing.assert_array_equal(back.groups[0].values(), prompt.groups[0].values())
    assert back.to_bytes() == prompt.to_bytes()
    if bits == 32:
        np.testing.assert_array_equal(back.groups[0].values(), weights)


def test_unused_and_equal_centroids(tmp_path):
    codebook = np.array([-1, 0.5, 0.5, 2], np.float16)
    group = PromptGroup.quantized("text-context", codebook, np.array([[1, 2], [1, 0]], np.uint8), 2)
    (tmp_path / "a.safetensors").write_bytes(to_safetensors(dataclasses.replace(TINY, groups=(group,))))
    back = convert(tmp_path / "a.safetensors", Additions()).groups[0]
    np.testing.assert_array_equal(back.values(), group.values())
    assert back.codebook == (-1, 0.5, 0.5, 0.5)


def test_the_header_says_everything_in_the_same_bytes():
    content = to_safetensors(deep_prompt())
    assert all(to_safetensors(deep_prompt()) == content for _ in range(5))
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["qprompt"])
    assert header == {
        "version": 2,
        "method": "qmaple-coupled",
        "bits": [["text-context", 8], ["projections", 2]],
        "classes": [["cat", "cat"], ["ok", "good weld"]],
        "template": ["", "."],
        "backbone": "tiny",
        "fingerprint": "000102030405060708090a0b0c0d0e0f",
        "calibration": {"logit_scale": 100.0, "accept_scores": [], "accept": None},
        "metadata": {"a": "x", "b": ""},
        "scales": [[], []],
        "rows": [[], []],
        "photos": [],
        "extras": {},
    }


def test_tensors_are_named_by_their_roles():
    tensors, prompt = load(to_safetensors(deep_prompt())), deep_prompt()
    assert set(tensors) == {"text-context", "projections"}
    for name, group in zip(("text-context", "projections"), prompt.groups, strict=True):
        assert tensors[name].dtype == np.float32
        np.testing.assert_array_equal(tensors[name], group.values())
