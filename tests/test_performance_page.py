"""docs/performance.md says what was measured, on which machine, with which backbone and method."""

import copy
import json
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip(
    "benchmarks.performance"
)  # the checkout itself, as the session with the exporters installs it

from benchmarks import adaptation, cold_start, document, memory, performance, steps
from benchmarks.bundles import DEFAULT, EMBEDDED
from qprompt_runtime.bundle import DEFAULT_BACKBONE, MANIFEST

pytestmark = pytest.mark.export


def joined(page: str) -> str:
    """The page with its paragraphs unwrapped."""
    return " ".join(page.split())


def ours_row(seconds: float, count: int) -> dict[str, Any]:
    return {"seconds": seconds, "encode": 3.0, "train": 4.0, "steps": count, "peak_mb": 500.0, "runs": 5}


@pytest.fixture
def figures() -> dict[str, Any]:
    whole = {
        "rounds": 5,
        "ours": {"int8, defaults": ours_row(8.0, 100), "int8, 250 steps": ours_row(16.0, 250)},
        "authors": {"seconds": 1600.0, "step": 6.4, "encode": 0.0, "steps": 250, "timed_steps": 5, "peak_mb": 1700.0},
        "trimmed": {"seconds": 80.0, "step": 0.3, "encode": 5.0, "steps": 250, "timed_steps": 15, "peak_mb": 1500.0},
    }  # fmt: skip
    step = {
        "ours": 0.04, "authors": 2.0, "trimmed": 0.1, "ours_text_graph": 0.039, "ratio": 50.0, "ratio_trimmed": 2.5,
        "counted_steps": {"ours": 20, "authors": 5, "trimmed": 15},
        "peak_mb": {"ours": 400.0, "authors": 1700.0, "trimmed": 1600.0},
    }  # fmt: skip
    machine = {
        "processor": "a processor", "architecture": "x86_64", "cores": 2, "threads": 2, "vector": "avx2",
        "byte_products": "", "memory_mb": 24000, "system": "Linux", "python": "3.11.1", "versions": {"numpy": "2.4"},
    }  # fmt: skip
    return {
        "machines": {"adaptation": machine, "steps": machine},
        "adaptation": {"ViT-B-16": whole},
        "steps": {"10": step, "100": {**step, "ratio": 20.0}},
    }


def test_the_line_for_scripts_has_the_ratios(figures: dict[str, Any]) -> None:
    line = adaptation.summary(figures["adaptation"], figures["steps"], {"ours_mb": 200.0})
    assert line["adaptation_ratio"] == 200.0
    assert line["adaptation_ratio_trimmed"] == 10.0
    assert line["adaptation_ratio_of"] == "ViT-B-16, int8, defaults"
    assert (line["step_ratio_10"], line["step_ratio_100"]) == (50.0, 20.0)
    assert line["step_ratio_10_trimmed"] == 2.5
    assert line["computed_from"]["installed"] == {"ours_mb": 200.0}


def test_the_page_takes_every_figure_from_the_file(figures: dict[str, Any]) -> None:
    page = document.write(figures)
    assert "| whole adaptation, ViT-B/16, int8, defaults | **200x** |" in page
    assert "| one step, ViT-B/32, 10 classes | **50x** |" in page
    assert "| one step, ViT-B/32, 100 classes | **20x** |" in page
    assert "20x come from encoding each photo once" in joined(page)
    assert "100 steps instead of 250" in joined(page)
    assert "| ViT-B-16: ours, int8, 250 steps | 250 | 16.0 s | 100x | 5.0x | 500 MB |" in page
    assert "## Memory" not in page  # nothing was measured
    assert "MobileCLIP2-S0, fp32" not in page


def test_equal_steps_are_said_to_be_equal(figures: dict[str, Any]) -> None:
    figures["adaptation"]["ViT-B-16"]["ours"]["int8, defaults"]["steps"] = 250
    assert "the same 250 steps" in joined(document.write(figures))


