"""The data sets of an experiment.

How they are named and found, what is drawn from them, and what is left to judge by.
"""

from collections.abc import Callable
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from dataset_layouts import write_set
from scenes import CLASSES, complaint, write_photo, write_photos
from small_experiments import experiment

from qprompt_edge.data.photos import LabelledPhotos
from qprompt_edge.reporter import Reporter
from qprompt_edge.reproduction.experiment import Experiment
from qprompt_edge.reproduction.jobs import ALL, BASE, NEW
from qprompt_edge.reproduction.protocols import few_shot, transfer
from qprompt_edge.reproduction.sets import Draw, EncodedSet, ExperimentSet, encode_set, find_sets
from qprompt_runtime.backbone import Backbone


def own(folder: Path) -> ExperimentSet:
    return find_sets([f"own={folder}"], None)["own"]


def texts(chosen: ExperimentSet) -> tuple[str, ...]:
    return tuple(name.text for name in chosen.classes)


def names(photos: LabelledPhotos) -> list[str]:
    return [f"{path.parent.name}/{path.name}" for path in photos.paths]


# ---------------------------------------------------------------------- folders of one's own


def test_a_folder_of_class_folders_is_pool_and_test_in_one(photos: Path) -> None:
    found = find_sets([f"own={photos}"], None)
    assert list(found) == ["own"]
    chosen = found["own"]
    assert (chosen.name, chosen.template, texts(chosen)) == ("own", "a photo of a {}.", CLASSES)
    assert (len(chosen.pool.paths), chosen.test) == (18, None)
    drawn, judged = chosen.drawn((2, 1)), chosen.judged((2, 1))
    assert np.bincount(drawn.labels).tolist() == [2, 2, 2]
    assert sorted(names(drawn) + names(judged)) == sorted(names(chosen.pool))
    assert names(chosen.judged(None)) == names(chosen.pool)  # trained on another set


def test_a_folder_with_train_and_test_is_judged_by_test_alone(tmp_path: Path) -> None:
    write_photos(tmp_path / "own" / "train", count=4)
    write_photos(tmp_path / "own" / "test", count=3)
    chosen = own(tmp_path / "own")
    assert chosen.test is not None
    assert (len(chosen.pool.paths), len(chosen.test.paths)) == (12, 9)
    assert chosen.judged((4, 1)) is chosen.judged(None) is chosen.test


@pytest.mark.parametrize("part", ["train", "test"])
def test_a_folder_with_only_one_of_train_and_test_is_one_of_class_folders(tmp_path: Path, part: str) -> None:
    write_photos(tmp_path / "own", classes=(part, "other"), count=1)
    assert texts(own(tmp_path / "own")) == tuple(sorted(("other", part)))


def test_class_names_become_words(tmp_path: Path) -> None:
    write_photos(tmp_path / "own", classes=("red_brick", "sand"), count=1)
    assert texts(own(tmp_path / "own")) == ("red brick", "sand")


def test_several_sets_come_in_the_order_given(tmp_path: Path, photos: Path) -> None:
    write_set(tmp_path, "dtd")
    found = find_sets([f"z={photos}", "dtd", f"a b={photos}"], tmp_path)
    assert list(found) == ["z", "dtd", "a b"]


def test_an_own_folder_may_have_the_name_of_a_published_set(photos: Path) -> None:
    assert texts(find_sets([f"dtd={photos}"], None)["dtd"]) == CLASSES


def test_an_equals_sign_in_the_folder_is_part_of_it(tmp_path: Path) -> None:
    folder = write_photos(tmp_path / "a=b", count=1)
    assert len(own(folder).pool.paths) == 3


# ---------------------------------------------------------------------- published sets


def test_named_sets_are_read_in_coops_layout(tmp_path: Path) -> None:
    write_set(tmp_path, "oxford_pets")
    chosen = find_sets(["oxford_pets"], tmp_path)["oxford_pets"]
    assert chosen.template == "a photo of a {}, a type of pet."
    assert texts(chosen) == ("abyssinian", "american bulldog")
    assert chosen.test is not None
    assert (len(chosen.pool.paths), len(chosen.test.paths)) == (6, 4)  # validation photos are no one's


def test_sets_for_testing_only_are_judged_and_not_trained_on(tmp_path: Path) -> None:
    write_set(tmp_path, "imagenet")
    write_set(tmp_path, "imagenet_a")
    sets = find_sets(["imagenet", "imagenet_a"], tmp_path)
    assert len(sets["imagenet_a"].judged(None).paths) == 2
    backwards = transfer("domain", ["zero-shot"], "imagenet_a", ["imagenet"], 1, [1])
    message = complaint(Experiment(backwards, sets).run, tmp_path / "out")
    assert message == "data set 'imagenet_a' is for testing only; nothing can be trained on it"
    assert not (tmp_path / "out").exists()


