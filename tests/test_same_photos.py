"""The same photo in two classes, or among training and test photos.

It is named, and never counts in the verdict.
"""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from command_line import Result, assert_refused
from scenes import CLASSES, write_photos
from small_experiments import experiment

from qprompt_edge.data.same_photos import described, in_several_classes, same_content
from qprompt_edge.reporter import Reporter

Run = Callable[..., Result]
FIRST, SECOND, THIRD = CLASSES


def copied(photos: Path, source: str, target: str) -> Path:
    (photos / target).parent.mkdir(exist_ok=True, parents=True)
    return Path(shutil.copyfile(photos / source, photos / target))


def test_positions_by_hand() -> None:
    keys = np.zeros((6, 16), np.uint8)
    keys[[1, 4], 15], keys[[2, 3, 5], 0] = 1, 7
    labels = np.array([0, 0, 1, 1, 2, 1])
    assert same_content(keys, range(6)) == [[1, 4], [2, 3, 5]]
    assert same_content(keys, [0, 2, 4]) == []
    assert in_several_classes(keys, labels, range(6)) == [[1, 4]]
    (same,) = described([[1, 4]], [Path(str(i)) for i in range(6)], labels, "abc")
    assert (same.paths, same.labels) == ((Path("1"), Path("4")), ("a", "c"))


def test_a_photo_in_two_classes_is_named_and_not_judged_by(run: Run, tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", count=10)
    options = (photos, "-o", tmp_path / "made.qpt", "--epochs", 1, "--holdout", 0.5, "--json")
    before = run("adapt", *options)
    assert "the same photo" not in before.err
    assert before.json["images"]["in_several_classes"] == []
    for number in range(9):
        copied(photos, f"{FIRST}/{number:02}.png", f"{SECOND}/copy {number}.png")
    result = run("adapt", *options)
    assert result.code == 0, result.err
    same = result.json["images"]["in_several_classes"]
    assert len(same) == 9
    expected = [str(photos / FIRST / "00.png"), str(photos / SECOND / "copy 0.png")]
    assert same[0] == {"paths": expected, "labels": [FIRST, SECOND]}
    assert (
        f"the same photo is in the classes {FIRST}, {SECOND}: {', '.join(expected)}; it is not judged by"
        in result.err
    )
    assert result.json["images"]["holdout"] <= 1 + 10 + 5  # of the first class there is one left


def test_twins_in_one_class_are_no_news(run: Run, photos: Path, tmp_path: Path) -> None:
    copied(photos, f"{FIRST}/00.png", f"{FIRST}/copy.png")
    result = run("adapt", photos, "-o", tmp_path / "made.qpt", "--epochs", 1, "--json")
    assert result.json["images"]["in_several_classes"] == []
    assert "the same photo" not in result.err


def test_test_photos_that_are_trained_on_do_not_count(run: Run, photos: Path, tmp_path: Path) -> None:
    tests = write_photos(tmp_path / "tests", count=3, first=50)
    options = (photos, "--test-images", tests, "-o", tmp_path / "made.qpt", "--epochs", 1, "--json")
    before = run("adapt", *options).json
    copy = tests / SECOND / "copy.png"
    shutil.copyfile(photos / SECOND / "02.png", copy)
    result = run("adapt", *options)
    assert result.code == 0, result.err
    after = result.json
    assert (after["holdout"], after["images"]["holdout"]) == (before["holdout"], 9)
    reason = (
        "is trained on too, so it does not count in the verdict: it is the same photo as "
        f"{photos / SECOND / '02.png'}"
    )
    assert after["images"]["skipped"] == [{"path": str(copy), "reason": reason}]
    assert f"skipped {copy}: {reason}" in result.err


def test_a_test_photo_under_another_label_is_named(run: Run, photos: Path, tmp_path: Path) -> None:
    tests = write_photos(tmp_path / "tests", count=3, first=50)
    shutil.copyfile(photos / SECOND / "02.png", tests / FIRST / "other.png")
    shutil.copyfile(tests / SECOND / "50.png", tests / FIRST / "both.png")
    result = run(
        "adapt", photos, "--test-images", tests, "-o", tmp_path / "made.qpt", "--epochs", 1, "--json"
    )
    same = result.json["images"]["in_several_classes"]
    assert [sorted(photo["labels"]) for photo in same] == [[FIRST, SECOND]] * 2
    assert result.json["images"]["holdout"] == 8
    assert len(result.json["images"]["skipped"]) == 1


def test_training_photos_are_no_test_photos(run: Run, photos: Path, tmp_path: Path) -> None:
    options = ("-o", tmp_path / "made.qpt", "--epochs", 1, "--json")
    result = run("adapt", photos, "--test-images", photos, *options)
    assert_refused(result, "all 18 test photos are training photos too", "give other --test-images, or none")
    assert not (tmp_path / "made.qpt").exists()
    few = run("adapt", photos, "--test-images", photos, "--shots", 2, *options).json
    assert (few["images"]["train"], few["images"]["holdout"], len(few["images"]["skipped"])) == (6, 12, 6)


def test_eval_names_a_photo_in_two_classes(run: Run, photos: Path, tmp_path: Path) -> None:
    made = tmp_path / "made.qpt"
    assert run("adapt", photos, "-o", made, "--epochs", 1).code == 0
    copied(photos, f"{FIRST}/00.png", f"{THIRD}/copy.png")
    result = run("eval", "--images", photos, "--prompt", made, "--json")
    assert result.code == 0, result.err
    assert [photo["labels"] for photo in result.json["in_several_classes"]] == [[FIRST, THIRD]]
    assert f"the same photo is in the classes {FIRST}, {THIRD}: " in result.err
    assert result.json["n"] == 19


@pytest.mark.parametrize("source", [f"train/{FIRST}/00.png", f"test/{SECOND}/50.png"])
def test_reproduce_names_what_is_there_twice(tmp_path: Path, source: str) -> None:
    folder = tmp_path / "own"
    write_photos(folder / "train", count=2)  # all of them are drawn
    write_photos(folder / "test", count=3, first=50)
    notes: list[str] = []
    running = experiment(folder, ["zero-shot"], [1])
    running.run(tmp_path / "first", reporter=Reporter(note=notes.append))
    assert not [note for note in notes if "more than once" in note]
    copied(folder, source, f"test/{THIRD}/copy.png")
    running = experiment(folder, ["zero-shot"], [1])
    running.run(tmp_path / "second", reporter=Reporter(note=notes.append))
    (said,) = [note for note in notes if "more than once" in note]
    assert said.startswith("data set odd has 1 photo more than once, such as ")
    assert str(folder / source) in said
