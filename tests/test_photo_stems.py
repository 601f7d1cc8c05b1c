"""Stems of training photos.

They are computed once, kept within a limit, and the same whether they were kept or not.
"""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY_FOLDER

from qprompt_edge.data import photo_stems
from qprompt_edge.data.photo_stems import PhotoStems
from qprompt_runtime.deep_backbone import DeepBackbone
from qprompt_runtime.images import load_pixels


@pytest.fixture
def backbone() -> DeepBackbone:
    return DeepBackbone(TINY_FOLDER, threads=1)


@pytest.fixture
def paths(photos: Path) -> list[Path]:
    return sorted(photos.rglob("*.png"))


def test_each_photo_is_computed_once(
    backbone: DeepBackbone, paths: list[Path], stem_runs: Counter[bytes]
) -> None:
    stems = PhotoStems(paths, backbone, views=0, seed=1)
    pixels = np.stack([load_pixels(path, backbone.manifest.image_transform) for path in paths])
    for epoch, batch in enumerate(([0, 1, 2], [2, 5], [5, 0])):
        np.testing.assert_array_equal(stems(np.array(batch), epoch), pixels[batch])  # tiny's stems are these
    assert stem_runs == {pixels[photo].tobytes(): 1 for photo in (0, 1, 2, 5)}


def test_the_limit_decides_speed_only(
    backbone: DeepBackbone, paths: list[Path], stem_runs: Counter[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = [np.array(batch) for batch in ([0, 1, 2], [2, 1, 0], [0, 3, 2])]
    kept = PhotoStems(paths, backbone, views=2, seed=1)
    expected = [kept(batch, epoch) for epoch, batch in enumerate(batches)]
    once = stem_runs.total()
    monkeypatch.setattr(photo_stems, "KEPT_BYTES", 1)  # the last one stays
    forgotten = PhotoStems(paths, backbone, views=2, seed=1)
    for epoch, batch in enumerate(batches):
        np.testing.assert_array_equal(forgotten(batch, epoch), expected[epoch])
    assert stem_runs.total() - once > once


def test_an_epoch_sees_one_view_of_each_photo(
    backbone: DeepBackbone, paths: list[Path], stem_runs: Counter[bytes]
) -> None:
    stems = PhotoStems(paths, backbone, views=2, seed=1)
    for epoch in range(30):
        stems(np.array([0]), epoch)
    assert sorted(stem_runs.values()) == [1, 1, 1]