# ---------------------------------------------------------------------- refusals of names


def test_an_unknown_name_is_answered_with_the_known_ones_and_how_to_give_a_folder() -> None:
    message = complaint(find_sets, ["pest"], Path())
    assert message.startswith("unknown data set pest; known are caltech101, dtd, ")
    assert message.endswith("; for a folder of your own write NAME=FOLDER")


def test_a_name_without_a_folder_is_unknown_too() -> None:
    assert "unknown data set pets" in complaint(find_sets, ["pets="], None)


def test_a_published_name_needs_the_data_folder() -> None:
    assert "'dtd' needs --data DIR" in complaint(find_sets, ["dtd"], None)


def test_a_published_set_that_is_not_there_is_said_to_be_missing(tmp_path: Path) -> None:
    assert "DTD: missing" in complaint(find_sets, ["dtd"], tmp_path)


def test_a_set_is_named_once(photos: Path) -> None:
    assert complaint(find_sets, [f"a={photos}", f"a={photos}"], None) == "data set a is named twice"


@pytest.mark.parametrize("name", ["", "a/b", "../a", ".", "..", ".a", " a", "a\nb", "a" * 65])
def test_a_name_that_is_not_fit_for_a_file_is_refused(photos: Path, name: str) -> None:
    message = complaint(find_sets, [f"{name}={photos}"], None)
    assert "the name of a data set has 1 to 64 letters" in message


@pytest.mark.parametrize("name", ["a", "a" * 64, "my pets", "été-2", "cifar10.1", "_x", "-x"])
def test_names_fit_for_a_file_are_taken(photos: Path, name: str) -> None:
    assert list(find_sets([f"{name}={photos}"], None)) == [name]


@pytest.mark.parametrize("part", ["train", "test"])
def test_a_class_in_only_one_of_train_and_test_is_named(tmp_path: Path, part: str) -> None:
    write_photos(tmp_path / "own" / "train", count=1)
    write_photos(tmp_path / "own" / "test", count=1)
    write_photos(tmp_path / "own" / part, classes=("sand",), count=1)
    assert complaint(own, tmp_path / "own").endswith(": class sand is in only one of train and test")


def test_a_folder_that_is_missing_is_said(tmp_path: Path) -> None:
    assert "no such folder" in complaint(own, tmp_path / "own")


# ------------------------------------------------------------------- encoding, and photos that cannot be read


@pytest.fixture
def encode(tiny: Backbone, tmp_path: Path) -> Callable[..., tuple[EncodedSet, list[str]]]:
    """`encode(photos, draws)`: the encoded set, and what was said."""
    files = count()

    def call(photos: ExperimentSet, draws: list[Draw]) -> tuple[EncodedSet, list[str]]:
        notes: list[str] = []
        cache = tmp_path / f"features-{next(files)}"
        return encode_set(photos, draws, tiny, cache, Reporter(note=notes.append)), notes

    return call


def test_photos_are_encoded_once_and_found_by_part(
    encode: Callable[..., tuple[EncodedSet, list[str]]], photos: Path
) -> None:
    encoded, notes = encode(own(photos), [(2, 1), (2, 2)])
    assert notes == []
    assert encoded.features.shape == (18, 256)
    assert np.allclose(np.linalg.norm(encoded.features, axis=1), 1, atol=1e-5)
    drawn = encoded.photos.drawn((2, 1))
    rows = {}
    for part, labels, classes in ((ALL, 3, CLASSES), (BASE, 2, CLASSES[:2]), (NEW, 1, CLASSES[2:])):
        chosen = encoded.part(drawn, part)
        features = chosen.plain
        assert (tuple(name.text for name in chosen.classes), sorted(set(chosen.labels.tolist()))) == (
            classes,
            list(range(labels)),
        )
        assert features.shape == (2 * labels, 256)
        rows[part] = features
    assert np.array_equal(np.concatenate([rows[BASE], rows[NEW]]), rows[ALL])


def test_photos_that_no_draw_needs_are_not_encoded(
    encode: Callable[..., tuple[EncodedSet, list[str]]], tmp_path: Path
) -> None:
    write_photos(tmp_path / "own" / "train", count=5)
    write_photos(tmp_path / "own" / "test", count=1)
    encoded, _ = encode(own(tmp_path / "own"), [(1, 1)])
    assert len(encoded.features) == 3 + 3


