"""`update` as people and scripts meet it: a class more, a class less, more photos, and what it refuses."""

import inspect
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from command_line import assert_refused
from conftest import TINY_FOLDER
from scenes import CLASSES, write_photo, write_photos

from qprompt_edge import adapt, update
from qprompt_edge.adaptation import retuning
from qprompt_edge.adaptation.tunings import read_record
from qprompt_edge.cache import cache_folder
from qprompt_edge.cli import update as command_module
from qprompt_runtime.packing import unpack
from qprompt_runtime.prompt_file import PromptFile, read_prompt_file, write_prompt_file

NEW = "yellow sun"
YELLOW = (230, 220, 40)


@pytest.fixture
def new(tmp_path: Path) -> Path:
    """A folder with six photos of one class that the others are not."""
    for number in range(6):
        write_photo(tmp_path / "new" / NEW / f"{number}.png", YELLOW, 500 + number)
    return tmp_path / "new"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a prompt that was tuned on photos as `photos` has them, and the cache that this left."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("QPE_CACHE", str(folder / "cache"))
        adapt(write_photos(folder / "photos"), backbone=TINY_FOLDER, holdout=0).save(folder / "belt.qpt")
    return folder


@pytest.fixture
def belt(made: Path, tmp_path: Path) -> Path:
    """A prompt tuned on all of `photos`, on the quickest backbone, in this test's folder and cache."""
    shutil.copytree(made / "cache", cache_folder())
    shutil.copy(made / "belt.qpt", tmp_path)
    return tmp_path / "belt.qpt"


@pytest.fixture
def run(run):
    """The command line on the quickest backbone."""

    def call(command: object, *arguments: object):
        given = ("--backbone", TINY_FOLDER) if "--images" in arguments else ()
        return run(command, *arguments, *given)

    return call


def forget(*names: str) -> None:
    """Empty parts of the cache."""
    for name in names:
        shutil.rmtree(cache_folder() / name)


def rows(prompt: PromptFile) -> dict[str, tuple[bytes, float, float]]:
    """What a file holds of each class: its indices, its scale, its offset."""
    residuals, offsets = prompt.groups
    codes = unpack(residuals.data, residuals.size, residuals.bits).reshape(residuals.shape)
    owners = residuals.rows or range(len(prompt.classes))
    return {
        prompt.classes[owner].label: (
            codes[row].tobytes(),
            residuals.scales[row],
            float(offsets.values()[row]),
        )
        for row, owner in enumerate(owners)
    }


# ---------------------------------------------------------------------- a class more


def test_where_the_old_features_are_here_all_are_tuned_anew_as_adapt_would(run, belt, photos, new):
    result = run("update", belt, "--images", new, "--json")
    assert result.code == 0, result.err
    report = result.json
    assert (report["tuned_on"], report["calibration"]) == ("all photos", "anew")
    assert (report["added"], report["removed"], report["more_photos"]) == ([NEW], [], [])
    assert report["images"] | {"skipped": 0} == {
        "new": 6, "repeated": 0, "train": 24, "skipped": 0, "in_several_classes": [],
    }  # fmt: skip
    assert report["estimates"][NEW]["judged"] == 6
    assert report["old_classes"]["photos"] == 18
    assert report["bytes"] == belt.stat().st_size
    assert "old classes lose" in result.err
    shutil.copytree(new / NEW, photos / NEW)
    anew, updated = adapt(photos, backbone=TINY_FOLDER, holdout=0).prompt, read_prompt_file(belt)
    assert anew.classes == updated.classes
    assert anew.photos == updated.photos
    # Photos are summed in another order: numbers next to the boundary of two values may take the other one.
    apart = np.abs(updated.groups[0].values() - anew.groups[0].values()) > 2e-3
    assert apart.mean() < 0.01
    offsets, same = (prompt.groups[1].values() for prompt in (updated, anew))
    assert offsets - offsets.mean() == pytest.approx(same - same.mean(), abs=2e-3)
    # Parts are dealt out in another order.
    assert offsets.mean() == pytest.approx(same.mean(), abs=0.05)
    scores = updated.calibration.accept_scores
    assert scores == pytest.approx(anew.calibration.accept_scores, abs=0.05)


