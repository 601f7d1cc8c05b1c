"""Class features that are kept from run to run: the same answers, without the text tower."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY_FOLDER
from prompts import TINY

import qprompt_runtime.backbone as backbone_module
from qprompt_edge.adaptation.adapt import adapt
from qprompt_edge.tuning.ptq import make_group
from qprompt_runtime.backbone import Backbone
from qprompt_runtime.classifier import PromptClassifier
from qprompt_runtime.errors import PromptFileError
from qprompt_runtime.prompt_file import ClassName, PromptFile
from qprompt_runtime.text_features import kept_text_features, text_features

NAMES = tuple(map(ClassName.from_label, ("dog", "red_panda")))


@pytest.fixture
def prompt(tiny: Backbone) -> PromptFile:
    context = tiny.embed_text("a photo of a")
    return replace(TINY, groups=(make_group("text-context", context, 32),), fingerprint=tiny.fingerprint)


@pytest.fixture
def no_text_tower(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object) -> None:
        raise AssertionError("the text tower was asked")

    monkeypatch.setattr(Backbone, "encode_classes", refuse)


def features(prompt: PromptFile, cache: Path, classes: list[str] | None = None) -> np.ndarray:
    return PromptClassifier(prompt, Backbone(TINY_FOLDER, threads=1), classes, cache).class_features


def test_the_second_time_needs_no_text_tower(
    prompt: PromptFile, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    first = features(prompt, tmp_path / "kept")
    request.getfixturevalue("no_text_tower")
    np.testing.assert_array_equal(features(prompt, tmp_path / "kept"), first)


def test_other_names_and_other_prompts_have_features_of_their_own(
    prompt: PromptFile, tiny: Backbone, tmp_path: Path
) -> None:
    moved = replace(prompt, groups=(make_group("text-context", tiny.embed_text("a drawing of the"), 32),))
    cases = [(prompt, None), (prompt, ["dog", "horse"]), (moved, None)]
    kept = [features(wanted, tmp_path, names) for wanted, names in cases]
    assert len(list(tmp_path.iterdir())) == len(cases)
    for (wanted, names), found in zip(cases, kept, strict=True):
        np.testing.assert_allclose(found, PromptClassifier(wanted, tiny, names).class_features, atol=1e-6)


def test_what_is_refused_is_refused_from_the_cache_too(
    prompt: PromptFile, tiny: Backbone, tmp_path: Path
) -> None:
    """A context for each class works with its own classes only.

    This holds even where other labels have the same texts.
    """
    context = np.repeat(tiny.embed_text("a photo of a")[None], len(prompt.classes), axis=0)
    split = replace(prompt, groups=(make_group("text-context", context, 32),))
    features(split, tmp_path)
    with pytest.raises(PromptFileError, match="its own classes only"):
        features(split, tmp_path, [name.text for name in split.classes])


@pytest.mark.parametrize("damage", [b"", b"no array", None])
def test_a_damaged_file_is_written_anew(prompt: PromptFile, tmp_path: Path, damage: bytes | None) -> None:
    first = features(prompt, tmp_path)
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    if damage is None:
        np.save(file, first[:, :5])
    else:
        file.write_bytes(damage)
    np.testing.assert_array_equal(features(prompt, tmp_path), first)
    assert file.read_bytes() == whole


def test_where_nothing_can_be_kept_the_answer_is_the_same(prompt: PromptFile, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    np.testing.assert_array_equal(features(prompt, tmp_path / "file" / "kept"), features(prompt, tmp_path))


def test_predict_keeps_them_in_the_cache(
    run, photos: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    out = tmp_path / "made.qpt"
    assert run("adapt", "--images", photos, "--out", out, "--epochs", 1).code == 0
    first = run("predict", photos, "--prompt", out, "--json")
    request.getfixturevalue("no_text_tower")
    assert run("predict", photos, "--prompt", out, "--json").out == first.out


def test_text_features_are_kept_for_their_words_and_template(
    tiny: Backbone, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    template = ("a photo of a ", ".")
    cases = [(NAMES, template), (NAMES, ("a drawing of a ", ".")), (NAMES[:1], template)]
    first = [kept_text_features(tiny, *case, tmp_path / "kept") for case in cases]
    for case, found in zip(cases, first, strict=True):
        np.testing.assert_array_equal(found, text_features(tiny, *case))
    request.getfixturevalue("no_text_tower")
    for case, found in zip(cases, first, strict=True):
        np.testing.assert_array_equal(kept_text_features(tiny, *case, tmp_path / "kept"), found)
    with pytest.raises(AssertionError, match="was asked"):
        kept_text_features(tiny, NAMES, template, None)


def test_adapt_with_other_options_opens_no_model(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Features of photos, class names and nouns are known; so a prompt of the same classes needs none."""

    def refuse(*_arguments: object, **_options: object) -> None:
        raise AssertionError("a model or its tokenizer was opened")

    monkeypatch.setenv("QPE_CACHE", str(tmp_path / "cache"))
    adapt(photos, backbone=TINY_FOLDER, epochs=2)
    for name in ("open_session", "Tokenizer"):
        monkeypatch.setattr(backbone_module, name, refuse)
    tuned = adapt(photos, backbone=TINY_FOLDER, epochs=3, bits=2, holdout=0.4, seed=7)
    assert tuned.steps == 3
    classifier = PromptClassifier(tuned.prompt, Backbone(TINY_FOLDER), cache=tmp_path / "cache" / "classes")
    assert len(classifier.class_features) == len(tuned.prompt.classes)
