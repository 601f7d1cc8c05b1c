"""`qprompt-edge bench` as people and scripts meet it."""

import os
import platform

import pytest
from command_line import assert_refused

from qprompt_runtime.bundle import find_bundle, read_manifest


def test_json_has_what_the_device_guide_names(run):
    result = run("bench", "--class-count", 2, "--repeats", 1, "--threads", 1, "--json")
    assert result.code == 0
    report = result.json
    assert set(report) == {
        "backbone", "provider", "machine", "classes", "repeats", "milliseconds", "steps",
        "adapt_seconds_estimate", "qcoop_seconds_estimate", "peak_rss_mb",
    }  # fmt: skip
    kinds = ("load", "decode_12mp", "decode_small", "encode", "classes", "predict", "residuals", "step")
    assert set(report["milliseconds"]) == set(kinds)
    took = {kind: timing["median"] for kind, timing in report["milliseconds"].items()}
    assert all(took[kind] == report["milliseconds"][kind]["fastest"] > 0 for kind in kinds)  # of one run
    manifest = read_manifest(find_bundle("small"))
    assert report["backbone"] == {
        "name": "small",
        "fingerprint": manifest.fingerprint,
        "precision": {"image": manifest.image_graph.precision, "text": manifest.text_graph.precision},
    }
    assert report["machine"]["processor"] == platform.machine()
    assert report["machine"]["cores"] == len(os.sched_getaffinity(0))
    assert report["machine"]["threads"] == 1
    assert report["provider"].endswith("ExecutionProvider")
    assert (report["classes"], report["repeats"], report["steps"]) == (2, 1, 60)
    encoding = took["load"] + 2 * 16 * (took["decode_12mp"] + took["encode"])  # 16 photos of each class
    tuning = {"adapt": took["classes"] + took["residuals"], "qcoop": 60 * took["step"]}
    for name, taking in tuning.items():
        assert report[f"{name}_seconds_estimate"] == pytest.approx((encoding + taking) / 1000, rel=1e-3)


def test_people_get_a_table_and_an_estimate(run):
    result = run("bench", "--class-count", 2, "--repeats", 1)
    assert result.code == 0
    assert "small, 2 classes, milliseconds over 1 run" in result.out
    assert "median" in result.out
    assert "decoding a JPEG of 12 megapixels" in result.out
    assert "estimate: adapt takes about" in result.out
    assert "for 32 photos of 12 megapixels (16 for each class), adapt --method qcoop" in result.out
    assert "(60 steps)" in result.out


def test_one_line_for_what_is_not_there(run, dummy):
    assert_refused(run("bench", "--backbone", "no-such-backbone", "--json"), "no-such-backbone", "small")
    assert_refused(run("bench", "--backbone", dummy, "--json"), "onnxruntime cannot open", "text.onnx")
    assert_refused(run("bench", "--provider", "abacus", "--json"), "abacus", "cpu")
    assert_refused(run("bench", "--max-memory", 10, "--json"), "--max-memory allows 10;")


@pytest.mark.parametrize(
    "wrong",
    [
        ("--class-count", 0),
        ("--class-count", 1),
        ("--class-count", 10_001),
        ("--repeats", 0),
        ("--threads", -1),
    ],
    ids=str,
)
def test_wrong_usage(run, wrong):
    result = run("bench", *wrong)
    assert result.code == 2
    assert wrong[0] in result.err
    assert result.out == ""


def test_ctrl_c(run, monkeypatch):
    def interrupted(*_arguments, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr("qprompt_edge.bench.Backbone.encode_images", interrupted)
    result = run("bench", "--repeats", 1)
    assert result.code == 130
    assert result.err.splitlines()[-1] == "interrupted"