@pytest.mark.parametrize("bits", [1, 2, 32])
def test_without_them_the_rows_of_the_others_stay_to_the_bit(run, photos, new, tmp_path, bits):
    belt = tmp_path / "belt.qpt"
    adapt(photos, backbone=TINY_FOLDER, holdout=0, bits=bits).save(belt)
    before = read_prompt_file(belt)
    forget("tunings")
    result = run("update", belt, "--images", new, "--json")
    assert result.code == 0, result.err
    after = read_prompt_file(belt)
    assert result.json["tuned_on"] == "new photos"
    assert result.json["old_classes"] is None
    assert "not known" in result.err
    assert [name.label for name in after.classes] == [*CLASSES, NEW]
    assert after.photos == (6, 6, 6, 6)
    assert after.groups[0].codebook == before.groups[0].codebook
    assert np.array_equal(after.groups[0].values()[:3], before.groups[0].values())
    assert np.array_equal(after.groups[1].values()[:3], before.groups[1].values())
    assert after.groups[0].values()[3].any()
    if bits < 32:
        assert {label: row for label, row in rows(after).items() if label != NEW} == rows(before)
    answers = run("predict", new, "--prompt", belt, "--json", "--backbone", TINY_FOLDER)
    assert answers.out.count(NEW) >= 5


def test_features_that_are_gone_are_not_needed(run, belt, new):
    forget("features")
    assert run("update", belt, "--images", new, "--json").json["tuned_on"] == "new photos"
    record = read_record(read_prompt_file(belt))
    assert record is not None
    assert len(record.keys) == 24  # so that with their features all can be tuned anew


@pytest.mark.parametrize("known", [True, False])
def test_equal_photos_give_equal_bytes_under_any_name_and_as_often_as_they_come(
    run, belt, new, tmp_path, known
):
    if not known:
        forget("tunings")
    other = tmp_path / "other"
    for number, photo in enumerate(sorted((new / NEW).iterdir(), reverse=True)):
        (other / NEW / "deeper").mkdir(parents=True, exist_ok=True)
        shutil.copy(photo, other / NEW / f"{number} renamed.png")
        shutil.copy(photo, other / NEW / "deeper" / photo.name)
    for name, folder in (("a.qpt", new), ("b.qpt", other), ("c.qpt", new)):
        result = run("update", belt, "--images", folder, "--out", tmp_path / name, "--json")
        assert result.code == 0, result.err
        assert result.json["images"]["repeated"] == (6 if folder == other else 0)
    first, *others = ((tmp_path / f"{name}.qpt").read_bytes() for name in "abc")
    assert others == [first, first]


def test_the_scores_of_none_of_these_take_new_photos_in_and_the_scale_stays(photos, new):
    photos = write_photos(photos, count=8)
    prompt = adapt(photos, backbone=TINY_FOLDER, holdout=0, accept=0.9).prompt
    forget("tunings")
    updated = update(prompt, new, backbone=TINY_FOLDER)
    assert updated.calibration == "joined"
    before, after = prompt.calibration, updated.prompt.calibration
    assert (after.logit_scale, after.accept) == (before.logit_scale, 0.9)
    assert after.accept_scores != before.accept_scores


# ---------------------------------------------------------------------- more photos


def test_more_photos_of_a_class_change_its_row_alone(run, belt, tmp_path):
    before = read_prompt_file(belt)
    forget("tunings")
    more = tmp_path / "more"
    for number in range(3):
        write_photo(more / CLASSES[1] / f"{number}.png", (40, 200, 60), 900 + number)
    result = run("update", belt, "--images", more, "--json")
    assert result.code == 0, result.err
    assert (result.json["added"], result.json["more_photos"]) == ([], [CLASSES[1]])
    after = read_prompt_file(belt)
    assert after.photos == (6, 9, 6)
    changed = {label for label, row in rows(after).items() if row != rows(before)[label]}
    assert changed == {CLASSES[1]}
    moved = np.linalg.norm(after.groups[0].values()[1] - before.groups[0].values()[1])
    assert 0 < moved < np.linalg.norm(before.groups[0].values()[1])