def test_an_emulated_device_gets_a_section(figures: dict[str, Any]) -> None:
    side = {
        "versions": {"onnxruntime": "1.22.1", "python": "3.11.2"}, "adapted": 0.5, "zero_shot": 0.25,
        "seconds": {"adapt": 60.0, "predict": 40.0}, "peak_mb": {"adapt": 300.0, "predict": 250.0},
    }  # fmt: skip
    figures["aarch64"] = {
        "aarch64": side, "x86-64": side, "photos": 240, "agree": 230, "agree_same_prompt": 239,
        "failures": ["too slow"],
        "backbone": "small",
    }  # fmt: skip
    page = document.write(figures)
    assert "| aarch64, onnxruntime 1.22.1, Python 3.11.2 | 50.0% | 25.0% | 300 MB |" in page
    assert "Of 240 photos, 239 get the same label" in joined(page)
    assert "The check reports: too slow." in joined(page)


@pytest.mark.parametrize("order", [("defaults", "250 steps of 32"), ("250 steps of 32", "defaults")])
def test_a_gain_of_accuracy_is_a_gain_in_whatever_order_it_is_stored(
    figures: dict[str, Any], order: tuple[str, str]
) -> None:
    top1 = {"defaults": 0.58, "250 steps of 32": 0.57}
    rows = {name: {"top1": top1[name], "deviation": 0.0, "steps": 1} for name in order}
    page = document.write(figures | {"accuracy": {"backbone": "small", "sets": {"cifar10": rows}}})
    assert "| accuracy of the default schedule minus that of 250 steps | **+1.0 points** |" in page