def test_unreadable_photos_are_left_out_with_a_note_and_never_drawn_nor_judged(
    encode: Callable[..., tuple[EncodedSet, list[str]]], photos: Path
) -> None:
    bad = [photos / CLASSES[0] / name for name in ("01.png", "04.png")]
    bad[0].write_bytes(b"")
    bad[1].write_text("not a photo")
    draws = [(shots, seed) for shots in (1, 3, 9) for seed in (1, 2, 3)]
    encoded, notes = encode(own(photos), draws)
    assert sorted(note.split(": ")[0] for note in notes) == [f"left out {path}" for path in bad]
    for draw in draws:
        drawn, judged = encoded.photos.drawn(draw), encoded.photos.judged(draw)
        assert not {*bad} & {*drawn.paths, *judged.paths}
        assert np.bincount(drawn.labels).tolist() == [min(draw[0], 4), min(draw[0], 6), min(draw[0], 6)]
        assert len(drawn.paths) + len(judged.paths) == 16
    assert len(encoded.photos.judged(None).paths) == len(encoded.features) == 16


def test_a_draw_is_the_same_whichever_others_are_asked_for(
    encode: Callable[..., tuple[EncodedSet, list[str]]], tmp_path: Path
) -> None:
    write_photos(tmp_path / "own" / "train", count=8)
    write_photos(tmp_path / "own" / "test", count=1, first=50)
    chosen = own(tmp_path / "own")
    bad = chosen.pool.paths[3]
    bad.write_bytes(b"")
    meets = next((2, seed) for seed in count(1) if bad in chosen.drawn((2, seed)).paths)
    misses = next((2, seed) for seed in count(1) if bad not in chosen.drawn((2, seed)).paths)
    (both, notes), (alone, none) = encode(chosen, [meets, misses]), encode(chosen, [misses])
    assert (len(notes), len(none)) == (1, 0)
    assert both.photos.drawn(misses).paths == alone.photos.drawn(misses).paths == chosen.drawn(misses).paths
    others = [path for path in chosen.drawn(meets).paths if path != bad]
    assert set(others) < set(both.photos.drawn(meets).paths)
    assert np.bincount(both.photos.drawn(meets).labels).tolist() == [2, 2, 2]


@pytest.mark.parametrize("part", ["", "train", "test"])
def test_a_class_without_a_readable_photo_is_an_error(
    encode: Callable[..., tuple[EncodedSet, list[str]]], tmp_path: Path, part: str
) -> None:
    for folder in ("train", "test") if part else ("",):
        write_photos(tmp_path / "own" / folder, count=2)
    for path in (tmp_path / "own" / part / CLASSES[1]).iterdir():
        path.write_bytes(b"")
    message = complaint(encode, own(tmp_path / "own"), [(1, 1)])
    assert message.startswith(f"class {CLASSES[1]} has no readable image")


# ---------------------------------------------------------------------- too few photos to judge by


def test_drawing_every_photo_leaves_nothing_to_judge_by(photos: Path, tmp_path: Path) -> None:
    jobs = few_shot(["zero-shot"], ["own"], [6], [1])
    message = complaint(Experiment(jobs, {"own": own(photos)}).run, tmp_path / "out")
    assert message == (
        "data set 'own' has no photo left to test on (all classes) after 6 of each class are drawn; take fewer "
        "--shots, or give it a test folder"
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("plenty", "part"), [(range(2), NEW), (range(2, 4), BASE)])
def test_each_half_of_the_classes_needs_a_photo_to_judge_by(tmp_path: Path, plenty: range, part: str) -> None:
    for index in range(4):
        for number in range(5 if index in plenty else 2):
            write_photo(tmp_path / "own" / f"class {index}" / f"{number}.png", (90, 90, 90), number)
    message = complaint(experiment(tmp_path / "own").run, tmp_path / "out")
    assert f"no photo left to test on ({part} classes) after 2 of each" in message


def test_what_cannot_be_read_does_not_count_as_left(tmp_path: Path) -> None:
    folder = write_photos(tmp_path / "own", classes=CLASSES[:2], count=3)
    write_photos(folder, classes=CLASSES[2:], count=3)
    (folder / CLASSES[2] / "01.png").write_bytes(b"")
    message = complaint(experiment(folder).run, tmp_path / "out")
    assert "no photo left to test on (new classes)" in message


def test_with_a_test_folder_every_photo_may_be_drawn(tmp_path: Path) -> None:
    for part in ("train", "test"):
        write_photos(tmp_path / "own" / part, count=2)
    store = experiment(tmp_path / "own", ["zero-shot"], [1]).run(tmp_path / "out")
    assert [len(bits) for bits in store.outcomes()[0].right.values()] == [4, 2]