def test_photos_that_were_tuned_on_before_count_once(run, belt, photos, new):
    before = belt.read_bytes()
    result = run("update", belt, "--images", photos, "--json")
    assert result.code == 0
    assert result.json["images"] | {"skipped": 0} == {
        "new": 0, "repeated": 18, "train": 18, "skipped": 0, "in_several_classes": [],
    }  # fmt: skip
    assert "nothing new" in result.err
    assert belt.read_bytes() == before
    shutil.copy(photos / CLASSES[0] / "00.png", new / NEW / "known.png")
    report = run("update", belt, "--images", new, "--json").json
    assert report["images"]["new"] == 6
    assert f"tuned on before as {CLASSES[0]}" in report["images"]["skipped"][0]["reason"]


def test_a_new_class_needs_a_photo_of_its_own(run, belt, photos, new, tmp_path):
    (new / "odd").mkdir()
    shutil.copy(photos / CLASSES[0] / "00.png", new / "odd" / "a.png")
    words = ("class odd has no photo of its own", f"tuned on before as {CLASSES[0]}")
    assert_refused(run("update", belt, "--images", new, "--json"), *words)
    (photos / CLASSES[0] / "00.png").rename(new / "odd" / "a.png")
    assert run("update", belt, "--images", new, "--remove", CLASSES[0]).code == 0


def test_views_are_tuned_on_again(run, photos, new, tmp_path):
    belt = tmp_path / "belt.qpt"
    adapt(photos, backbone=TINY_FOLDER, holdout=0, views=1, bits=2).save(belt)
    result = run("update", belt, "--images", new, "--json")
    assert (result.json["tuned_on"], result.json["bits"]) == ("all photos", 2)


def test_updates_of_updates_remember_all_photos(run, belt, new, tmp_path):
    run("update", belt, "--images", new)
    write_photo(tmp_path / "more" / CLASSES[0] / "x.png", (40, 80, 220), 77)
    report = run("update", belt, "--images", tmp_path / "more", "--json").json
    assert (report["tuned_on"], report["images"]["train"]) == ("all photos", 25)
    run("update", belt, "--remove", CLASSES[2])
    write_photo(tmp_path / "last" / NEW / "y.png", YELLOW, 78)
    report = run("update", belt, "--images", tmp_path / "last", "--json").json
    assert (report["tuned_on"], report["images"]["train"]) == ("all photos", 20)


# ---------------------------------------------------------------------- a class less


def test_a_class_that_came_goes_without_a_trace(run, belt, new):
    before = belt.read_bytes()
    forget("tunings")
    assert run("update", belt, "--images", new).code == 0
    result = run("update", belt, "--remove", NEW, "--json")
    assert result.code == 0, result.err
    assert (result.json["removed"], result.json["tuned_on"], result.json["provider"]) == ([NEW], None, None)
    assert belt.read_bytes() == before


def test_one_class_goes_and_another_comes(run, belt, new):
    result = run("update", belt, "--images", new, "--remove", CLASSES[0], "--remove", CLASSES[0], "--json")
    assert result.code == 0, result.err
    assert result.json["classes"] == [*CLASSES[1:], NEW]
    assert result.json["images"]["train"] == 18


def test_two_classes_stay(run, belt):
    before = belt.read_bytes()
    arguments = [word for label in CLASSES[:2] for word in ("--remove", label)]
    assert_refused(run("update", belt, *arguments, "--json"), "1 of 3 classes", "at least 2")
    assert belt.read_bytes() == before


# ---------------------------------------------------------------------- the file


def test_a_link_stays_a_link_and_out_leaves_the_prompt_alone(run, belt, tmp_path):
    before = belt.read_bytes()
    link = tmp_path / "link.qpt"
    link.symlink_to(belt)
    assert run("update", belt, "--remove", CLASSES[0], "--out", tmp_path / "out.qpt").code == 0
    assert belt.read_bytes() == before
    assert run("update", link, "--remove", CLASSES[0]).code == 0
    assert link.is_symlink()
    assert belt.read_bytes() == (tmp_path / "out.qpt").read_bytes() != before


def test_another_tasks_file_is_not_replaced(run, belt, tmp_path):
    out = tmp_path / "notes.txt"
    out.write_text("mine")
    assert_refused(run("update", belt, "--remove", CLASSES[0], "--out", out, "--json"), "--force")
    assert out.read_text() == "mine"
    assert run("update", belt, "--remove", CLASSES[0], "--out", out, "--force").code == 0
    assert len(read_prompt_file(out).classes) == 2


