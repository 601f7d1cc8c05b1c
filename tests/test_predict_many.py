"""Many photos: in their order, the next ones decoded meanwhile, the bad ones named and passed over."""

import threading
import time
from itertools import count, islice
from pathlib import Path

import pytest
from conftest import TINY_FOLDER
from scenes import write_photo, write_photos

from qprompt_edge import adapt
from qprompt_runtime import ImageError, Prediction, PromptClassifier, classifier
from qprompt_runtime.read_ahead import read_ahead


@pytest.fixture
def trained(tmp_path: Path) -> PromptClassifier:
    photos = write_photos(tmp_path / "training", count=2)
    return adapt(photos, backbone=TINY_FOLDER, epochs=1, holdout=0, threads=1).classifier()


@pytest.fixture
def paths(photos: Path) -> list[Path]:
    return sorted(photos.rglob("*.png"))


def test_many_give_what_each_gives(trained: PromptClassifier, paths: list[Path]) -> None:
    expected = [(path, trained.predict(path, top_k=2)) for path in paths]
    assert list(trained.predict_many(paths, top_k=2)) == expected
    assert list(trained.predict_many(map(str, paths[:1]))) == [(str(paths[0]), trained.predict(paths[0]))]
    assert list(trained.predict_many([])) == []


@pytest.mark.parametrize("place", [0, 1, 2, 5])
def test_a_bad_photo_is_named_in_its_place_and_the_others_answered(
    trained: PromptClassifier, paths: list[Path], tmp_path: Path, place: int
) -> None:
    (tmp_path / "bad.png").write_bytes(b"no photo")
    photos = [*paths[:place], tmp_path / "bad.png", tmp_path / "gone.png", *paths[place:5]]
    answers = list(trained.predict_many(photos))
    assert [photo for photo, _ in answers] == photos
    kinds = [type(answer) for _, answer in answers]
    assert kinds == [ImageError if i in (place, place + 1) else Prediction for i in range(len(photos))]
    assert "bad.png" in str(answers[place][1])


def test_one_photo_in_the_place_of_many_is_refused(trained: PromptClassifier) -> None:
    with pytest.raises(TypeError, match="several photos"):
        next(trained.predict_many("photo.jpg"))


def test_photos_are_decoded_elsewhere_while_the_image_tower_runs(
    trained: PromptClassifier, paths: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    load, threads = classifier.load_pixels, set()

    def watched(*arguments: object) -> object:
        threads.add(threading.current_thread())
        return load(*arguments)

    monkeypatch.setattr(classifier, "load_pixels", watched)
    list(trained.predict_many(paths))
    assert threads
    assert threading.current_thread() not in threads


def test_it_reads_at_most_two_ahead_and_stops_when_it_is_closed() -> None:
    taken, read = [], []

    def items() -> object:
        for number in count():
            taken.append(number)
            yield number

    answers = read_ahead(lambda number: read.append(number) or -number, items())
    for expected in range(4):
        assert next(answers) == -expected
        assert len(taken) <= expected + 3
    answers.close()
    time.sleep(0.05)
    assert len(taken) <= 6
    assert not [thread for thread in threading.enumerate() if "ThreadPoolExecutor" in thread.name]


def test_what_reading_raises_is_raised_in_its_turn() -> None:
    def read(number: int) -> float:
        return 1 / (3 - number)

    answers = read_ahead(read, range(9))
    assert list(islice(answers, 3)) == [1 / 3, 1 / 2, 1]
    with pytest.raises(ZeroDivisionError):
        next(answers)


def test_a_single_photo_needs_no_thread(
    trained: PromptClassifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_photo(tmp_path / "one.png", (1, 2, 3), 1)
    monkeypatch.setattr(threading.Thread, "start", lambda _thread: pytest.fail("a thread was started"))
    assert len(list(trained.predict_many([tmp_path / "one.png"]))) == 1
