"""The loop of `watch`: many prompts for one image pass, regions, states, and prompts that are exchanged."""

import os
import re
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import TINY_FOLDER
from prompts import TINY
from watching import (
    ACCEPT_ALL,
    BLUE,
    COLOURS,
    GREEN,
    RED,
    Remembered,
    frames,
    halves,
    made_prompt,
    picture,
    write_prompt,
)

from qprompt_edge.watching import prompt_files
from qprompt_edge.watching import prompts as prompts_module
from qprompt_edge.watching.answers import NONE_OF_THESE, WHOLE
from qprompt_edge.watching.loop import Rules, Watch
from qprompt_edge.watching.prompt_files import look_of
from qprompt_edge.watching.prompts import Prompts
from qprompt_edge.watching.regions import Region
from qprompt_runtime.backbone import Backbone
from qprompt_runtime.classifier import PromptClassifier
from qprompt_runtime.deep_backbone import DeepBackbone
from qprompt_runtime.errors import (
    BackboneMismatchError,
    BundleError,
    ImageError,
    PromptFileError,
    QPromptError,
)
from qprompt_runtime.prompt_file import PromptGroup, read_prompt_file

LEFT, RIGHT = Region("left", 0, 0, 50, 100), Region("right", 50, 0, 50, 100)


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    """One of its own: other tests must not find its towers closed."""
    return Backbone.load(TINY_FOLDER, threads=1)