def test_an_interrupt_leaves_the_old_file(run, belt, new, monkeypatch):
    def interrupted(*_arguments: object, **_named: object) -> None:
        raise KeyboardInterrupt

    before = belt.read_bytes()
    monkeypatch.setattr(retuning, "tune", interrupted)
    assert run("update", belt, "--images", new).code == 130
    assert belt.read_bytes() == before
    assert not [path for path in belt.parent.iterdir() if path.suffix == ".part"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written(run, belt):
    belt.parent.chmod(0o500)
    try:
        assert_refused(run("update", belt, "--remove", CLASSES[0], "--json"), "cannot write")
    finally:
        belt.parent.chmod(0o700)


# ---------------------------------------------------------------------- what is refused


def test_methods_whose_classes_share_what_was_learned(run, photos, new, tmp_path):
    belt = tmp_path / "belt.qpt"
    adapt(photos, backbone=TINY_FOLDER, method="qcoop", epochs=1).save(belt)
    for arguments in (("--images", new), ("--remove", CLASSES[0])):
        assert_refused(run("update", belt, *arguments, "--json"), "qcoop", "adapt again")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--remove", "moon"), ("no class moon", "blue sky, green grass, red brick")),
        (("--remove", NEW, "--images", "new"), (f"no class {NEW}",)),
        (("--remove", CLASSES[0], "--images", "photos"), (CLASSES[0], "choose one")),
        (("--images", "nowhere"), ("no such folder",)),
        (("--images", "same"), ("'blue sky' and 'blue_sky' are the same words",)),
        (("--images", "new", "--class-names", "names.csv"), ("was tuned with the words", "--class-names")),
        (("--images", "broken"), ("no readable image",)),
        (("--images", "new", "--max-memory", 20), ("--max-memory",)),
    ],
)
def test_what_cannot_be_done_is_said(run, belt, photos, new, tmp_path, monkeypatch, arguments, words):
    assert photos.is_dir()
    shutil.copytree(new / NEW, tmp_path / "same" / "blue_sky")
    (tmp_path / "broken" / "bad").mkdir(parents=True)
    (tmp_path / "broken" / "bad" / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (tmp_path / "names.csv").write_text(f"label,text\n{NEW},sun\n{CLASSES[0]},heaven\n")
    monkeypatch.chdir(tmp_path)
    before = belt.read_bytes()
    assert_refused(run("update", belt, *arguments, "--json"), *words)
    assert belt.read_bytes() == before


def test_usage(run, belt, tmp_path):
    assert run("update", belt).code == 2
    assert run("update", belt, "--remove", CLASSES[0], "--labels", tmp_path / "x.csv").code == 2
    assert_refused(run("update", tmp_path / "none.qpt", "--remove", "x", "--json"), "none.qpt")
    with pytest.raises(ValueError, match="nothing to do"):
        update(belt)


def test_another_backbone(run, belt, new):
    write_prompt_file(belt, replace(read_prompt_file(belt), fingerprint=bytes(16)))
    assert_refused(run("update", belt, "--images", new, "--json"), "tuned for backbone")


def test_words_for_a_new_class(run, belt, new, tmp_path):
    names = tmp_path / "names.csv"
    names.write_text(f"label,text\n{NEW},bright star\n{CLASSES[0]},blue sky\n")
    assert run("update", belt, "--images", new, "--class-names", names).code == 0
    assert read_prompt_file(belt).classes[-1].text == "bright star"


# ---------------------------------------------------------------------- from Python


def test_the_function_and_the_command_have_the_same_options_and_defaults():
    function, command = (inspect.signature(one).parameters for one in (update, command_module.command))
    own = {
        "images",
        "out",
        "force",
        "as_json",
        "trust",
        "key",
        "task",
    }  # where the command reads, writes and signs
    assert set(function) - {"reporter", "photos"} == set(command) - own
    for name in set(function) - {"prompt", "photos", "reporter", "remove"}:
        assert function[name].default == command[name].default, name


def test_a_prompt_in_memory_and_its_summary(belt, new):
    result = update(read_prompt_file(belt), new, backbone=TINY_FOLDER)
    assert f"added {NEW} (6 photos)" in repr(result)
    assert "right, judged without having seen them" in result.summary()
    result.save(belt)
    assert read_prompt_file(belt) == result.prompt
