"""Residuals and "none of these" where they are used.

With names that were tuned, names that were not, and photos of neither.
"""

import csv
import io
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY_FOLDER
from scenes import write_photos

from qprompt_edge import PromptClassifier, adapt
from qprompt_edge.cli.parameters import LEAST_ACCEPT, MOST_ACCEPT
from qprompt_edge.reporter import Reporter
from qprompt_runtime import backbone as backbone_module
from qprompt_runtime import image_tower
from qprompt_runtime.backbone import Backbone
from qprompt_runtime.bundle import file_record
from qprompt_runtime.errors import BundleError, PromptFileError
from qprompt_runtime.none_of_these import common_nouns, known_scores, noun_features, noun_file
from qprompt_runtime.prompt_features import class_offsets, class_rows, prompt_features
from qprompt_runtime.prompt_file import ACCEPT_SHARES, Calibration, ClassName, PromptFile, write_prompt_file
from qprompt_runtime.text_features import text_features


@pytest.fixture(scope="module")
def prompt(tmp_path_factory: pytest.TempPathFactory) -> PromptFile:
    photos = write_photos(tmp_path_factory.mktemp("training") / "photos", count=12)
    return adapt(photos, backbone=TINY_FOLDER, holdout=0, threads=1).prompt


@pytest.fixture
def file(prompt: PromptFile, tmp_path: Path) -> Path:
    """Every photo scores between the first and the last of these, so that --accept alone decides."""
    calibration = Calibration(prompt.calibration.logit_scale, (8.0, 4.0, 2.0, -4.0, -8.0))
    write_prompt_file(tmp_path / "p.qpt", replace(prompt, calibration=calibration))
    return tmp_path / "p.qpt"


def test_the_scores_are_known_from_the_photos_that_were_tuned_on(prompt: PromptFile) -> None:
    assert prompt.method == "qtaskres"
    assert prompt.photos == (12, 12, 12)
    scores = prompt.calibration.accept_scores
    assert len(scores) == 5
    assert list(scores) == sorted(scores, reverse=True)
    assert prompt.calibration.accept is None


def test_the_level_beside_other_names_is_set(prompt: PromptFile) -> None:
    """Learned offsets have the mean 0 (`levels`)."""
    assert abs(prompt.groups[1].values().mean()) > 0.005


def test_what_was_tuned_keeps_its_residual_under_any_list_of_names(
    prompt: PromptFile, tiny: Backbone
) -> None:
    own, other = prompt.classes[1], ClassName.from_label("fire engine")
    features = prompt_features(prompt, tiny, [other, own])
    by_words = text_features(tiny, [other, own], prompt.template)
    assert np.array_equal(features[0], by_words[0])
    raw = by_words[1] + prompt.groups[0].values()[1]
    assert features[1] == pytest.approx(raw / np.linalg.norm(raw), abs=1e-6)
    assert list(class_offsets(prompt, [other, own])) == [0, prompt.groups[1].values()[1]]
    assert class_rows(prompt, [other, own]) == [(1, 1)]


def test_a_name_is_tuned_if_it_means_the_same_words(prompt: PromptFile) -> None:
    named = replace(prompt, classes=(ClassName("ok", "good weld"), *prompt.classes[1:]))
    assert class_rows(named, [ClassName.from_label("ok"), ClassName.from_label("good_weld")]) == [
        (0, 0),
        (1, 0),
    ]
    assert class_rows(named, [ClassName.from_label("good")]) == []


def test_the_nouns_are_a_thousand_different_words() -> None:
    assert len(set(common_nouns())) == len(common_nouns()) == 1000
    assert all(noun.isalpha() and noun.islower() for noun in common_nouns())


def test_nouns_compete_with_the_classes() -> None:
    """k = 50, a = 0.75: with one class and one noun the energies are the scores themselves."""
    photo, noun = np.array([[1.0, 0.0]], np.float32), np.array([[0.6, 0.8]], np.float32)
    assert known_scores(np.array([[0.5]], np.float32), photo, noun) == pytest.approx([0.5 - 0.75 * 0.6])
    two = known_scores(np.array([[0.5, 0.5]], np.float32), photo, noun)
    assert two == pytest.approx([0.5 + np.log(2) / 50 - 0.75 * 0.6])


