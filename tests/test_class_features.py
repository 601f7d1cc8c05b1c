"""Class features that are kept from run to run: the same answers, without the text tower."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY_FOLDER
from prompts import TINY

from qprompt_edge.tuning.ptq import make_group
from qprompt_runtime.backbone import Backbone
from qprompt_runtime.classifier import PromptClassifier
from qprompt_runtime.errors import PromptFileError
from qprompt_runtime.prompt_file import PromptFile


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
