"""`check` as people and scripts meet it: planted faults are found, clean photos are left alone."""

import inspect
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from command_line import Result, assert_refused
from conftest import TINY_FOLDER
from PIL import Image, ImageEnhance, ImageFilter
from scenes import CLASSES, write_photo, write_photos

from qprompt_edge import CheckResult, check
from qprompt_edge.checking.words import sections
from qprompt_edge.cli import check as command_module
from qprompt_edge.data import features as features_module
from qprompt_edge.reporter import Reporter

Run = Callable[..., Result]
EXAMPLES = Path(__file__).parent.parent / "examples" / "photos"
KINDS = (
    "unreadable", "duplicates", "blurred", "dark", "blown_out", "short_classes", "mislabelled", "mixed_up",
)  # fmt: skip


@pytest.fixture(scope="module")
def caches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache for this module: the examples are encoded once."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("QPE_CACHE", str(folder))
        check(EXAMPLES)
    return folder


@pytest.fixture
def cached(caches: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QPE_CACHE", str(caches))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The examples, to plant faults in."""
    return Path(shutil.copytree(EXAMPLES, tmp_path / "photos"))


def moved(folder: Path, source: str, target: str) -> str:
    return str((folder / source).rename(folder / target))


def edited(folder: Path, source: str, target: str, edit: Callable[[Image.Image], Image.Image]) -> str:
    edit(Image.open(folder / source)).save(folder / target, quality=90)
    return str(folder / target)


def listed(result: CheckResult) -> dict[str, list]:
    """All findings, as JSON has them."""
    found = result.to_json()
    return {kind: found[kind] for kind in KINDS}


@pytest.mark.usefixtures("cached")
def test_nothing_is_found_in_clean_photos(run: Run) -> None:
    result = check(EXAMPLES)
    assert listed(result) == {kind: [] for kind in KINDS}
    assert (result.photos, result.found) == (240, 0)
    assert result.curve is not None
    assert result.curve.enough is not False
    assert result.curve.points[-1].top1 > 0.95
    shown = run("check", EXAMPLES)
    assert (shown.code, shown.err) == (0, "")
    assert shown.out.startswith("240 photos of 8 classes: nothing wrong was found\n")
    assert "Accuracy of a linear probe, by photos of a class: " in shown.out


@pytest.mark.usefixtures("cached")
def test_wrong_labels_are_found_and_the_right_ones_named(folder: Path) -> None:
    planted = {
        moved(folder, "bolt/00.jpg", "glove/a.jpg"): "bolt",
        moved(folder, "bolt/07.jpg", "leaf/a.jpg"): "bolt",
        moved(folder, "tomato/03.jpg", "potato/a.jpg"): "tomato",
        moved(folder, "leaf/05.jpg", "stone/a.jpg"): "leaf",
        moved(folder, "carrot/02.jpg", "tomato/a.jpg"): "carrot",
    }
    result = check(folder)
    assert {str(it.path): it.looks_like for it in result.mislabelled} == planted
    assert {**listed(result), "mislabelled": []} == {kind: [] for kind in KINDS}
    assert all(it.label == it.path.parent.name and 0 < it.doubt <= 1 for it in result.mislabelled)


@pytest.mark.usefixtures("cached")
def test_poor_photos_are_found(folder: Path) -> None:
    blurred = [
        edited(
            folder, f"{label}/02.jpg", f"{label}/blur.jpg", lambda it: it.filter(ImageFilter.GaussianBlur(4))
        )
        for label in ("glove", "leaf", "stone")
    ]
    dark = edited(
        folder, "stone/07.jpg", "stone/dark.jpg", lambda it: ImageEnhance.Brightness(it).enhance(0.1)
    )
    bright = edited(
        folder, "leaf/11.jpg", "leaf/light.jpg", lambda it: ImageEnhance.Brightness(it).enhance(8)
    )
    result = check(folder)
    assert sorted(str(it.path) for it in result.blurred) == blurred
    assert [str(it.path) for it in result.dark] == [dark]
    assert [str(it.path) for it in result.blown_out] == [bright]


@pytest.mark.usefixtures("cached")
def test_duplicates_are_found_within_and_across_classes(folder: Path) -> None:
    again = edited(folder, "bottle/04.jpg", "bottle/smaller.jpg", lambda it: it.resize((96, 96)))
    copy = str(shutil.copy(folder / "bottle/05.jpg", folder / "stone/copy.jpg"))
    result = check(folder)
    assert [it.to_json() for it in result.duplicates] == [
        {
            "paths": [str(folder / "bottle/05.jpg"), copy],
            "labels": ["bottle", "stone"],
            "identical": True,
            "across_classes": True,
        },
        {
            "paths": [str(folder / "bottle/04.jpg"), again],
            "labels": ["bottle", "bottle"],
            "identical": False,
            "across_classes": False,
        },
    ]
    (wrong,) = result.mislabelled
    assert (str(wrong.path), wrong.looks_like) == (copy, "bottle")


@pytest.mark.usefixtures("cached")
def test_two_halves_of_one_class_cannot_be_told_apart(folder: Path) -> None:
    (folder / "spud").mkdir()
    for number in range(0, 30, 2):
        moved(folder, f"potato/{number:02}.jpg", f"spud/{number:02}.jpg")
    result = check(folder)
    (pair,) = result.mixed_up
    assert (pair.labels, pair.photos, pair.chance) == (("potato", "spud"), 30, True)
    assert result.mislabelled == ()


@pytest.mark.usefixtures("cached")
def test_unreadable_files_and_short_classes_are_found(folder: Path) -> None:
    (folder / "bolt/bad.jpg").write_text("no photo")
    (folder / "beside.jpg").write_bytes((folder / "bolt/00.jpg").read_bytes())
    (folder / "nothing").mkdir()
    for number in range(5, 30):
        (folder / f"carrot/{number:02}.jpg").unlink()
    result = check(folder)
    assert [(str(it.path.relative_to(folder)), it.reason) for it in result.unreadable] == [
        ("beside.jpg", "lies beside the class folders, not in one"),
        ("bolt/bad.jpg", "is not an image"),
    ]
    assert [(it.label, it.photos) for it in result.short_classes] == [("nothing", 0), ("carrot", 5)]
    assert result.classes["nothing"] == 0


def test_the_report_says_what_to_do(run: Run, photos: Path) -> None:
    for number in range(7):
        (photos / CLASSES[0] / f"bad {number}.jpg").write_text("no photo")
    result = run("check", photos, "--backbone", TINY_FOLDER)
    assert result.code == 0, result.err
    assert "7 files cannot be used" in result.out
    assert f"{photos / CLASSES[0] / 'bad 0.jpg'}" in result.out
    assert "... and 2 more; --json lists all" in result.out
    assert "Replace or remove them." in result.out
    assert "3 classes are short of photos" in result.out
    checked = check(photos, backbone=TINY_FOLDER)
    found = sections(checked)
    for section in found:
        assert f"\n{section.title}\n" in result.out
        assert f"\n{section.title}\n" in checked.summary()
        assert section.advice in checked.summary()
    assert [(it.kind, len(it.rows)) for it in found if it.kind != "mislabelled"] == [
        ("unreadable", 7),
        ("short_classes", 3),
    ]
    assert all(len(row) == len(it.columns) for it in found for row in it.rows)


def test_json_has_all_of_it_and_stands_alone_on_stdout(run: Run, photos: Path) -> None:
    (photos / CLASSES[0] / "bad.jpg").write_text("no photo")
    result = run("check", photos, "--backbone", TINY_FOLDER, "--json")
    assert result.code == 0, result.err
    assert "1 file cannot be used" in result.err
    found = check(photos, backbone=TINY_FOLDER).to_json()
    assert {**result.json, "seconds": None, "peak_rss_mb": None} == {
        **json.loads(json.dumps(found)), "seconds": None, "peak_rss_mb": None,
    }  # fmt: skip
    assert list(result.json)[2:10] == list(KINDS)
    assert result.json["unreadable"] == [
        {"path": str(photos / CLASSES[0] / "bad.jpg"), "reason": "is not an image"}
    ]


def test_a_list_of_labels_will_do(run: Run, photos: Path, tmp_path: Path) -> None:
    rows = [f"{path.relative_to(photos)},{path.parent.name}" for path in sorted(photos.rglob("*.png"))]
    (tmp_path / "labels.csv").write_text(
        "\n".join(["path,label", *rows, f"gone.png,{CLASSES[0]}", "no.png,x"])
    )
    result = run("check", photos, "--labels", tmp_path / "labels.csv", "--backbone", TINY_FOLDER, "--json")
    assert result.json["classes"] == {**dict.fromkeys(CLASSES, 6), "x": 0}
    assert [row["reason"] for row in result.json["unreadable"]] == ["no such file"] * 2


@pytest.mark.parametrize("count", [0, 1, 2, 9])
def test_one_class_of_any_size_is_looked_at(run: Run, tmp_path: Path, count: int) -> None:
    (tmp_path / "photos" / "a").mkdir(parents=True)
    write_photos(tmp_path / "photos", ["a"], count)
    result = run("check", tmp_path / "photos", "--backbone", TINY_FOLDER)
    assert result.code == 0, result.err
    assert "a second class" in result.out


def test_no_photo_that_can_be_read(run: Run, tmp_path: Path) -> None:
    for label in "ab":
        (tmp_path / "photos" / label).mkdir(parents=True)
        (tmp_path / "photos" / label / "photo.heif").write_text("no photo")
    result = run("check", tmp_path / "photos", "--backbone", TINY_FOLDER, "--json")
    assert result.code == 0, result.err
    assert (result.json["photos"], len(result.json["unreadable"])) == (0, 2)
    assert result.json["curve"] is None


def test_bad_input_is_refused_in_one_line(run: Run, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert_refused(run("check", tmp_path / "empty", "--json"), "is empty", "sub-folder")
    assert_refused(run("check", tmp_path / "gone", "--json"), "no such folder")
    assert_refused(run("check", photos, "--backbone", "no-such", "--json"), "no-such")
    assert_refused(
        run("check", photos, "--max-memory", 20, "--backbone", TINY_FOLDER, "--json"), "--max-memory"
    )
    assert run("check").code == 2


def test_a_second_check_decodes_nothing_and_finds_the_same(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path: path.read_bytes() for path in photos.rglob("*.png")}
    first = check(photos, backbone=TINY_FOLDER)
    decoded = []
    monkeypatch.setattr(features_module, "read_image", lambda *given: decoded.append(given))
    second = check(photos, backbone=TINY_FOLDER)
    assert decoded == []
    assert (listed(first), first.curve) == (listed(second), second.curve)
    assert {path: path.read_bytes() for path in photos.rglob("*") if path.is_file()} == before


def test_progress_is_told(photos: Path) -> None:
    told: list[tuple[str, int, int]] = []
    check(photos, backbone=TINY_FOLDER, reporter=Reporter(stage=lambda *step: told.append(step)))
    assert ("encoding photos", 18, 18) in told
    assert told[-1][1] == told[-1][2]


def test_the_function_and_the_command_have_the_same_options_and_defaults() -> None:
    function, command = (inspect.signature(one).parameters for one in (check, command_module.command))
    assert set(function) - {"reporter"} == set(command) - {"as_json"}
    for name in set(function) - {"photos", "reporter"}:
        assert function[name].default == command[name].default, name


def test_a_result_is_short_in_a_shell(photos: Path) -> None:
    write_photo(photos / CLASSES[0] / "one more.png", (1, 2, 3), 1)
    result = check(photos, backbone=TINY_FOLDER)
    assert repr(result) == f"<CheckResult of 19 photos: {result.found} findings>"
