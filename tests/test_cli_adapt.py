"""`adapt` as people and scripts meet it: what it prints, which photos it takes, what it refuses."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from command_line import assert_refused
from conftest import TINY_FOLDER
from scenes import CLASSES, write_photo, write_photos

from qprompt_edge.adaptation.result import Holdout, score_lines, verdict
from qprompt_edge.evaluation.metrics import score
from qprompt_edge.evaluation.paired import compare
from qprompt_runtime.prompt_file import read_prompt_file

TINY = ("--backbone", TINY_FOLDER)
"""The quickest backbone, where any would do."""


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
        "mistakes",
        "helped",
        "difference",
        "interval",
        "p",
        "seconds",
        "steps",
        "peak_rss_mb",
        "backbone",
        "provider",
        "report",
    ]
    assert list(report) == expected
    assert report["bytes"] == out.stat().st_size
    assert report["classes"] == list(CLASSES)
    assert (report["images"]["train"], report["images"]["holdout"]) == (15, 3)
    assert set(report["holdout"]) == {"zero_shot", "context", "adapted", "probe"}
    assert report["holdout"]["context"] == report["holdout"]["zero_shot"]  # the words of both are the same
    assert report["helped"] is None  # three photos cannot tell
    assert report["p"] >= 0.25
    assert "Too close to call with 3 photos" in result.err


def test_the_same_run_gives_the_same_bytes(run, photos, tmp_path):
    for name in ("a.qpt", "b.qpt"):
        run("adapt", "--images", photos, "--out", tmp_path / name, "--epochs", 3)
    assert (tmp_path / "a.qpt").read_bytes() == (tmp_path / "b.qpt").read_bytes()


@pytest.mark.parametrize("bits", [1, 1.6, 2, 3, 4, 8, 32])
@pytest.mark.parametrize(
    ("method", "contexts", "dimensions"),
    [("qtaskres", "shared", 2), ("qcoop", "shared", 2), ("qcoop", "per-class", 3)],
)
def test_every_width_and_context(run, photos, tmp_path, bits, method, contexts, dimensions):
    out = tmp_path / "p.qpt"
    arguments = ("--method", method, "--bits", bits, "--contexts", contexts, "--epochs", 1, "--holdout", 0)
    result = run("adapt", "--images", photos, "--out", out, *arguments, *TINY, "--json")
    assert result.code == 0, result.err
    assert result.json["holdout"] is None
    group = read_prompt_file(out).groups[0]
    assert (group.bits, len(group.shape)) == (bits, dimensions)
    assert result.json["bits"] == bits
    assert run("predict", photos, "--prompt", out, *TINY, "--json").code == 0


def test_views_and_shots(run, photos, tmp_path):
    arguments = ("--views", 2, "--shots", 2, "--epochs", 2, "--json")
    result = run("adapt", "--images", photos, "--out", tmp_path / "p.qpt", *arguments)
    assert result.json["images"]["train"] == 6


@pytest.mark.parametrize(
    ("taught", "helped", "words"),
    [("right", True, "Adaptation helped: "), ("wrong", False, "Adaptation did not help, it made it worse: ")],
)
def test_the_verdict_with_enough_photos(run, tmp_path, taught, helped, words):
    """Names that fit must help.

    Names that stand on other classes' photos must not.
    """
    tests, out = write_photos(tmp_path / "test", count=11, first=50), tmp_path / "p.qpt"
    photos = write_photos(tmp_path / "photos")
    if taught == "wrong":
        first, *others = (folder.rename(tmp_path / folder.name) for folder in sorted(photos.iterdir()))
        for folder, label in zip((*others, first), sorted(CLASSES), strict=True):
            folder.rename(photos / label)
    result = run("adapt", "--images", photos, "--test-images", tests, "--out", out, "--json")
    report, scores = result.json, result.json["holdout"]
    assert report["images"]["holdout"] == 33
    assert report["helped"] is helped
    assert words in result.err
    assert report["p"] < 0.05
    assert all((end > 0) is helped for end in (report["difference"], *report["interval"]))
    assert report["difference"] == pytest.approx(scores["adapted"]["top1"] - scores["zero_shot"]["top1"])
    again = run("eval", "--images", tests, "--prompt", out, "--json").json
    assert again["top1"] == scores["adapted"]["top1"]


@pytest.mark.parametrize(
    ("gained", "lost", "words"),
    [
        (
            6,
            0,
            "Adaptation helped: 30.0% before, 45.0% after, a difference of +15.0 points "
            "(95% interval +2.7 to +25.9; p 0.031)",
        ),
        (0, 6, "Adaptation did not help, it made it worse: "),
        (1, 0, "Too close to call with 40 photos: "),
    ],
)  # fmt: skip
def test_the_words_of_the_verdict(gained, lost, words):
    before, after = np.arange(40) < 12, np.arange(40) < 12
    after[12 : 12 + gained], after[:lost] = True, False
    zero_shot, adapted = (
        score(np.where(right[:, None], [[1, 0]], [[0, 1]]).astype(np.float32), np.zeros(40, int))
        for right in (before, after)
    )
    holdout = Holdout(zero_shot, adapted, adapted, adapted, (), compare(zero_shot.right, adapted.right), ())
    options = SimpleNamespace(method="qcoop", contexts="shared")
    assert verdict(SimpleNamespace(holdout=holdout, options=options)).startswith(words)


def test_a_context_that_answers_as_another_does_is_left_out():
    one, two, three = (
        score(
            np.where(np.arange(8)[:, None] < right, [[1, 0]], [[0, 1]]).astype(np.float32), np.zeros(8, int)
        )
        for right in (2, 4, 6)
    )
    change = compare(one.right, three.right)
    titles = [
        [line[:13].strip() for line in score_lines(Holdout(one, context, three, three, (), change, ()))[2:]]
        for context in (one, two, three)
    ]
    assert [row.count("context alone") for row in titles] == [0, 1, 0]


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


def test_odd_class_names_go_all_the_way(run, tmp_path):
    names = ("two  words", "naïve café", "ドア", "line\nbreak", "x" * 20, "it's 100%", "[bold]", "plain")
    photos, out = write_photos(tmp_path / "photos", classes=names, count=3), tmp_path / "p.qpt"
    assert run("adapt", "--images", photos, "--out", out, "--epochs", 1, *TINY).code == 0
    rows = run("predict", photos, "--prompt", out, "--top-k", len(names), *TINY, "--json").rows
    assert len(rows) == 3 * len(names)
    assert all({item["label"] for item in row["predictions"]} == set(names) for row in rows)
    assert run("eval", "--images", photos, "--prompt", out, *TINY).code == 0
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
    assert_refused(run("adapt", *arguments), "huge", "small")


def test_a_work_directory_of_another_task(run, photos, tmp_path):
    work = tmp_path / "work"
    arguments = ("--images", photos, "--out", tmp_path / "p.qpt", "--epochs", 1, "--work-dir", work)
    assert run("adapt", *arguments).code == 0
    assert run("adapt", *arguments, "--resume").code == 0
    assert_refused(run("adapt", *arguments, "--seed", 2, "--json"), "another task")
