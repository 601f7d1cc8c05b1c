"""`convert`: checkpoints to prompt files, prompts to safetensors and back, and what it refuses."""

import dataclasses
import json
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from command_line import assert_refused
from prompts import TINY
from safetensors.numpy import load, save
from test_safetensors import deep_prompt
from torch_files import archive, checkpoint, coop_arrays, maple_arrays, name, text

from qprompt_edge.convert.coop_maple import read_maple
from qprompt_edge.convert.safetensors import to_safetensors
from qprompt_edge.convert.torch_checkpoint import read_checkpoint
from qprompt_edge.tuning.qmaple import fold
from qprompt_edge.tuning.quantizer import cluster, quantize
from qprompt_runtime.bundle import find_bundle, read_manifest
from qprompt_runtime.prompt_file import read_prompt_file, write_prompt_file

NAMES = "red square,t-shirt,blue_cross"


@pytest.fixture(scope="module")
def manifest():
    return read_manifest(find_bundle("small"))


@pytest.fixture
def width(manifest) -> int:
    return manifest.text.width


@pytest.fixture
def coop(tmp_path, width) -> Path:
    path = tmp_path / "model.pth.tar-50"
    path.write_bytes(checkpoint(coop_arrays((4, width))))
    return path


# ---------------------------------------------------------------------- checkpoints


@pytest.mark.parametrize("bits", [1, 1.6, 2, 4, 8, 32])
def test_coop_is_quantized_as_the_quantizer_does(run, coop, width, manifest, tmp_path, bits):
    out = tmp_path / "made.qpt"
    result = run(
        "convert", coop, "--out", out, "--backbone", "small", "--classes", NAMES, "--bits", bits, "--json"
    )
    assert result.code == 0, result.err
    prompt = read_prompt_file(out)
    context = coop_arrays((4, width))["ctx"].astype(np.float32)
    expected = context if bits == 32 else quantize(context, cluster(context, bits, 0)).values
    np.testing.assert_array_equal(prompt.groups[0].values(), expected)
    assert (prompt.method, prompt.template, prompt.groups[0].role) == ("qcoop", ("", "."), "text-context")
    assert (prompt.backbone_name, prompt.fingerprint.hex()) == (manifest.name, manifest.fingerprint)
    assert prompt.calibration.logit_scale == manifest.logit_scale
    # CoOp keeps the hyphen, our own rule does not
    assert [entry.text for entry in prompt.classes] == ["red square", "t-shirt", "blue cross"]
    assert result.json["bytes"] == out.stat().st_size
    assert result.json["groups"] == [{"role": "text-context", "shape": [4, width], "bits": bits}]


def test_a_converted_coop_predicts(run, coop, photos, tmp_path):
    out = tmp_path / "made.qpt"
    assert run("convert", coop, "--out", out, "--backbone", "small", "--classes", NAMES).code == 0
    assert read_prompt_file(out).groups[0].bits == 1
    lines = run("predict", photos, "--prompt", out, "--json").out.splitlines()
    assert {json.loads(line)["predictions"][0]["label"] for line in lines} <= set(NAMES.split(","))


def test_a_context_for_each_class(run, width, tmp_path):
    path, out = tmp_path / "model.pth", tmp_path / "made.qpt"
    path.write_bytes(checkpoint(coop_arrays((3, 4, width))))
    options = ("--out", out, "--backbone", "small", "--json", "--classes")
    assert run("convert", path, *options, NAMES).code == 0
    assert read_prompt_file(out).groups[0].shape == (3, 4, width)
    assert_refused(run("convert", path, *options, "a,b"), "contexts for 3 classes, but 2 were named")
    assert_refused(run("convert", out, *options, NAMES), "a context for each class")


def test_maple_is_folded(run, width, tmp_path):
    path, out = tmp_path / "model.pth.tar-5", tmp_path / "made.qpt"
    arrays = maple_arrays(2, width, 24)
    path.write_bytes(checkpoint(arrays))
    result = run("convert", path, "--out", out, "--backbone", "small", "--classes", NAMES, "--json")
    assert result.code == 0, result.err
    prompt = read_prompt_file(out)
    assert (prompt.method, prompt.template) == ("qmaple", ("of a", "."))
    described = [(group.role, group.shape, group.bits) for group in prompt.groups]
    assert described == [("text-context", (3, 2, width), 4), ("image-prompts", (3, 2, 24), 4)]
    assert (
        run("convert", path, "--out", out, "--backbone", "small", "--classes", NAMES, "--bits", 32).code == 0
    )
    exact = read_prompt_file(out)
    np.testing.assert_array_equal(
        exact.groups[0].values()[2], arrays["prompt_learner.compound_prompts_text.1"]
    )
    learned = read_maple(read_checkpoint(path))
    np.testing.assert_array_equal(exact.groups[1].values(), fold(*learned.values()))


