"""Shots and hold-out are functions of a seed, and near-identical photos stay on one side."""

import io
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance
from scenes import complaint

from qprompt_edge.data.photos import LabelledPhotos
from qprompt_edge.data.splits import difference_hash, near_duplicate_groups, split_holdout, take_shots
from qprompt_runtime.images import read_image


def of_classes(*counts: int) -> LabelledPhotos:
    labels = np.repeat(np.arange(len(counts)), counts)
    paths = tuple(Path(f"{label}/{index}.jpg") for index, label in enumerate(labels))
    return LabelledPhotos(paths, labels, tuple("abcdefgh"[: len(counts)]))


# Shots and hold-out


def test_shots_are_taken_per_class_and_small_classes_keep_all() -> None:
    labels = of_classes(10, 2, 5).labels
    taken = take_shots(labels, 4, seed=1)
    assert np.bincount(labels[taken]).tolist() == [4, 2, 4]
    assert np.array_equal(taken, take_shots(labels, 4, seed=1))
    assert not np.array_equal(taken, take_shots(labels, 4, seed=2))
    assert np.array_equal(taken, np.unique(taken))
    assert len({take_shots(labels, 4, seed).tobytes() for seed in range(30)}) > 20
    assert "at least 1, got 0" in complaint(take_shots, labels, 0, 1)


def test_shots_that_are_passed_over_make_room_for_the_next_ones() -> None:
    labels = of_classes(10, 10).labels
    taken = take_shots(labels, 4, seed=1)
    other = take_shots(labels, 4, seed=1, without={int(taken[0])})
    assert set(taken[1:]) < set(other)
    assert np.bincount(labels[other]).tolist() == [4, 4]
    assert taken[0] not in other


@pytest.mark.parametrize(
    ("count", "held"), [(1, 0), (2, 0), (3, 0), (4, 1), (5, 1), (7, 1), (8, 2), (24, 5), (200, 40)]
)
def test_size_of_the_holdout(count: int, held: int) -> None:
    labels = np.array([0] * count + [1] * 10)
    train, test = split_holdout(labels, 0.2, seed=1)
    assert np.bincount(labels[test], minlength=2).tolist() == [held, 2]
    assert sorted([*train.tolist(), *test.tolist()]) == list(range(count + 10))
    assert split_holdout(labels, 0.2, seed=1)[1].tolist() == test.tolist()
    assert split_holdout(labels, 0.0, seed=1)[1].tolist() == []
    assert set(labels[split_holdout(labels, 0.99, seed=1)[0]]) == {0, 1}


def test_a_group_stays_on_one_side() -> None:
    labels = np.zeros(40, dtype=np.int64)
    groups = np.repeat(np.arange(20), 2)
    for seed in range(20):
        train, test = split_holdout(labels, 0.2, seed, groups)
        assert len(test) == 8
        assert not set(groups[train]) & set(groups[test])


@pytest.mark.parametrize(("sizes", "held"), [([10], 0), ([5, 5], 5), ([7, 3], 3), ([9, 1], 1), ([2] * 5, 2)])
def test_large_groups(sizes: list[int], held: int) -> None:
    groups = np.repeat(np.arange(len(sizes)), sizes)
    labels = np.zeros(10, dtype=np.int64)
    for seed in range(5):
        assert len(split_holdout(labels, 0.2, seed, groups)[1]) == held


def test_holdout_out_of_range() -> None:
    for fraction in (-0.1, 1.0, float("nan")):
        assert "fraction from 0 to less than 1" in complaint(split_holdout, np.zeros(4, int), fraction, 1)


# Near-identical photos


def test_hash_by_hand() -> None:
    ramp = Image.fromarray(np.tile(np.arange(9, dtype=np.uint8) * 20, (8, 1)))
    assert difference_hash(ramp) == 2**64 - 1
    assert difference_hash(ramp.transpose(Image.Transpose.FLIP_LEFT_RIGHT)) == 0
    first = np.zeros((8, 9), dtype=np.uint8)
    first[0, 1:] = 9
    assert difference_hash(Image.fromarray(first)) == 2**63
    assert difference_hash(Image.new("P", (1, 1))) == 0


def test_groups_are_chains_within_a_class() -> None:
    full = 2**64 - 1
    hashes = np.array([full, full - 0b1111, full - 0b11111111, 0, full, 0b1111], dtype=np.uint64)
    labels = np.array([0, 0, 0, 0, 1, 0])
    assert near_duplicate_groups(hashes, labels).tolist() == [0, 0, 0, 3, 4, 5]
    joined_late = np.array([full, full - 0b11111111, full - 0b1111], dtype=np.uint64)
    assert near_duplicate_groups(joined_late, np.zeros(3, int)).tolist() == [0, 0, 0]
    assert near_duplicate_groups(np.array([], np.uint64), np.array([], np.int64)).tolist() == []


def test_groups_of_many_equal_photos_are_quick() -> None:
    groups = near_duplicate_groups(np.zeros(3000, np.uint64), np.zeros(3000, np.int64))
    assert set(groups.tolist()) == {0}


def bursts_of(image: Image.Image) -> list[Image.Image]:
    """What a camera would have stored a moment later."""
    width, height = image.size
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=50)
    return [
        Image.open(stream).convert("RGB"),
        ImageEnhance.Brightness(image).enhance(0.8),
        image.resize((width // 2, height // 2)),
    ]


def test_hashes_tell_bursts_from_other_photos() -> None:
    folder = os.environ.get("QPE_DATA")
    if not folder or not (Path(folder) / "photos-full-size.zip").exists():
        pytest.skip("QPE_DATA does not name the folder of real images")
    hashes, bursts = [], []
    with zipfile.ZipFile(Path(folder) / "photos-full-size.zip") as archive:
        for name in archive.namelist():
            image = read_image(archive.read(name))
            hashes.append(difference_hash(image))
            bursts += [(difference_hash(image), difference_hash(copy)) for copy in bursts_of(image)]
    one_class = np.zeros(len(hashes), np.int64)
    assert len(set(near_duplicate_groups(np.array(hashes, np.uint64), one_class))) == len(hashes)
    pairs = [near_duplicate_groups(np.array(pair, np.uint64), np.zeros(2, np.int64)) for pair in bursts]
    caught = np.mean([group[0] == group[1] for group in pairs])
    assert caught > 0.97, caught