def test_the_features_of_nouns_are_kept(tiny: Backbone, tmp_path: Path) -> None:
    none = [ClassName.from_label("gear box")]
    first = noun_features(tiny, none, tmp_path)
    assert len(list(tmp_path.glob("*.npy"))) == 1
    assert np.array_equal(noun_features(tiny, none, tmp_path), first)
    assert len(first) == 1000
    dog = common_nouns().index("dog")
    without = noun_features(tiny, [ClassName("a", "Dog")], tmp_path)
    assert np.array_equal(without, np.delete(first, dog, axis=0))
    assert np.linalg.norm(first, axis=1) == pytest.approx(np.ones(1000), abs=1e-4)


def with_noun_file(folder: Path, features: np.ndarray) -> Backbone:
    """The backbone `tiny` with a file of nouns in its bundle."""
    shutil.copytree(TINY_FOLDER, folder, copy_function=os.link)
    np.save(folder / noun_file(), features)
    raw = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    raw["files"][noun_file()] = vars(file_record(folder / noun_file()))
    (folder / "manifest.json").unlink()  # a link to the checkout's
    (folder / "manifest.json").write_text(json.dumps(raw), encoding="utf-8")
    return Backbone.load(folder)


def test_nouns_of_the_bundle_need_no_text_tower(
    tiny: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    width = tiny.manifest.embed_dim
    stored = np.random.default_rng(0).standard_normal((1000, width)).astype(np.float32)
    backbone = with_noun_file(tmp_path / "bundle", stored)
    monkeypatch.setattr(Backbone, "encode_classes", None)
    assert np.array_equal(noun_features(backbone, [], tmp_path / "cache"), stored)
    assert not (tmp_path / "cache").exists()
    dog = common_nouns().index("dog")
    assert len(noun_features(backbone, [ClassName("a", "Dog")])) == 999
    assert np.array_equal(noun_features(backbone, [ClassName("a", "Dog")]), np.delete(stored, dog, axis=0))


def test_a_file_of_nouns_of_another_shape_is_refused(tiny: Backbone, tmp_path: Path) -> None:
    backbone = with_noun_file(tmp_path / "bundle", np.zeros((3, 3), np.float32))
    with pytest.raises(BundleError, match=r"does not hold float32 features of shape \(1000, "):
        noun_features(backbone, [])
    (backbone.folder / noun_file()).write_bytes(b"no array")
    with pytest.raises(BundleError, match="cannot read the bundle's file"):
        noun_features(backbone, [])


def test_residuals_are_tuned_without_a_model_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither tower is open in a step, under a limit on memory either, and the gradient's graph never is."""
    opened: list[str] = []
    closed: list[Backbone] = []
    real, close = backbone_module.open_session, Backbone.close_text_tower

    def open_session(path: Path, *rest: object, **options: object) -> object:
        opened.append(path.name)
        return real(path, *rest, **options)

    def close_text_tower(self: Backbone) -> None:
        closed.append(self)
        close(self)

    class Watched(Reporter):
        def stage(self, what: str, done: int, total: int) -> None:
            if what == "tuning the prompt":
                assert not {"_text_session", "tokenizer"} & set(vars(closed[-1]))
                assert closed[-1]._image_tower.session is None

    for module in (backbone_module, image_tower):
        monkeypatch.setattr(module, "open_session", open_session)
    monkeypatch.setattr(Backbone, "close_text_tower", close_text_tower)
    photos = write_photos(tmp_path / "photos", count=5)
    adapt(photos, backbone=TINY_FOLDER, epochs=2, threads=1, max_memory=4000, reporter=Watched())
    assert opened.count("text.onnx") == 1
    assert set(opened) == {"image.onnx", "text.onnx"}


def test_the_share_decides(run, file: Path, photos: Path) -> None:
    command = ("predict", photos, "--prompt", file, "--backbone", TINY_FOLDER)
    loose = run(*command, "--accept", 0.99, "--json")
    assert {row["none_of_these"] for row in loose.rows} == {False}
    strict = run(*command, "--accept", 0.8, "--json")
    assert {row["none_of_these"] for row in strict.rows} == {True}
    assert strict.rows[0]["predictions"] == loose.rows[0]["predictions"]
    off = run(*command, "--json")
    assert "none_of_these" not in off.rows[0]
    assert run(*command, "--accept", 0.8).out.splitlines()[0].split("\t")[1:] == ["none of these"]
    rows = list(csv.DictReader(io.StringIO(run(*command, "--accept", 0.8, "--csv").out)))
    assert {row["none_of_these"] for row in rows} == {"true"}
    assert set(rows[0]) == {"image", "label", "probability", "none_of_these"}


def test_a_prompt_may_say_so_itself(prompt: PromptFile, run, photos: Path, tmp_path: Path) -> None:
    calibration = Calibration(20.0, (8.0, 4.0, 2.0, -4.0, -8.0), 0.8)
    write_prompt_file(tmp_path / "p.qpt", replace(prompt, calibration=calibration))
    command = ("predict", photos, "--prompt", tmp_path / "p.qpt", "--backbone", TINY_FOLDER, "--json")
    assert {row["none_of_these"] for row in run(*command).rows} == {True}
    assert {row["none_of_these"] for row in run(*command, "--accept", 0.99).rows} == {False}
    assert "none_of_these" not in run(*command, "--classes", "car,plane").rows[0]


def test_eval_counts_what_was_refused(run, file: Path, photos: Path) -> None:
    command = ("eval", "--images", photos, "--prompt", file, "--backbone", TINY_FOLDER, "--json")
    assert run(*command).json["none_of_these"] is None
    page = photos.parent / "report.html"
    strict = run(*command, "--accept", 0.8, "--report", page)
    assert strict.json["none_of_these"] == {"accepted": 0.0, "top1_of_accepted": None}
    assert "<p>None of these: 18 of 18 photos.</p>" in page.read_text()
    found = run(*command, "--accept", 0.99, "--report", page)
    assert "Of the others, " in page.read_text()
    assert found.json["none_of_these"] == {"accepted": 1.0, "top1_of_accepted": found.json["top1"]}
    assert "none of these: 0 photos of 18" in found.err


def test_adapt_writes_the_share_into_the_file(run, photos: Path, tmp_path: Path) -> None:
    many = write_photos(tmp_path / "many", count=10)
    made = run(
        "adapt", many, "--backbone", TINY_FOLDER, "--out", tmp_path / "a.qpt", "--accept", 0.9, "--json"
    )
    assert made.code == 0, made.err
    assert run("inspect", tmp_path / "a.qpt", "--json").json["calibration"]["accept"] == 0.9
    refused = run(
        "adapt",
        many,
        "--backbone",
        TINY_FOLDER,
        "--out",
        tmp_path / "b.qpt",
        "--accept",
        0.9,
        "--method",
        "qcoop",
    )
    assert (refused.code, (tmp_path / "b.qpt").exists()) == (2, False)
    assert "--accept is for --method qtaskres" in refused.err


def test_names_that_were_not_tuned_have_no_promise(run, file: Path, photos: Path) -> None:
    result = run(
        "predict",
        photos,
        "--prompt",
        file,
        "--backbone",
        TINY_FOLDER,
        "--accept",
        0.9,
        "--classes",
        "car,plane",
    )
    assert result.code == 1
    assert "'none of these' was calibrated for the classes that were tuned" in result.err


def test_a_prompt_without_scores_says_what_to_do(prompt: PromptFile, tiny: Backbone) -> None:
    bare = replace(prompt, calibration=Calibration(20.0))
    with pytest.raises(PromptFileError, match="the prompt file has no scores for 'none of these'"):
        PromptClassifier(bare, tiny, accept=0.9)


def test_a_share_out_of_range_is_refused(
    prompt: PromptFile, tiny: Backbone, run, photos: Path, file: Path
) -> None:
    with pytest.raises(ValueError, match=r"expected a share from 0\.8 to 0\.99"):
        PromptClassifier(prompt, tiny, accept=0.5)
    assert run("predict", photos, "--prompt", file, "--accept", 0.5).code == 2


def test_the_options_take_what_the_file_knows() -> None:
    assert (ACCEPT_SHARES[0], ACCEPT_SHARES[-1]) == (LEAST_ACCEPT, MOST_ACCEPT)