def test_classes_from_a_table(run, coop, tmp_path):
    out, names = tmp_path / "made.qpt", tmp_path / "names.csv"
    options = (coop, "--out", out, "--backbone", "small", "--class-names", names, "--json")
    names.write_text("label,text\nok,good weld\ncat,cat\n", encoding="utf-8")
    assert run("convert", *options).code == 0
    assert [(entry.label, entry.text) for entry in read_prompt_file(out).classes] == [
        ("ok", "good weld"),
        ("cat", "cat"),
    ]
    assert run("convert", *options, "--classes", "dog,cat,ok", "--force").code == 0
    assert [entry.text for entry in read_prompt_file(out).classes] == ["dog", "cat", "good weld"]
    names.write_text("label,text\nok,good weld\nok,weld\n", encoding="utf-8")
    assert_refused(run("convert", *options), "names.csv", "given twice")


def test_tensors_of_a_checkpoint_as_safetensors(run, width, tmp_path):
    path, out = tmp_path / "weights.safetensors", tmp_path / "made.qpt"
    arrays = coop_arrays((4, width))
    path.write_bytes(save(arrays))
    options = ("--out", out, "--backbone", "small", "--classes", NAMES, "--bits", 32, "--json")
    assert run("convert", path, *options).code == 0
    np.testing.assert_array_equal(read_prompt_file(out).groups[0].values(), arrays["ctx"].astype(np.float32))
    path.write_bytes(save({"ctx": np.ones((4, width), np.int32)}))
    assert_refused(run("convert", path, *options), "weights.safetensors: ctx has numbers of type I32")


# ---------------------------------------------------------------------- safetensors


def test_deep_prompts_there_and_back(run, tmp_path):
    first, middle, last = (tmp_path / name for name in ("a.qpt", "b.safetensors", "c.qpt"))
    write_prompt_file(first, deep_prompt())
    assert run("convert", first, "--out", middle).code == 0
    assert run("convert", middle, "--out", last).code == 0
    before, after = read_prompt_file(first), read_prompt_file(last)
    assert dataclasses.replace(after, groups=before.groups) == before
    for old, new in zip(before.groups, after.groups, strict=True):
        assert (new.role, new.shape, new.bits) == (old.role, old.shape, old.bits)
        np.testing.assert_array_equal(new.values(), old.values())
    assert run("convert", middle, "--out", last, "--bits", 3).code == 0
    assert [group.bits for group in read_prompt_file(last).groups] == [3, 3]


def calibration(**changes: object) -> dict:
    return {"calibration": {"logit_scale": 100.0, "accept_scores": [], "accept": None, **changes}}


