"""The command line as people and scripts meet it: exit codes, one-line errors, JSON."""

import csv
import io
import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from scenes import CLASSES, write_photo, write_photos

from qprompt_edge.cli import main
from qprompt_runtime.prompt_file import read_prompt_file, write_prompt_file


class Result:
    """What one run of the command line left behind."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def json(self) -> dict:
        return json.loads(self.out)


@pytest.fixture
def run(capsys):
    def call(*arguments: object) -> Result:
        with pytest.raises(SystemExit) as stop:
            main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Result(stop.value.code, captured.out, captured.err)

    return call


@pytest.fixture
def photos(tmp_path) -> Path:
    return write_photos(tmp_path / "photos")


@pytest.fixture
def prompt(run, photos, tmp_path) -> Path:
    path = tmp_path / "made.qpt"
    assert run("adapt", "--images", photos, "--out", path, "--epochs", 1).code == 0
    return path


def assert_refused(result: Result, *words: str) -> None:
    """Exit code 1, one line that says what is wrong, no traceback; the same in JSON."""
    assert result.code == 1, result.err
    lines = [line for line in result.err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, result.err
    assert "Traceback" not in result.err
    for word in words:
        assert word in lines[0]
    assert result.json == {"error": lines[0].removeprefix("error: ")}


# ---------------------------------------------------------------------- adapt


def test_adapt_prints_what_the_design_promises(run, photos, tmp_path):
    out = tmp_path / "p.qpt"
    result = run("adapt", "--images", photos, "--out", out, "--epochs", 2, "--json")
    assert result.code == 0
    report = result.json
    expected = [
        "prompt",
        "bytes",
        "method",
        "bits",
        "classes",
        "images",
        "holdout",
        "helped",
        "seconds",
        "steps",
        "peak_rss_mb",
        "backbone",
        "provider",
    ]
    assert list(report) == expected
    assert report["bytes"] == out.stat().st_size
    assert report["classes"] == list(CLASSES)
    assert (report["images"]["train"], report["images"]["holdout"]) == (15, 3)
    assert set(report["holdout"]) == {"zero_shot", "adapted", "probe"}
    assert report["helped"] is None  # three photos cannot tell
    assert "Too few photos to say" in result.err


def test_the_same_run_gives_the_same_bytes(run, photos, tmp_path):
    for name in ("a.qpt", "b.qpt"):
        run("adapt", "--images", photos, "--out", tmp_path / name, "--epochs", 3)
    assert (tmp_path / "a.qpt").read_bytes() == (tmp_path / "b.qpt").read_bytes()


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 8, 32])
@pytest.mark.parametrize("contexts", ["shared", "per-class"])
def test_every_width_and_context(run, photos, tmp_path, bits, contexts):
    out = tmp_path / "p.qpt"
    arguments = ("--bits", bits, "--contexts", contexts, "--epochs", 1, "--holdout", 0)
    result = run("adapt", "--images", photos, "--out", out, *arguments, "--json")
    assert result.code == 0, result.err
    assert result.json["holdout"] is None
    shape = read_prompt_file(out).groups[0].shape
    assert len(shape) == (2 if contexts == "shared" else 3)
    assert run("predict", photos, "--prompt", out, "--json").code == 0


def test_views_and_shots(run, photos, tmp_path):
    arguments = ("--views", 2, "--shots", 2, "--epochs", 2, "--json")
    result = run("adapt", "--images", photos, "--out", tmp_path / "p.qpt", *arguments)
    assert result.json["images"]["train"] == 6


def test_a_verdict_with_enough_photos(run, tmp_path):
    photos, tests = write_photos(tmp_path / "train"), write_photos(tmp_path / "test", count=11)
    arguments = ("--test-images", tests, "--epochs", 1, "--json")
    result = run("adapt", "--images", photos, "--out", tmp_path / "p.qpt", *arguments)
    assert result.json["images"]["holdout"] == 33
    assert isinstance(result.json["helped"], bool)
    gain = result.json["holdout"]["adapted"]["top1"] > result.json["holdout"]["zero_shot"]["top1"]
    assert result.json["helped"] == gain
    assert ("Adaptation helped" if gain else "Adaptation did not help") in result.err


def test_bad_photos_are_skipped_and_listed(run, photos, tmp_path):
    folder = photos / CLASSES[0]
    good = (folder / "00.png").read_bytes()
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "text.jpg").write_text("not a photo")
    (folder / "cut.png").write_bytes(good[: len(good) // 2])
    (folder / "wrong suffix.txt").write_bytes(good)  # read: content decides; a copy of 00.png
    result = run("adapt", "--images", photos, "--out", tmp_path / "p.qpt", "--epochs", 1, "--json")
    assert result.code == 0, result.err
    skipped = {Path(item["path"]).name: item["reason"] for item in result.json["images"]["skipped"]}
    assert set(skipped) == {"empty.jpg", "text.jpg", "cut.png"}
    assert all(skipped.values())
    assert "skipped" in result.err
    assert result.json["images"]["train"] + result.json["images"]["holdout"] == 19


def test_a_class_left_without_photos_is_an_error(run, photos, tmp_path):
    write_photo(photos / "broken" / "a.png", (0, 0, 0), 1)
    (photos / "broken" / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    out = tmp_path / "p.qpt"
    assert_refused(run("adapt", "--images", photos, "--out", out, "--json"), "broken")
    assert not out.exists()


def test_a_class_with_one_photo_is_trained_on_and_said(run, photos, tmp_path):
    write_photo(photos / "alone" / "a.png", (0, 0, 0), 1)
    result = run("adapt", "--images", photos, "--out", tmp_path / "p.qpt", "--epochs", 1, "--json")
    assert result.code == 0
    assert result.json["images"]["single_photo_classes"] == ["alone"]
    assert "alone" in result.json["images"]["classes_without_holdout"]
    assert "single photo: alone" in result.err


@pytest.mark.parametrize(
    ("name", "words"),
    [("missing", "no such folder"), ("empty", "empty"), ("one", "only one class"), ("flat", "class folders")],
)
def test_folders_that_cannot_be_adapted_to(run, tmp_path, name, words):
    (tmp_path / "empty").mkdir()
    write_photos(tmp_path / "one", classes=("only",))
    write_photo(tmp_path / "flat" / "a.png", (0, 0, 0), 1)
    assert_refused(run("adapt", "--images", tmp_path / name, "--out", tmp_path / "p.qpt", "--json"), words)


@pytest.mark.parametrize(
    "name", ["two  words", "naïve café", "ドア", "line\nbreak", "x" * 20, "it's 100%", "[bold]"]
)
def test_odd_class_names_go_all_the_way(run, tmp_path, name):
    photos = write_photos(tmp_path / "photos", classes=(name, "plain"))
    out = tmp_path / "p.qpt"
    assert run("adapt", "--images", photos, "--out", out, "--epochs", 1).code == 0
    answer = run("predict", photos / name / "00.png", "--prompt", out, "--top-k", 2, "--json").json
    assert {item["label"] for item in answer["predictions"]} == {name, "plain"}
    assert run("eval", "--images", photos, "--prompt", out).code == 0
    assert run("inspect", out).code == 0


def test_a_name_longer_than_the_text_tower_reads(run, tmp_path):
    name = "long name " * 20
    photos = write_photos(tmp_path / "photos", classes=(name.strip(), "plain"))
    result = run("adapt", "--images", photos, "--out", tmp_path / "p.qpt", "--json")
    assert_refused(result, "--class-names")
    names = tmp_path / "names.csv"
    names.write_text(f"label,text\n{name.strip()},short\n")
    out = tmp_path / "p.qpt"
    assert run("adapt", "--images", photos, "--class-names", names, "--out", out, "--epochs", 1).code == 0


def test_labels_from_a_list(run, photos, tmp_path):
    labels = tmp_path / "labels.csv"
    rows = [(str(path.relative_to(photos)), path.parent.name) for path in sorted(photos.rglob("*.png"))]
    text = "path,label\n" + "".join(f"{path},{label}\n" for path, label in [*rows, ("gone.png", CLASSES[0])])
    labels.write_text(text, encoding="utf-8-sig")
    out = tmp_path / "p.qpt"
    result = run("adapt", "--images", photos, "--labels", labels, "--out", out, "--epochs", 1, "--json")
    assert result.code == 0, result.err
    assert result.json["images"]["skipped"][0]["path"].endswith("gone.png")
    labels.write_text("file;class\na;b\n")
    assert_refused(run("adapt", "--images", photos, "--labels", labels, "--out", out, "--json"), "path,label")


def test_a_test_class_that_was_not_trained(run, photos, tmp_path):
    tests = write_photos(tmp_path / "tests", classes=("unheard of",))
    arguments = ("--images", photos, "--test-images", tests, "--out", tmp_path / "p.qpt", "--json")
    assert_refused(run("adapt", *arguments), "unheard of")


def test_a_place_that_cannot_be_written(run, photos, tmp_path):
    (tmp_path / "file").write_text("in the way")
    for out in (tmp_path / "file" / "p.qpt", tmp_path):
        assert_refused(run("adapt", "--images", photos, "--out", out, "--json"), "cannot write")
    assert (tmp_path / "file").read_text() == "in the way"


def test_too_little_memory(run, photos, tmp_path):
    arguments = ("--images", photos, "--out", tmp_path / "p.qpt", "--max-memory", 20, "--json")
    assert_refused(run("adapt", *arguments), "--max-memory")


def test_a_provider_that_is_not_there(run, photos, tmp_path):
    arguments = ("--images", photos, "--out", tmp_path / "p.qpt", "--provider", "abacus", "--json")
    assert_refused(run("adapt", *arguments), "abacus", "cpu")


def test_a_backbone_that_is_not_there(run, photos, tmp_path):
    arguments = ("--images", photos, "--out", tmp_path / "p.qpt", "--backbone", "huge", "--json")
    assert_refused(run("adapt", *arguments), "huge", "tiny")


def test_a_work_directory_of_another_task(run, photos, tmp_path):
    work = tmp_path / "work"
    arguments = ("--images", photos, "--out", tmp_path / "p.qpt", "--epochs", 1, "--work-dir", work)
    assert run("adapt", *arguments).code == 0
    assert run("adapt", *arguments, "--resume").code == 0
    assert_refused(run("adapt", *arguments, "--seed", 2, "--json"), "another task")


def test_wrong_usage_is_2(run):
    assert run("adapt").code == 2
    assert run("adapt", "--images", "x", "--bits", 5).code == 2
    assert run("no-such-command").code == 2


def test_a_32_bit_python_is_told_so(run, monkeypatch):
    monkeypatch.setattr(sys, "maxsize", 2**31 - 1)
    result = run("backbones")
    assert result.code == 1
    assert "64-bit" in result.err


# ---------------------------------------------------------------------- predict


def test_predict_json_is_a_line_for_each_photo(run, photos, prompt):
    result = run("predict", photos, "--prompt", prompt, "--json", "--top-k", 2)
    lines = [json.loads(line) for line in result.out.splitlines()]
    assert len(lines) == 18
    assert all(len(line["predictions"]) == 2 for line in lines)
    assert all(0 <= item["probability"] <= 1 for line in lines for item in line["predictions"])


def test_predict_csv(run, photos, prompt):
    result = run("predict", photos, "--prompt", prompt, "--csv")
    rows = list(csv.DictReader(io.StringIO(result.out)))
    assert len(rows) == 18
    assert set(rows[0]) == {"image", "label", "probability"}


def test_predict_answers_the_rest_and_exits_with_1(run, photos, prompt):
    (photos / "bad.jpg").write_text("no photo")
    result = run("predict", photos, "--prompt", prompt, "--json")
    lines = [json.loads(line) for line in result.out.splitlines()]
    assert result.code == 1
    assert len(lines) == 19
    assert [Path(line["image"]).name for line in lines if "error" in line] == ["bad.jpg"]
    assert run("predict", photos, "--prompt", prompt).code == 1


def test_predict_with_other_classes(run, photos, prompt):
    result = run("predict", photos, "--prompt", prompt, "--classes", "cat, dog", "--top-k", 5, "--json")
    first = json.loads(result.out.splitlines()[0])
    assert {item["label"] for item in first["predictions"]} == {"cat", "dog"}
    assert sum(item["probability"] for item in first["predictions"]) == pytest.approx(1, abs=1e-5)


def test_predict_refuses(run, photos, prompt, tmp_path):
    assert_refused(run("predict", tmp_path / "none.jpg", "--prompt", prompt, "--json"), "no such file")
    assert_refused(run("predict", photos, "--prompt", tmp_path / "none.qpt", "--json"), "none.qpt")
    assert_refused(run("predict", photos, "--prompt", prompt, "--classes", "cat", "--json"), "--classes")
    assert run("predict", photos, "--prompt", prompt, "--csv", "--json").code == 2
    damaged = tmp_path / "damaged.qpt"
    damaged.write_bytes(prompt.read_bytes()[:-1])
    assert_refused(run("predict", photos, "--prompt", damaged, "--json"), "damaged.qpt")


def test_a_prompt_for_another_backbone_names_both(run, photos, prompt, tmp_path):
    other = tmp_path / "other.qpt"
    write_prompt_file(
        other, replace(read_prompt_file(prompt), backbone_name="ViT-B-16", fingerprint=bytes(16))
    )
    result = run("predict", photos, "--prompt", other, "--backbone", "tiny", "--json")
    assert_refused(result, "'ViT-B-16'", "'tiny'")


# ---------------------------------------------------------------------- eval, inspect, backbones, export


def test_eval_prints_what_the_design_promises(run, photos, prompt):
    (photos / CLASSES[0] / "bad.jpg").write_text("no photo")
    report = run("eval", "--images", photos, "--prompt", prompt, "--json").json
    assert {"top1", "n", "per_class", "confusion", "ece", "zero_shot", "mistakes"} <= set(report)
    assert report["n"] == 18
    assert len(report["mistakes"]) == round(18 * (1 - report["top1"]))
    assert sum(map(sum, report["confusion"]["counts"])) == 18
    assert len(report["skipped"]) == 1


def test_eval_with_a_class_that_the_prompt_does_not_know(run, prompt, tmp_path):
    tests = write_photos(tmp_path / "tests", classes=("unheard of",))
    assert_refused(run("eval", "--images", tests, "--prompt", prompt, "--json"), "unheard of", CLASSES[0])


def test_inspect_prompt(run, prompt):
    report = run("inspect", prompt, "--json").json
    for key in ("format_version", "method", "bits", "context_length", "width", "weights", "payload_bytes"):
        assert key in report
    assert report["file_bytes"] == prompt.stat().st_size
    assert report["payload_bytes"] == report["weights"] // 8 + 4
    assert [item["label"] for item in report["classes"]] == list(CLASSES)


def test_inspect_what_is_not_there(run, tmp_path):
    assert_refused(run("inspect", tmp_path / "none.qpt", "--json"), "none.qpt")
    assert_refused(run("inspect", "no-such-backbone", "--json"), "no-such-backbone", "tiny")


def test_inspect_bundle(run):
    assert run("inspect", "tiny", "--json").json["name"] == "tiny"
    assert run("inspect", "tiny", "--verify", "--json").json["verified"] is True


def test_backbones_lists_tiny(run):
    (entry,) = run("backbones", "--json").json["backbones"]
    assert entry["name"] == "tiny"
    assert entry["bytes"] > 10**6


def test_export_without_the_exporters_says_what_to_install(run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)  # an import of torch fails from here on
    for name in [name for name in sys.modules if name.startswith("qprompt_exporters")]:
        monkeypatch.delitem(sys.modules, name)
    result = run("export", "--model", "ViT-B-16", "--out", tmp_path / "bundle", "--json")
    assert_refused(result, "qprompt-edge[export]")
