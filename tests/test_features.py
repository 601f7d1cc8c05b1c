"""Features of photos: independent of each other, kept by content, and not lost with a bad file among them."""

from pathlib import Path

import numpy as np
import pytest
from conftest import TINY_FOLDER
from scenes import write_photo, write_photos

from qprompt_edge.data.features import FeatureCache, encode_photos, feature_identity
from qprompt_runtime.backbone import Backbone


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    return sorted(write_photos(tmp_path / "photos").rglob("*.png"))


def test_a_photo_has_the_same_features_in_any_company(tiny: Backbone, paths: list[Path]) -> None:
    together = encode_photos(tiny, paths, views=2).features
    assert np.linalg.norm(together, axis=2) == pytest.approx(1, abs=1e-5)
    assert np.array_equal(together[3:4], encode_photos(tiny, paths[3:4], views=2).features)
    backwards = encode_photos(tiny, paths[::-1], views=2).features
    assert np.array_equal(together, backwards[::-1])


def test_views_differ_and_follow_from_the_seed(tiny: Backbone, paths: list[Path]) -> None:
    first = encode_photos(tiny, paths[:1], views=2, seed=1).features[0]
    assert not np.array_equal(first[1], first[2])
    assert np.array_equal(first, encode_photos(tiny, paths[:1], views=2, seed=1).features[0])
    other = encode_photos(tiny, paths[:1], views=2, seed=2).features[0]
    assert np.array_equal(first[0], other[0])
    assert not np.array_equal(first[1], other[1])


def test_the_cache_knows_photos_by_their_content(
    tiny: Backbone, paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity = feature_identity(tiny, 0, 1)
    before = encode_photos(tiny, paths, cache=FeatureCache(tmp_path / "cache.features", identity))
    paths[0].rename(tmp_path / "renamed.png")
    write_photo(paths[1], (1, 2, 3), seed=99)
    encoded = []
    encode = tiny.encode_images
    monkeypatch.setattr(tiny, "encode_images", lambda pixels: encoded.append(1) or encode(pixels))
    moved = [tmp_path / "renamed.png", *paths[1:]]
    after = encode_photos(tiny, moved, cache=FeatureCache(tmp_path / "cache.features", identity))
    assert len(encoded) == 1  # the edited one
    assert np.array_equal(np.delete(before.features, 1, 0), np.delete(after.features, 1, 0))
    assert not np.array_equal(before.features[1], after.features[1])


@pytest.mark.parametrize("content", [b"", b"not a cache", b"PK\x03\x04"])
def test_a_cache_that_cannot_be_used_is_rebuilt(
    tiny: Backbone, paths: list[Path], tmp_path: Path, content
) -> None:
    file = tmp_path / "cache.features"
    file.write_bytes(content)
    features = encode_photos(tiny, paths[:2], cache=FeatureCache(file, "this backbone")).features
    assert FeatureCache(file, "this backbone").get(b"none") is None
    again = encode_photos(tiny, paths[:2], cache=FeatureCache(file, "another backbone")).features
    assert np.array_equal(features, again)


def test_bad_files_are_listed_by_position(tiny: Backbone, paths: list[Path], tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_text("no photo")
    encoded = encode_photos(tiny, [paths[0], tmp_path / "bad.jpg", tmp_path / "gone.jpg", paths[1]])
    assert encoded.failures == {1: "is not an image", 2: "no such file"}
    assert np.all(encoded.features[1:3] == 0)
    assert np.array_equal(encoded.features[[0, 3]], encode_photos(tiny, paths[:2]).features)


def test_an_interruption_keeps_what_was_encoded(
    paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny = Backbone.load(TINY_FOLDER, threads=1)
    identity, encode, encoded = feature_identity(tiny, 0, 1), tiny.encode_images, []

    def interrupted(pixels: np.ndarray) -> np.ndarray:
        if len(encoded) == 3:
            raise KeyboardInterrupt
        encoded.append(1)
        return encode(pixels)

    with monkeypatch.context() as patch:
        patch.setattr(tiny, "encode_images", interrupted)
        with pytest.raises(KeyboardInterrupt):
            encode_photos(tiny, paths, cache=FeatureCache(tmp_path / "cache.features", identity))
    encoded.clear()
    monkeypatch.setattr(tiny, "encode_images", lambda pixels: encoded.append(1) or encode(pixels))
    encode_photos(tiny, paths, cache=FeatureCache(tmp_path / "cache.features", identity))
    assert len(encoded) == len(paths) - 3