HEADERS = {
    "another version": ({"version": 3}, "the header's version is 3, expected 1 or 2"),
    "version of text": ({"version": "2"}, "the header's version is '2', expected 1 or 2"),
    "older version": ({"version": 1}, "list of the header's keys"),
    "unknown key": ({"x": 1}, "list of the header's keys"),
    "unknown method": ({"method": "lora"}, "the method is lora"),
    "no such tensor": ({"bits": [["image-prompts", 1]]}, "the list of tensors is ['text-context'], expected"),
    "odd bits": ({"bits": [["text-context", 9]]}, "the bits is [9]"),
    "bits of text": ({"bits": [["text-context", "1"]]}, "of type str, expected int"),
    "label twice": ({"classes": [["a", "a"], ["a", "b"]]}, "given twice"),
    "class of three": ({"classes": [["a", "b", "c"]]}, "count of parts is 3"),
    "fingerprint": ({"fingerprint": "xyz"}, "expected hexadecimal digits"),
    "short fingerprint": ({"fingerprint": "00"}, "fingerprint's length is 1"),
    "whole scale": (calibration(logit_scale=100), "expected float"),
    "no scale": ({"calibration": {}}, "calibration's keys"),
    "scale of infinity": (calibration(logit_scale=float("inf")), "logit scale is inf"),
    "scale and more": (calibration(x=1), "calibration's keys"),
    "one score": (calibration(accept_scores=[0.5]), "count of accept scores is 1"),
    "whole scores": (
        calibration(accept_scores=[1, 0, 0, 0, 0]),
        "a number of the accept scores is of type int",
    ),
    "accept alone": (calibration(accept=0.9), "none without accept scores"),
    "accept of text": (calibration(accept="0.9"), "accepted is of type str"),
    "no list of scales": ({"scales": 1}, "header's scales is of type int"),
    "scales of two groups": ({"scales": [[], []]}, "header's scales's count of parts is 2"),
    "one scale": (
        {"scales": [[1.0]]},
        "count of row scales is 1, expected one a row of weights of shape (2, 4)",
    ),
    "scale of a context": ({"scales": [[1.0, 2.0]]}, "one with row scales or rows, expected neither"),
    "scale beyond half": ({"scales": [[1.0, 0.1]]}, "finite float16"),
    "scale NaN": ({"scales": [[1.0, float("nan")]]}, "a row scale is not a number or infinite"),
    "tiny scale": ({"scales": [[1.0, 1e-300]]}, "a weight is inf"),
    "whole scales": ({"scales": [[1, 2]]}, "a number of a group's scales is of type int"),
    "rows of a context": ({"rows": [[0, 1]]}, "one with row scales or rows, expected neither"),
    "rows descending": ({"rows": [[1, 0]]}, "ascending order"),
    "photos of one class": ({"photos": [1]}, "photos' numbers is 1"),
    "half photos": ({"photos": [1, 0.5]}, "a number of the photos is of type float"),
    "extras of a list": ({"extras": []}, "extras is of type list"),
    "extra of another key": ({"extras": {"16": ""}}, "list of the extras' keys is ['16']"),
    "extra not in digits": ({"extras": {"17": "x"}}, "an extra is 'x', expected hexadecimal digits"),
    "extra of a number": ({"extras": {"17": 1}}, "an extra is of type int"),
}


@pytest.mark.parametrize("fault", HEADERS)
def test_headers_that_do_not_fit(run, tmp_path, fault):
    changes, message = HEADERS[fault]
    content = to_safetensors(TINY)
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["qprompt"])
    path = tmp_path / "forged.safetensors"
    path.write_bytes(save(load(content), {"qprompt": json.dumps({**header, **changes})}))
    assert_refused(
        run("convert", path, "--out", tmp_path / "a.qpt", "--json"), "forged.safetensors: ", message
    )
    assert not (tmp_path / "a.qpt").exists()


def test_damaged_safetensors(run, tmp_path):
    path, content = tmp_path / "cut.safetensors", to_safetensors(TINY)
    for header in ("not JSON", "[" * 100_000):
        path.write_bytes(save(load(content), {"qprompt": header}))
        assert_refused(run("convert", path, "--out", tmp_path / "a.qpt", "--json"), "is not JSON")
    for length in range(0, len(content), 7):
        path.write_bytes(content[:length])
        assert_refused(run("convert", path, "--out", tmp_path / "a.qpt", "--json"), "cut.safetensors: ")


# ---------------------------------------------------------------------- what the command refuses


def test_what_a_checkpoint_does_not_say_is_asked_for(run, coop, tmp_path):
    out = ("--out", tmp_path / "a.qpt", "--json")
    small = ("--backbone", "small")
    assert_refused(run("convert", coop, *out, "--classes", NAMES), "model.pth.tar-50: ", "--backbone")
    assert_refused(run("convert", coop, *out, *small), "--classes a,b,c or --class-names FILE")
    assert_refused(run("convert", coop, *out, *small, "--classes", "a,,b"), "none of them empty")
    assert_refused(run("convert", coop, *out, *small, "--classes", "a,a"), "given twice")
    assert_refused(run("convert", coop, *out, *small, "--classes", "a," + "long " * 99), "shorter text")
    assert_refused(run("convert", coop, *out, "--backbone", "none", "--classes", "a"), "no backbone 'none'")
    assert not (tmp_path / "a.qpt").exists()


def test_another_width_and_another_backbone(run, width, tmp_path):
    path, out = tmp_path / "model.pth", ("--out", tmp_path / "a.qpt", "--backbone", "small", "--json")
    path.write_bytes(checkpoint(coop_arrays((4, width + 1))))
    assert_refused(
        run("convert", path, *out, "--classes", "a"), f"have {width + 1} numbers", f"'small' have {width}"
    )
    write_prompt_file(tmp_path / "other.qpt", TINY)
    assert_refused(run("convert", tmp_path / "other.qpt", *out), "tuned for backbone 'tiny' (00010203)")