@pytest.fixture
def file(backbone: Backbone, tmp_path: Path) -> Path:
    return write_prompt(tmp_path / "walls.qpt", backbone)


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many pictures each image pass had."""
    counts: list[int] = []
    encode = Prompts.encode

    def counting(self: Prompts, pixels: np.ndarray) -> np.ndarray:
        counts.append(len(pixels))
        return encode(self, pixels)

    monkeypatch.setattr(Prompts, "encode", counting)
    return counts


def watched(prompts: Prompts, *pictures: object, rules: Rules | None = None, **named: object) -> Remembered:
    """What is told about these pictures."""
    told = Remembered()
    watch = Watch(prompts, rules or Rules(), [told], "camera", lambda _line: None, **named)  # type: ignore[arg-type]
    watch.run(frames(*pictures), lambda: True)
    return told


def labels(told: Remembered) -> list[str]:
    return [answer.label for answer in told.answers]


# ---------------------------------------------------------------------- answers


def test_many_prompts_answer_as_each_would_alone(backbone: Backbone, tmp_path: Path, passes: list[int]):
    classes = [COLOURS, ("dog", "cat"), ("a", "b", "c", "d", "e", "f", "g")]
    files = [
        write_prompt(tmp_path / f"{number}.qpt", backbone, names, ACCEPT_ALL if number else None)
        for number, names in enumerate(classes)
    ]
    rng = np.random.default_rng(1)
    pictures = [rng.integers(0, 256, (48, 64, 3), np.uint8) for _ in range(2)]
    told = watched(Prompts(files, backbone), *pictures)
    assert passes == [1, 1]
    assert [answer.prompt for answer in told.answers] == ["0", "1", "2"] * 2
    for place, shown in enumerate(pictures):
        for number, path in enumerate(files):
            alone = PromptClassifier(read_prompt_file(path), backbone).predict(shown, top_k=5)
            answer = told.answers[3 * place + number]
            assert tuple(label for label, _ in answer.predictions) == alone.labels
            assert [value for _, value in answer.predictions] == pytest.approx(alone.probabilities, rel=1e-4)
            assert answer.none_of_these is None


@pytest.mark.parametrize(("accept", "none"), [(0.8, True), (0.99, False)])
def test_none_of_these_is_told_as_predict_tells_it(
    backbone: Backbone, tmp_path: Path, accept: float, none: bool
):
    files = [
        write_prompt(tmp_path / f"{name}.qpt", backbone, names, ACCEPT_ALL)
        for name, names in (("a", COLOURS), ("b", ("dog", "tree")))  # which are nouns too
    ]
    told = watched(Prompts(files, backbone, accept), picture(RED))
    assert [answer.none_of_these for answer in told.answers] == [none, none]
    assert [answer.state for answer in told.answers] == (
        [NONE_OF_THESE] * 2 if none else [answer.label for answer in told.answers]
    )
    classifier = PromptClassifier(read_prompt_file(files[1]), backbone, accept=accept)
    features = backbone.encode_images(np.zeros((1, 3, *backbone.manifest.image_transform.size), np.float32))
    verdict = Prompts(files, backbone, accept).heads.judge(features)[0][1]
    assert verdict.none_of_these is bool(classifier.none_of_these(features)[0])


def test_a_prompt_that_cannot_tell_refuses_accept(backbone: Backbone, file: Path):
    with pytest.raises(PromptFileError, match=rf"^{file}: the prompt file has no scores for 'none of these'"):
        Prompts([file], backbone, 0.95)


def test_each_region_has_its_answer_and_all_share_one_pass(backbone: Backbone, file: Path, passes: list[int]):
    rules = Rules(regions=(LEFT, RIGHT))
    told = watched(Prompts([file], backbone), halves(RED, BLUE), halves(BLUE, GREEN), rules=rules)
    assert passes == [2, 2]
    assert [(answer.region, answer.label) for answer in told.answers] == [
        ("left", "red wall"), ("right", "blue wall"), ("left", "blue wall"), ("right", "green wall"),
    ]  # fmt: skip
    assert told.announced == [({"walls": COLOURS}, ("left", "right"), "camera")]


def test_an_answer_is_all_that_a_line_of_json_says(backbone: Backbone, file: Path):
    (answer,) = watched(Prompts([file], backbone), picture(RED)).answers
    said = answer.as_dict()
    assert list(said) == [
        "time", "source", "region", "prompt", "label", "probability", "none_of_these", "state", "changed", "predictions",
    ]  # fmt: skip
    assert (said["time"], said["source"], said["region"]) == ("1970-01-01T00:00:00.000Z", "camera", WHOLE)
    assert (said["prompt"], said["label"], said["state"]) == ("walls", "red wall", "red wall")
    assert said["predictions"][0] == {"label": said["label"], "probability": said["probability"]}
    assert sum(entry["probability"] for entry in said["predictions"]) == pytest.approx(1)


def test_a_frame_that_cannot_be_read_is_told_and_the_loop_goes_on(backbone: Backbone, file: Path):
    told = watched(Prompts([file], backbone), b"no image", picture(RED))
    assert told.reasons == ["camera: is not an image"]
    assert labels(told) == ["red wall"]


def test_a_frame_may_be_refused_before_it_is_decoded(backbone: Backbone, file: Path):
    def check(_frame: object) -> None:
        raise ImageError("takes too much")

    told = watched(Prompts([file], backbone), picture(RED), check=check)
    assert (told.reasons, told.answers) == (["takes too much"], [])


def test_the_loop_ends_between_two_frames(backbone: Backbone, file: Path):
    told, turns = Remembered(), iter([True, True, False])
    watch = Watch(Prompts([file], backbone), Rules(), [told], "camera", lambda _line: None)
    source = frames(picture(RED), None, picture(BLUE), picture(GREEN))
    watch.run(source, lambda: next(turns))
    assert labels(told) == ["red wall"]
    assert list(source) == []  # it is closed


# ---------------------------------------------------------------------- what changes a state


def test_states_change_when_enough_frames_agree(backbone: Backbone, file: Path):
    shown = [picture(colour) for colour in (RED, RED, BLUE, RED, BLUE, BLUE)]
    told = watched(Prompts([file], backbone), *shown, rules=Rules(agree=(2, 3)))
    states = [answer.state and answer.state.split()[0] for answer in told.answers]
    assert states == [None, "red", "red", "red", "blue", "blue"]
    assert [answer.changed for answer in told.answers] == [False, True, False, False, True, False]


def test_an_uncertain_answer_changes_no_state(backbone: Backbone, file: Path):
    told = watched(Prompts([file], backbone), picture(RED), rules=Rules(min_confidence=1.0))
    assert told.answers[0].probability < 1.0
    assert (told.answers[0].state, told.answers[0].changed) == (None, False)


def test_a_region_that_is_still_is_not_encoded_again(backbone: Backbone, file: Path, passes: list[int]):
    rules = Rules(regions=(LEFT, RIGHT), still=6)
    noisy = halves(RED, BLUE) + np.random.default_rng(1).integers(0, 4, (48, 64, 3), np.uint8)
    told = watched(Prompts([file], backbone), halves(RED, BLUE), noisy, halves(RED, GREEN), rules=rules)
    assert passes == [2, 1]
    assert [(answer.region, answer.label) for answer in told.answers] == [
        ("left", "red wall"), ("right", "blue wall"), ("right", "green wall"),
    ]  # fmt: skip


def test_what_is_still_goes_on_voting(backbone: Backbone, file: Path, passes: list[int]):
    rules = Rules(still=6, agree=(3, 5))
    told = watched(Prompts([file], backbone), *[picture(RED)] * 9, rules=rules)
    assert passes == [1]
    assert [(answer.time, answer.changed) for answer in told.answers] == [(0.0, False), (2.0, True)]


# ---------------------------------------------------------------------- prompts that are exchanged


class Exchange:
    """A watch whose frames come one by one, with time between them to exchange a file."""

    def __init__(self, files: list[Path], backbone: Backbone, rules: Rules | None = None) -> None:
        self.told, self.notes, self.prompts = Remembered(), list[str](), Prompts(files, backbone)
        self.watch = Watch(self.prompts, rules or Rules(), [self.told], "camera", self.notes.append)

    def label(self, colour: tuple[int, int, int] = RED) -> str:
        self.watch.run(frames(picture(colour)), lambda: True)
        return self.told.answers[-1].label


@pytest.fixture
def exchange(backbone: Backbone, file: Path) -> Exchange:
    return Exchange([file], backbone)


def test_a_new_version_is_taken_up_between_two_frames(exchange: Exchange, backbone: Backbone, file: Path):
    assert exchange.label() == "red wall"
    session = backbone._image_tower.session
    for version in range(5):
        write_prompt(file, backbone, (f"red wall {version}", "blue"))
        assert exchange.label() == f"red wall {version}"
    assert backbone._image_tower.session is session
    assert "_text_session" not in vars(backbone)
    assert "tokenizer" not in vars(backbone)
    assert exchange.notes == [f"{file} is taken up: 2 classes"] * 5
    assert [announced[0] for announced in exchange.told.announced[-1:]] == [{"walls": ("red wall 4", "blue")}]


def test_no_version_is_missed_though_size_time_and_inode_are_the_same(
    exchange: Exchange, backbone: Backbone, file: Path, monkeypatch: pytest.MonkeyPatch
):
    """As on a file system with coarse times, where a file that was removed leaves its number to the next."""
    look = look_of(file)
    monkeypatch.setattr(prompts_module, "look_of", lambda _path: look)
    for name in ("red wall 1", "red wall 2"):
        write_prompt(file, backbone, (name, "blue"))
        assert exchange.label() == name


@pytest.mark.parametrize("years", [-50, 50])
def test_a_clock_that_jumps_hides_no_version(
    exchange: Exchange, backbone: Backbone, file: Path, monkeypatch: pytest.MonkeyPatch, years: int
):
    now = time.time_ns() + years * 365 * 86_400 * 10**9
    clock = SimpleNamespace(time_ns=lambda: now, monotonic=time.monotonic)
    monkeypatch.setattr(prompt_files, "time", clock)
    for version in range(3):
        write_prompt(file, backbone, (f"red {version}", "blue"))
        assert exchange.label() == f"red {version}"


def test_a_file_that_has_settled_is_not_read_again(
    exchange: Exchange, file: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(prompt_files, "_SETTLED_NS", -(10**18))
    exchange.label()
    monkeypatch.setattr(prompts_module, "content_of", lambda _path: pytest.fail("it was read"))
    assert exchange.label() == "red wall"
    os.utime(file)
    with pytest.raises(pytest.fail.Exception, match="it was read"):
        exchange.label()


def test_the_same_content_is_no_new_version(exchange: Exchange, file: Path):
    exchange.label()
    file.write_bytes(file.read_bytes())
    exchange.label()
    assert exchange.notes == []


def break_it(file: Path, _backbone: Backbone) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def make_it_foreign(file: Path, backbone: Backbone) -> None:
    foreign = replace(made_prompt(backbone), fingerprint=bytes(16))
    file.write_bytes(foreign.to_bytes())


def make_it_wordless(file: Path, backbone: Backbone) -> None:
    write_prompt(file, backbone, ("!", "."))


def put_a_folder_in_its_place(file: Path, _backbone: Backbone) -> None:
    file.unlink()
    file.mkdir()


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (break_it, "checksum|damaged|ends|bytes"),
        (make_it_foreign, "was tuned for backbone 'tiny' \\(00000000\\)"),
        (Path.unlink, "No such file"),
        (put_a_folder_in_its_place, "is not a regular file"),
    ],
)
def test_what_is_no_prompt_is_told_once_and_the_one_before_stays(
    exchange: Exchange, backbone: Backbone, file: Path, spoil: Callable[..., None], reason: str
):
    exchange.label()
    spoil(file, backbone) if spoil is not Path.unlink else file.unlink()
    assert [exchange.label(), exchange.label(BLUE), exchange.label()] == ["red wall", "blue wall", "red wall"]
    (note,) = exchange.notes
    assert note.startswith(f"{file}: ")
    assert note.endswith("; the version before stays in force")
    assert re.search(reason, note), note
    file.rmdir() if file.is_dir() else None
    write_prompt(file, backbone, ("red new", "blue"))
    assert exchange.label() == "red new"
    assert "tokenizer" not in vars(backbone)


def test_what_fails_for_want_of_memory_is_tried_again(
    exchange: Exchange, backbone: Backbone, file: Path, monkeypatch: pytest.MonkeyPatch
):
    exchange.label()
    write_prompt(file, backbone, ("red new", "blue"))
    with monkeypatch.context() as patch:

        def refuse(*_arguments: object) -> None:
            raise BundleError("onnxruntime cannot open text.onnx: out of memory")

        patch.setattr(Backbone, "encode_classes", refuse)
        assert [exchange.label(), exchange.label()] == ["red wall", "red wall"]
    assert len(exchange.notes) == 1
    assert exchange.label() == "red wall"  # not at once
    monkeypatch.setattr(prompts_module, "_RETRY_SECONDS", 0.0)
    exchange.prompts._watched[0].again = 0.0
    assert exchange.label() == "red new"


def test_votes_of_the_version_before_do_not_count(backbone: Backbone, file: Path):
    exchange = Exchange([file], backbone, Rules(agree=(2, 2)))
    exchange.label()
    exchange.label()
    assert exchange.told.answers[-1].state == "red wall"
    write_prompt(file, backbone, ("red wall", "blue"))
    exchange.label(BLUE)
    assert (exchange.told.answers[-1].state, exchange.told.answers[-1].changed) == ("red wall", False)
    exchange.label(BLUE)
    assert (exchange.told.answers[-1].state, exchange.told.answers[-1].changed) == ("blue", True)


def test_a_new_version_answers_a_frame_that_is_still(backbone: Backbone, file: Path):
    exchange = Exchange([file], backbone, Rules(still=6))
    exchange.label()
    exchange.label()
    assert len(exchange.told.answers) == 1
    write_prompt(file, backbone, ("red new", "blue"))
    assert exchange.label() == "red new"


def test_versions_do_not_add_up_on_disk(backbone: Backbone, file: Path, tmp_path: Path):
    prompts = Prompts([file], backbone, cache=tmp_path / "cache")
    kept = list((tmp_path / "cache").iterdir())
    assert len(kept) == 2  # features of the prompt's classes, and of their words alone
    write_prompt(file, backbone, ("red new", "blue"))
    assert prompts.refresh(lambda _line: None) == ["walls"]
    assert list((tmp_path / "cache").iterdir()) == kept


def deep_prompt(path: Path, backbone: DeepBackbone) -> Path:
    """One with prompts in both towers, which are nothing."""
    rng, depth = np.random.default_rng(1), backbone.deep.depth
    widths = {"text-context": backbone.manifest.text.width, "image-prompts": backbone.deep.image_width}
    groups = [
        PromptGroup.plain(role, rng.normal(0, 0.02, (depth, 2, width)).astype(np.float32))
        for role, width in widths.items()
    ]
    made = replace(made_prompt(backbone), method="qmaple", groups=tuple(groups), template=("", "."))
    path.write_bytes(made.to_bytes())
    return path


def test_a_prompt_with_a_part_in_the_image_tower_watches_alone(
    backbone: DeepBackbone, file: Path, tmp_path: Path
):
    deep = deep_prompt(tmp_path / "deep.qpt", backbone)
    (answer,) = watched(Prompts([deep], backbone), picture(RED)).answers
    alone = PromptClassifier(read_prompt_file(deep), backbone).predict(picture(RED), top_k=3)
    assert [label for label, _ in answer.predictions] == list(alone.labels)
    assert [value for _, value in answer.predictions] == pytest.approx(alone.probabilities, rel=1e-4)
    with pytest.raises(
        PromptFileError,
        match=rf"^{deep}: has prompts in the image tower too, .* watch with this prompt alone",
    ):
        Prompts([file, deep], backbone)
    exchange = Exchange([file, write_prompt(tmp_path / "other.qpt", backbone)], backbone)
    file.write_bytes(deep.read_bytes())
    assert exchange.label() == "red wall"
    assert "has prompts in the image tower too" in exchange.notes[0]


# ---------------------------------------------------------------------- what is refused at the start


def test_prompts_have_names_of_their_own(backbone: Backbone, file: Path, tmp_path: Path):
    other = write_prompt(tmp_path / "other" / "walls.qpt", backbone)
    with pytest.raises(PromptFileError, match=r"two prompts are called walls; rename one of the files"):
        Prompts([file, other], backbone)


def test_prompts_are_for_one_backbone(backbone: Backbone, file: Path, tmp_path: Path):
    other = tmp_path / "other.qpt"
    other.write_bytes(replace(TINY, fingerprint=bytes(16)).to_bytes())
    with pytest.raises(BackboneMismatchError, match=rf"^{other}: the prompt was tuned for backbone"):
        Prompts([file, other], backbone)


def test_a_prompt_that_is_not_there_is_an_error(backbone: Backbone, tmp_path: Path):
    with pytest.raises(QPromptError, match=r"gone\.qpt: cannot be read: No such file"):
        Prompts([tmp_path / "gone.qpt"], backbone)
