"""Many photos: in their order, several at the same time, the bad ones named and passed over."""

import io
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from itertools import count, islice
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY_FOLDER
from patience import PATIENCE
from scenes import write_photo, write_photos

from qprompt_edge import adapt
from qprompt_runtime import ImageError, Prediction, PromptClassifier, many_photos
from qprompt_runtime.backbone import Backbone
from qprompt_runtime.class_head import cosines
from qprompt_runtime.image_tower import AT_ONCE
from qprompt_runtime.prompt_file import write_prompt_file
from qprompt_runtime.read_ahead import encode_ahead, read_ahead


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
    load, threads = many_photos.load_pixels, set()

    def watched(*arguments: object) -> object:
        threads.add(threading.current_thread())
        return load(*arguments)

    monkeypatch.setattr(many_photos, "load_pixels", watched)
    list(trained.predict_many(paths))
    assert threads
    assert threading.current_thread() not in threads


def test_it_reads_at_most_two_ahead_and_stops_when_it_is_closed() -> None:
    taken, read, before = [], [], set(threading.enumerate())

    def items() -> object:
        for number in count():
            taken.append(number)
            yield number

    answers = read_ahead(lambda number: read.append(number) or -number, items())
    for expected in range(4):
        assert next(answers) == -expected
        assert len(taken) <= expected + 3
    answers.close()
    assert len(taken) <= 6
    assert not [
        thread
        for thread in set(threading.enumerate()) - before
        if thread.name.startswith("ThreadPoolExecutor") and thread.is_alive()
    ]


def test_what_is_done_does_not_wait_for_items_that_are_long_in_coming(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    taken, futures, submit = [], [], ThreadPoolExecutor.submit

    def noted(*arguments: object) -> Future:
        futures.append(submit(*arguments))
        return futures[-1]

    monkeypatch.setattr(ThreadPoolExecutor, "submit", noted)

    def items() -> Iterator[int]:
        for number in range(6):
            wait(futures, PATIENCE)  # the answer to the last one is there
            taken.append(number)
            yield number

    for number, _ in enumerate(read_ahead(lambda _number: None, items(), 2, 4)):
        assert len(taken) <= number + 3


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


# ------------------------------------------------------------------------------ several at the same time


def on_threads(trained: PromptClassifier, threads: int) -> PromptClassifier:
    made = PromptClassifier(trained.prompt, Backbone.load(TINY_FOLDER, threads=threads))
    made.class_features = trained.class_features  # the text tower's last bits may depend on its threads
    return made


@pytest.mark.parametrize("threads", [2, 3, AT_ONCE + 2])
def test_side_by_side_gives_the_same_to_the_bit(
    trained: PromptClassifier, paths: list[Path], threads: int
) -> None:
    several = on_threads(trained, threads)
    assert several.backbone.photos_at_once == min(threads, AT_ONCE)
    photos = paths * 3
    expected = [(path, trained.predict(path, top_k=2)) for path in photos]
    assert list(several.predict_many(photos, top_k=2)) == expected
    assert [(path, several.predict(path, top_k=2)) for path in photos] == expected


def test_each_photo_is_decoded_and_encoded_by_one_of_several_threads(
    trained: PromptClassifier, paths: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    several, load, both = on_threads(trained, 2), many_photos.load_pixels, threading.Barrier(2)
    decoded, encoded, encode = set(), set(), several.encode_images

    def decoding(*arguments: object) -> object:
        decoded.add(threading.current_thread())
        return load(*arguments)

    def encoding(pixels: np.ndarray) -> np.ndarray:
        encoded.add(threading.current_thread())
        both.wait(timeout=PATIENCE)  # passes only if two are here at the same time
        return encode(pixels)

    monkeypatch.setattr(many_photos, "load_pixels", decoding)
    monkeypatch.setattr(several, "encode_images", encoding)
    assert len(list(several.predict_many(paths[:4]))) == 4
    assert decoded == encoded
    assert len(encoded) == 2
    assert threading.current_thread() not in encoded


def tower_threads(classifier: PromptClassifier) -> int:
    return classifier.backbone._image_tower.session.get_session_options().intra_op_num_threads


def test_many_photos_have_a_thread_each_and_a_single_one_has_all(
    trained: PromptClassifier, paths: list[Path]
) -> None:
    several = on_threads(trained, 2)
    list(several.predict_many(paths[:1]))
    assert tower_threads(several) == 2
    several = on_threads(trained, 2)
    list(several.predict_many(paths[:2]))
    assert tower_threads(several) == 1
    for _ in several.predict_many(paths[:4]):
        several.predict(paths[0])
        assert tower_threads(several) == 2
    session = several.backbone._image_tower.session
    list(several.predict_many(paths))
    assert several.backbone._image_tower.session is session  # open is open: many do with it as well
    more = on_threads(trained, AT_ONCE + 2)
    list(more.predict_many(paths[:2]))
    assert tower_threads(more) == 3  # beside the four that run it


def test_a_limit_on_memory_takes_one_photo_at_a_time(trained: PromptClassifier, paths: list[Path]) -> None:
    several = on_threads(trained, 2)
    several.backbone.spare_memory = True
    assert several.backbone.photos_at_once == 1
    assert list(several.predict_many(paths)) == list(trained.predict_many(paths))
    assert tower_threads(several) == 2


def test_the_order_is_kept_whichever_is_done_first(tiny: Backbone) -> None:
    taken = []

    def items() -> Iterator[int]:
        for number in range(30):
            taken.append(number)
            yield number

    def slow(number: int) -> int:
        time.sleep(0.01 * (number % 5 == 0))
        return number

    answers = encode_ahead(tiny, slow, lambda number: -number, items(), 3)
    for expected in range(30):
        assert next(answers) == -expected
        assert len(taken) <= expected + 7  # two for each thread
    assert next(answers, None) is None


def test_memory_does_not_grow_with_the_photos(trained: PromptClassifier, paths: list[Path]) -> None:
    several, data, alive, most = on_threads(trained, 2), paths[0].read_bytes(), weakref.WeakSet(), 0

    def photos() -> Iterator[io.BytesIO]:
        for _ in range(120):
            photo = io.BytesIO(data)
            alive.add(photo)
            yield photo

    for _ in several.predict_many(photos()):
        most = max(most, len(alive))
    assert most <= 8


def test_an_interruption_ends_between_two_photos(
    trained: PromptClassifier, paths: list[Path], tmp_path: Path
) -> None:
    write_prompt_file(tmp_path / "prompt.qpt", trained.prompt)
    photos = [str(paths[i % len(paths)]) for i in range(3000)]
    command = [sys.executable, "-m", "qprompt_edge", "predict", *photos, "--csv", "--threads", "2"]
    paths_of = ["--prompt", str(tmp_path / "prompt.qpt"), "--backbone", str(TINY_FOLDER)]
    with subprocess.Popen(
        [*command, *paths_of], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        first = [process.stdout.readline() for _ in range(6)]
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    rows = [*first[1:], *rest.splitlines(keepends=True)]
    assert len(rows) < 3000
    assert all(row.endswith("\n") and row.count(",") == 2 for row in rows)


def test_few_products_need_no_threads_and_depend_on_no_other_photo() -> None:
    rng = np.random.default_rng(0)
    rows, photos = rng.standard_normal((1000, 512), np.float32), rng.standard_normal((8, 512), np.float32)
    together = cosines(photos, rows)
    assert together == pytest.approx(photos.astype(float) @ rows.T.astype(float), abs=1e-4)
    for photo, expected in zip(photos, together, strict=True):
        assert np.array_equal(cosines(photo[None], rows)[0], expected)