def test_what_is_no_source_or_no_target(run, coop, tmp_path):
    out = ("--out", tmp_path / "a.qpt", "--json")
    for content, words in {
        b"": "no prompt file, no checkpoint",
        b"\xff\xd8\xff\xe0": "it begins with ffd8ffe0",
        b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.": "torch before 1.6 wrote it",
        archive(name("os", "system") + text("x")): "names 'os.system'",
    }.items():
        (tmp_path / "odd").write_bytes(content)
        assert_refused(
            run("convert", tmp_path / "odd", *out, "--backbone", "small", "--classes", "a"), "odd: ", words
        )
    assert_refused(run("convert", tmp_path / "none", *out), "cannot be read: No such file")
    assert_refused(run("convert", tmp_path, *out), f"{tmp_path}: is a folder; give the file in it")
    assert_refused(run("convert", coop, "--out", tmp_path / "a.npz", "--json"), ".qpt or .safetensors")
    assert run("convert", coop).code == 2
    assert run("convert", coop, "--out", "a.qpt", "--bits", 5).code == 2


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\n<!doctype HTML><title>Google Drive - Virus scan warning", "it is a web page (HTML)"),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied", "it is an XML document"),
        (b'{"error": "Invalid credentials"}', "it is JSON text, such as a server's error message"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0",
            "it is a Git LFS pointer, which only stands",
        ),
        (b"\x1f\x8b\x08" + bytes(30), "it is a gzip archive; unpack it"),
        (bytes(257) + b"ustar\x0000" + bytes(300), "it is a tar archive"),
        (b"", "it is an empty file (0 bytes)"),
    ],
)
def test_what_a_download_left_in_place_of_a_checkpoint_is_named(run, tmp_path, content, words):
    path = tmp_path / "model.pth.tar-50"
    path.write_bytes(content)
    assert_refused(run("convert", path, "--out", tmp_path / "a.qpt", "--json"), "model.pth.tar-50: ", words)


@pytest.mark.parametrize(
    ("members", "words"),
    [
        (
            ["readme.txt", "vit_b16/seed1/model.pth.tar-50"],
            "around a checkpoint; unpack it, and give vit_b16/seed1/model",
        ),
        (["a/belt.qpt"], "unpack it, and give a/belt.qpt"),
        (["download/model/data.pkl", "download/model/data/0"], "unpack it, and give download/model/data.pkl"),
        (
            ["clip/manifest.json", "clip/image.onnx"],
            "a zip archive with a backbone's bundle; `qprompt-edge backbones add",
        ),
        (
            ["b.jpg", "a.jpg"],
            "a zip archive of 2 files, none of them data.pkl as torch.save writes it; the first is a.jpg",
        ),
    ],
)
def test_a_zip_archive_that_is_no_checkpoint_is_named(run, tmp_path, members, words):
    path = tmp_path / "download.zip"
    with zipfile.ZipFile(path, "w") as made:
        for member in members:
            made.writestr(member, b"x")
    assert_refused(run("convert", path, "--out", tmp_path / "a.qpt", "--json"), "download.zip: it is ", words)


def test_weights_beyond_half_precision(run, width, tmp_path):
    path, out = tmp_path / "model.pth", tmp_path / "a.qpt"
    path.write_bytes(checkpoint({"ctx": np.full((4, width), 1e6, "<f4")}))
    options = (path, "--out", out, "--backbone", "small", "--classes", "a", "--json")
    assert_refused(run("convert", *options), "a weight is 1e+06", "--bits 32")
    assert run("convert", *options, "--bits", 32).code == 0


def test_a_prompt_takes_other_classes_and_bits(run, tmp_path):
    write_prompt_file(tmp_path / "a.qpt", TINY)
    options = ("--out", tmp_path / "b.qpt", "--classes", "t-shirt,hat", "--bits", 32)
    assert run("convert", tmp_path / "a.qpt", *options).code == 0
    made = read_prompt_file(tmp_path / "b.qpt")
    assert [entry.text for entry in made.classes] == ["t shirt", "hat"]
    assert made.groups[0].bits == 32
    np.testing.assert_array_equal(made.groups[0].values(), TINY.groups[0].values())
