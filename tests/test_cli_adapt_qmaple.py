"""`adapt --method qmaple`: deep prompts from the command line, folded and coupled."""

import pytest
from conftest import TINY_FOLDER
from scenes import write_photos

from qprompt_runtime.deep_backbone import DeepBackbone
from qprompt_runtime.prompt_file import read_prompt_file

TINY = ("--backbone", TINY_FOLDER)
"""The quickest backbone; its deep graphs are those of any other."""
QUICK = ("--epochs", 2, "--batch-size", 8)


@pytest.mark.parametrize(("bits", "backbone"), [(1, "small"), (4, TINY_FOLDER), (32, TINY_FOLDER)])
def test_a_folded_prompt_is_tuned_judged_and_used(run, photos, tmp_path, bits, backbone):
    out, on = tmp_path / "deep.qpt", ("--backbone", backbone)
    options = ("--method", "qmaple", "--bits", bits, *QUICK, *on, "--json")
    result = run("adapt", "--images", photos, "--out", out, *options)
    assert result.code == 0, result.err
    assert result.json["method"] == "qmaple"
    assert result.json["bytes"] == out.stat().st_size
    prompt = read_prompt_file(out)
    assert prompt.template == ("of a", ".")
    described = [(group.role, group.shape, group.bits) for group in prompt.groups]
    manifest = DeepBackbone.load(backbone).manifest
    depth, text, image = manifest.deep.depth, manifest.text.width, manifest.deep.image_width
    assert described == [
        ("text-context", (depth, 2, text), bits), ("image-prompts", (depth, 2, image), bits),
    ]  # fmt: skip
    report = run("eval", "--images", photos, "--prompt", out, *on, "--json")
    assert report.code == 0, report.err
    assert report.json["n"] == 18
    assert run("predict", photos, "--prompt", out, *on, "--json").code == 0
    shown = run("inspect", out, "--json").json
    assert [group["role"] for group in shown["groups"]] == ["text-context", "image-prompts"]
    assert shown["contexts"] == "shared"


def test_the_verdict_is_what_eval_finds(run, photos, tmp_path):
    """The prompt that was judged is the prompt that was written."""
    tests = write_photos(tmp_path / "tests", first=50)
    out = tmp_path / "deep.qpt"
    options = ("--images", photos, "--test-images", tests, "--method", "qmaple", *QUICK, *TINY, "--json")
    judged = run("adapt", "--out", out, *options).json["holdout"]
    found = run("eval", "--images", tests, "--prompt", out, *TINY, "--json").json
    assert judged["adapted"]["top1"] == found["top1"]
    assert judged["zero_shot"]["top1"] == found["zero_shot"]["top1"]


def test_a_coupled_prompt_is_larger_and_judged_alike(run, photos, tmp_path):
    out, options = tmp_path / "deep.qpt", ("--bits", 32, *QUICK, *TINY, "--json")
    folded = run("adapt", "--images", photos, "--out", out, "--method", "qmaple", *options).json
    result = run("adapt", "--images", photos, "--out", out, "--method", "qmaple-coupled", *options)
    assert result.code == 0, result.err
    coupled = result.json
    assert coupled["method"] == "qmaple-coupled"
    assert coupled["holdout"] == folded["holdout"]  # without a quantizer both are MaPLe
    assert coupled["bytes"] > 20 * folded["bytes"]
    assert run("predict", photos, "--prompt", out, *TINY, "--json").code == 0


@pytest.mark.parametrize("bits", [1, 32])
def test_a_coupled_prompt_is_used_as_it_was_judged(run, photos, tmp_path, bits):
    out = tmp_path / "deep.qpt"
    options = ("--method", "qmaple-coupled", "--bits", bits, *QUICK, *TINY, "--json")
    tests = write_photos(tmp_path / "tests", first=50)
    adapted = run("adapt", "--images", photos, "--test-images", tests, "--out", out, *options)
    assert adapted.code == 0, adapted.err
    report = run("eval", "--images", tests, "--prompt", out, *TINY, "--json")
    assert report.code == 0, report.err
    assert report.json["top1"] == adapted.json["holdout"]["adapted"]["top1"]
    assert report.json["zero_shot"]["top1"] == adapted.json["holdout"]["zero_shot"]["top1"]


def test_the_same_run_gives_the_same_bytes_also_with_views(run, photos, tmp_path):
    for name in ("a.qpt", "b.qpt"):
        options = ("--method", "qmaple", "--views", 2, *QUICK, *TINY)
        assert run("adapt", "--images", photos, "--out", tmp_path / name, *options).code == 0
    assert (tmp_path / "a.qpt").read_bytes() == (tmp_path / "b.qpt").read_bytes()


def test_the_verdict_does_not_advise_what_the_method_refuses(run, tmp_path):
    photos = write_photos(tmp_path / "many", count=12)
    tests = write_photos(tmp_path / "tests", count=12, first=50)
    options = (
        "--images",
        photos,
        "--test-images",
        tests,
        "--out",
        tmp_path / "p.qpt",
        *TINY,
        "--epochs",
        1,
        "--lr",
        0,
    )
    advised = {
        method: "--contexts per-class" in run("adapt", *options, "--bits", 32, "--method", method).out
        for method in ("qcoop", "qmaple")
    }
    assert advised == {"qcoop": True, "qmaple": False}


def test_contexts_of_classes_are_for_qcoop(run, photos, tmp_path):
    options = ("--method", "qmaple", "--contexts", "per-class")
    result = run("adapt", "--images", photos, "--out", tmp_path / "p.qpt", *options)
    assert result.code == 2
    assert "--method qcoop" in result.err
