"""Two classes that are the same words to the backbone are refused.

The message has both names, wherever the names come from.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from command_line import Result, assert_refused
from conftest import TINY_FOLDER
from dataset_layouts import write_set
from prompts import TINY
from scenes import write_photos
from small_experiments import experiment
from torch_files import checkpoint, coop_arrays

from qprompt_edge.reproduction.sets import find_sets
from qprompt_runtime.backbone import Backbone
from qprompt_runtime.bundle import find_bundle, read_manifest
from qprompt_runtime.classifier import PromptClassifier
from qprompt_runtime.errors import TextError
from qprompt_runtime.prompt_file import ClassName, PromptFile, write_prompt_file
from qprompt_runtime.prompt_group import PromptGroup
from qprompt_runtime.tokenizer import check_names

Run = Callable[..., Result]
PAIRS = [
    ("red apple", "red_apple"),
    ("red-apple", "red_apple"),
    ("Bolt", "bolt"),
    ("a  b", "a_b"),
    ("A&amp;B", "a&b"),
    ("_bolt", "bolt"),
    ("ﬁg", "fig"),
]
SAME = "are the same words to the backbone"


def names(*labels: str) -> list[tuple[str, str]]:
    return [(name.label, name.text) for name in map(ClassName.from_label, labels)]


@pytest.mark.parametrize("pair", PAIRS)
def test_what_the_tokenizer_makes_of_names_is_compared(tiny: Backbone, pair: tuple[str, str]) -> None:
    with pytest.raises(TextError, match=SAME) as error:
        check_names(names("nut", *pair), tiny.tokenizer.encode, shared=True)
    assert all(repr(label) in str(error.value) for label in pair)
    check_names(names("nut", *pair), tiny.tokenizer.encode, shared=False)
    check_names(
        names("nut", "red apple", "redapple", "bolts", "bolt", "b a", "a b"),
        tiny.tokenizer.encode,
        shared=True,
    )


@pytest.mark.parametrize("label", ["_", "--", " ", "_ -"])
@pytest.mark.parametrize("shared", [True, False])
def test_a_name_without_words_is_named_as_it_is_written(tiny: Backbone, label: str, shared: bool) -> None:
    with pytest.raises(TextError, match="has no words in it") as error:
        check_names(names("nut", label), tiny.tokenizer.encode, shared=shared)
    assert str(error.value).startswith(
        f"the class {label!r} has no words in it (its text is {' ' * len(label)!r})"
    )


@pytest.mark.parametrize("pair", [("red apple", "red_apple"), ("Bolt", "bolt")])
def test_adapt_refuses_folders(run: Run, tmp_path: Path, pair: tuple[str, str]) -> None:
    out = tmp_path / "made.qpt"
    photos = write_photos(tmp_path / "photos", ("nut", *pair), count=2)
    options = ("-o", out, "--epochs", 1, "--json")
    assert_refused(run("adapt", photos, *options), f"the classes {pair[0]!r} and {pair[1]!r} {SAME}")
    assert not out.exists()
    (tmp_path / "names.csv").write_text(f"label,text\n{pair[1]},another thing\n")
    assert run("adapt", photos, *options, "--class-names", tmp_path / "names.csv").code == 0
    (tmp_path / "names.csv").write_text(f"label,text\nnut,{pair[0].upper()}\n{pair[1]},another thing\n")
    refused = run("adapt", photos, *options, "--class-names", tmp_path / "names.csv")
    assert_refused(refused, repr(pair[0]), "'nut'", SAME)
    for method in (("--contexts", "per-class"), ("--method", "qmaple")):
        result = run("adapt", photos, *options, *method, "--force")
        if "per-class" in method:
            assert result.code == 0, result.err
        else:
            assert_refused(result, SAME)


def test_adapt_refuses_a_list_and_a_name_without_words(run: Run, tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", ("a", "b"), count=2)
    labels = tmp_path / "labels.csv"
    labels.write_text("path,label\na/00.png,nut\na/01.png,Nut\nb/00.png,bolt\n")
    options = ("-o", tmp_path / "made.qpt", "--json")
    assert_refused(run("adapt", photos, "--labels", labels, *options), f"the classes 'Nut' and 'nut' {SAME}")
    (photos / "a").rename(photos / "_")
    assert_refused(
        run("adapt", photos, *options), "the class '_' has no words in it (its text is ' '); rename it"
    )


@pytest.fixture
def same_words(tmp_path: Path, tiny: Backbone) -> Path:
    """A prompt for tiny whose classes are the same words, as earlier versions wrote it."""
    context = np.zeros((2, tiny.manifest.text.width), np.float32)
    group = PromptGroup.plain("text-context", context)
    classes = tuple(map(ClassName.from_label, ("red brick", "Red-Brick", "blue sky")))
    prompt = PromptFile(
        "qcoop", (group,), classes, TINY.template, tiny.manifest.name, tiny.fingerprint, TINY.calibration
    )
    path = tmp_path / "same.qpt"
    write_prompt_file(path, prompt)
    return path


def test_predict_and_eval_refuse_a_prompt(run: Run, same_words: Path, photos: Path) -> None:
    options = ("--prompt", same_words, "--backbone", TINY_FOLDER, "--json")
    photo = photos / "blue sky" / "00.png"
    refusal = f"the classes 'red brick' and 'Red-Brick' {SAME}, 'red brick'"
    (photos / "green grass").rename(photos / "Red-Brick")
    for command in (("predict", photo), ("eval", "--images", photos)):
        assert_refused(run(*command, *options), refusal)
    assert_refused(run("predict", photo, *options, "--classes", "Bolt,nut,bolt"), f"'Bolt' and 'bolt' {SAME}")
    assert_refused(run("predict", photo, *options, "--classes", "_,bolt"), "the class '_' has no words")
    assert run("predict", photo, *options, "--classes", "nut,bolt").code == 0


def test_the_classifier_refuses_a_name_twice(same_words: Path) -> None:
    with pytest.raises(TextError, match=SAME):
        _ = PromptClassifier.load(same_words, TINY_FOLDER, classes=["a", "b", "a"]).class_features


def test_reproduce_refuses_a_folder_but_no_published_set(tmp_path: Path) -> None:
    running = experiment(write_photos(tmp_path / "own", ("nut", "red apple", "red_apple", "sand"), count=4))
    with pytest.raises(TextError, match=f"'red apple' and 'red_apple' {SAME}"):
        running.run(tmp_path / "out")
    write_set(tmp_path, "imagenet")
    chosen = find_sets(["imagenet"], tmp_path)["imagenet"]
    texts = [name.text for name in chosen.classes]
    assert (chosen.published, len(set(texts)) < len(texts)) == (True, True)


def test_convert_refuses_names_that_share_a_context(run: Run, tmp_path: Path) -> None:
    width = read_manifest(find_bundle("small")).text.width
    shared, own, made = (tmp_path / name for name in ("shared.pth", "own.pth", "made.qpt"))
    shared.write_bytes(checkpoint(coop_arrays((4, width))))
    own.write_bytes(checkpoint(coop_arrays((2, 4, width))))
    options = ("--backbone", "small", "--classes", "Bolt,bolt", "--out", made, "--json")
    assert_refused(run("convert", shared, *options), f"'Bolt' and 'bolt' {SAME}")
    assert run("convert", own, *options).code == 0
    made.unlink()
    assert run("convert", shared, *options, "--classes", "nut,bolt").code == 0
    again = ("--classes", "Bolt,bolt", "--out", tmp_path / "again.qpt", "--json")
    assert_refused(run("convert", made, *again), f"'Bolt' and 'bolt' {SAME}")


def test_names_that_differ_need_no_tokenizer() -> None:
    def encode(_text: str) -> list[int]:
        raise AssertionError("not needed")

    check_names(names("nut", "bolt", "red apple", "red_brick"), encode, shared=True)