def test_figures_are_stored_and_the_page_is_written_from_them(
    tmp_path: Path, figures: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    stored, page = tmp_path / "figures.json", tmp_path / "page.md"
    figures["steps"]["10"]["ratio"] = 50.123456789
    performance.store(stored, figures)
    assert json.loads(stored.read_text())["steps"]["10"]["ratio"] == 50.1235
    options = ["performance", "--from", str(stored), "--figures", str(stored), "--page", str(page)]
    monkeypatch.setattr(sys, "argv", options)
    performance.main()
    assert page.read_text() == document.write(json.loads(stored.read_text()))


def test_tables_have_as_many_cells_as_headers(figures: dict[str, Any]) -> None:
    for header, rows in (adaptation.table(figures["adaptation"]), steps.table(figures["steps"])):
        assert {len(row) for row in rows} == {len(header)}


# ---------------------------------------------------------------- which machine, which backbone, which method


def test_a_part_from_another_machine_says_so(figures: dict[str, Any]) -> None:
    page = document.write(figures)
    assert "These sections were measured" not in page
    assert "Machine: a processor (x86_64, AVX2;" in page
    other = {**figures["machines"]["steps"], "processor": "another processor"}
    figures["machines"]["steps"] = other
    page = document.write(figures)
    assert "Machine: a processor (" in page
    elsewhere = "These sections were measured on another machine or with other versions: One tuning step."
    assert elsewhere in joined(page)
    assert "## One tuning step\n\nMeasured on: another processor (x86_64, AVX2;" in page
    del figures["machines"]["steps"]
    assert "## One tuning step\n\nMeasured on a machine that was not noted.\n\n|" in document.write(figures)


def test_measuring_one_part_again_keeps_the_machines_of_the_others(
    tmp_path: Path, figures: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    stored, page, given = tmp_path / "figures.json", tmp_path / "page.md", tmp_path / "accuracy.json"
    before = copy.deepcopy(figures["machines"])
    performance.store(stored, figures)
    rows = {name: {"top1": 0.5, "deviation": 0.0, "steps": 1} for name in ("defaults", "250 steps of 32")}
    accuracy = {"backbone": "small", "sets": {"cifar10": rows}, "machine": {**before["steps"], "cores": 64}}
    given.write_text(json.dumps(accuracy))
    monkeypatch.setitem(performance.PARTS, "steps", lambda *_: figures["steps"])
    options = ["--only", "steps", "--accuracy", given, "--threads", 3, "--figures", stored, "--page", page]
    monkeypatch.setattr(sys, "argv", ["performance", *map(str, options)])
    performance.main()
    machines = json.loads(stored.read_text())["machines"]
    assert machines["adaptation"] == before["adaptation"]
    assert machines["steps"]["threads"] == 3
    assert machines["accuracy"]["cores"] == 64
    assert "with other versions: Accuracy at that speed, One tuning step." in joined(page.read_text())


def test_the_stored_figures_name_a_machine_for_every_part_that_the_run_measures() -> None:
    figures = json.loads(performance.FIGURES.read_text())
    assert set(performance.PARTS) & set(figures) <= set(figures["machines"])
    assert performance.PAGE.read_text() == document.write(figures)


def test_the_default_backbone_is_measured(figures: dict[str, Any]) -> None:
    assert DEFAULT == DEFAULT_BACKBONE
    assert all((folder / MANIFEST).is_file() for folder in EMBEDDED.values())
    figures["cold_start"] = {
        DEFAULT: {
            "seconds": dict.fromkeys(cold_start.WORDS, 0.4),
            "peak_mb": 110.0,
            "adapt": {"method": "qtaskres", "photos": 240, "bytes": 469, "seconds": 9.0, "peak_mb": 165.0},
        }
    }
    peaks = dict.fromkeys(memory.CASES, 150.0)
    figures["memory"] = {
        "peak_mb": peaks,
        "method": "qtaskres",
        "many_classes": {"by_classes": {}, "growth_mb": 1.0},
    }
    page = document.write(figures)
    assert "| `predict` of one photo, `small`, from process start | **0.40 s** |" in page
    assert "| memory: `small` adapt with 12-megapixel photos | **150 MB** |" in page
    assert "| `qprompt-edge adapt` of 240 photos (`qtaskres`, all defaults), whole | 9.00 s |" in page
    assert "`adapt` is `--method qtaskres` here. For comparison, PyTorch CoOp's process" in joined(page)


def test_what_people_use_instead_has_a_section(figures: dict[str, Any]) -> None:
    row = {
        "seconds": 5.0, "computed": 0.0, "processor": 9.0, "peak_mb": 150.0, "installed_mb": 239.0, "bytes": 469,
        "top1": 0.9375, "photos": 192, "runs": 3, "ratio": 1.0,
    }  # fmt: skip
    rows = {
        "adapt": row,
        "authors": {**row, "seconds": 700.0, "computed": 690.0, "ratio": 140.0, "top1": None},
    }
    figures["neighbours"] = {"rows": rows, "backbone": "small"}
    page = document.write(figures)
    assert "| `qprompt-edge adapt` | 5.00 s |  | 150 MB | 239 MB | 469 bytes | 93.8% |" in page
    assert "| PyTorch CoOp, as its authors' code works | 11.7 min (computed) | 140x |" in page
    assert "It is missing: there was no TensorFlow." in joined(page)
    assert "| PyTorch CoOp on the same tower against `adapt` | **140x** |" in page
    assert "MobileNetV2 fine-tuning against" not in page
    rows["mobilenet"] = {**row, "seconds": 300.0, "ratio": 60.0, "top1": None}
    page = document.write(figures)
    assert "| MobileNetV2 fine-tuning against `adapt` | **60x** |" in page
    assert "It is missing" not in page


def test_the_default_method_has_sections(figures: dict[str, Any]) -> None:
    theirs = figures["adaptation"]["ViT-B-16"]
    ours = {
        "precision": "int8", "method": "qtaskres", "bytes": 900, "seconds": 16.0, "encode": 14.0, "train": 1.0,
        "processor": 30.0, "again": 1.2, "peak_mb": 300.0, "runs": 2,
        "authors": theirs["authors"], "trimmed": theirs["trimmed"],
    }  # fmt: skip
    figures["default_method"] = {"ViT-B-16": ours, "small": ours}
    figures["thousand_classes"] = {
        "classes": 1000, "method": "qtaskres", "photos": 16000, "steps": 100, "bytes": 80000, "seconds": 60.0,
        "tuning": 50.0, "processor": 100.0, "peak_mb": 399.0, "runs": 3,
    }  # fmt: skip
    page = document.write(figures)
    assert "| ViT-B-16, int8 | 16.0 s | 1.20 s | 26.7 min | 100x | 80.0 s | 5.0x | 300 MB |" in page
    assert "| whole adaptation, ViT-B/16, the default method | **100x** |" in page
    assert "| `adapt` of 160 photos again with other options, `small` | **1.20 s** |" in page
    assert "| ... and its peak memory | **399 MB** |" in page
    assert "| ... of it tuning: text tower, residuals, cross-validation | 50.0 s |" in page


def test_what_stands_beside_pytorch_coop_is_the_same_method() -> None:
    assert all(options[:2] == ("--method", "qcoop") for options in adaptation.SCHEDULES.values())
