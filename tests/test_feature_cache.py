"""Features on disk.

Each is written once and found again to the last bit. None is ever wrong, whatever happens to the file.
"""

import fcntl
import hashlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from command_line import Result
from patience import PATIENCE
from scenes import write_photos

from qprompt_edge.data.feature_cache import Entry, FeatureCache, content_key, feature_file
from qprompt_runtime.errors import OutputError

SHAPE = (2, 3)
RECORD = 16 + 8 + 4 * 2 * 3 + 8
HEADER = 32


def key(number: int) -> bytes:
    return hashlib.sha256(str(number).encode()).digest()[:16]


def entry(number: int, shape: tuple[int, int] = SHAPE) -> Entry:
    features = np.random.default_rng(number).standard_normal(shape, dtype=np.float32)
    return Entry(features, 2**64 - 1 - number)


def fill(path: Path, *numbers: int, identity: str = "this") -> FeatureCache:
    cache = FeatureCache(path, identity)
    for number in numbers:
        cache.put(key(number), entry(number))
    cache.save()
    return cache


def found(path: Path, numbers: range, identity: str = "this") -> set[int]:
    """Those of the numbers that the file has; each must be what was put there."""
    cache, known = FeatureCache(path, identity), set()
    for number in numbers:
        kept = cache.get(key(number))
        if kept is not None:
            assert kept.hash == entry(number).hash
            assert kept.features.dtype == np.float32
            np.testing.assert_array_equal(kept.features, entry(number).features)
            known.add(number)
    return known


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "made" / "of.features"


def test_what_is_put_is_found_before_and_after_it_is_saved(path: Path) -> None:
    cache = FeatureCache(path, "this")
    cache.put(key(1), entry(1))
    np.testing.assert_array_equal(cache.get(key(1)).features, entry(1).features)
    assert not path.exists()
    for _ in range(2):
        cache.save()
        np.testing.assert_array_equal(cache.get(key(1)).features, entry(1).features)
    assert cache.get(key(2)) is None
    assert found(path, range(3)) == {1}


def test_a_file_only_grows_by_what_is_new(path: Path) -> None:
    before = b""
    for number in range(50):
        fill(path, number)
        content = path.read_bytes()
        assert content.startswith(before)
        assert len(content) == HEADER + RECORD * (number + 1)
        before = content
    assert found(path, range(60)) == set(range(50))


def test_the_overhead_of_a_feature_is_small() -> None:
    features = 4 * 256
    assert (16 + 8 + features + 8) / features < 1.2


def test_an_identity_has_its_own_file_and_reads_no_other(tmp_path: Path) -> None:
    names = [feature_file(tmp_path, identity) for identity in ("this", "that")]
    assert len(set(names)) == 2
    fill(names[0], 1, 2)
    names[0].rename(names[1])
    assert found(names[1], range(4), "that") == set()
    fill(names[1], 3, identity="that")
    assert found(names[1], range(4), "that") == {3}


def test_features_of_another_shape_begin_the_file_anew(path: Path) -> None:
    fill(path, 1, 2)
    cache = FeatureCache(path, "this")
    cache.put(key(3), entry(3, (1, 5)))
    cache.save()
    assert cache.get(key(1)) is None
    np.testing.assert_array_equal(FeatureCache(path, "this").get(key(3)).features, entry(3, (1, 5)).features)


# ---------------------------------------------------------------------- damage


@pytest.mark.parametrize("length", range(0, HEADER + 3 * RECORD, 5))
def test_a_torn_file_keeps_its_whole_records_and_goes_on(path: Path, length: int) -> None:
    fill(path, 0, 1, 2)
    path.write_bytes(path.read_bytes()[:length])
    whole = set(range(max(0, length - HEADER) // RECORD))
    assert found(path, range(5)) == whole
    fill(path, 3)
    assert found(path, range(5)) == {*whole, 3}


def test_any_byte_changed_gives_no_wrong_feature(path: Path) -> None:
    fill(path, 0, 1, 2)
    content = path.read_bytes()
    for position in range(len(content)):
        damaged = bytearray(content)
        damaged[position] ^= 1 << position % 8
        path.write_bytes(damaged)
        whole = {0, 1, 2} - {(position - HEADER) // RECORD} if position >= HEADER else set()
        assert found(path, range(3)) == whole
        if position % 20 == 0:
            lost = sorted({0, 1, 2} - whole)
            fill(path, *lost)
            assert found(path, range(3)) == {0, 1, 2}


@pytest.mark.parametrize(
    "content", [b"", b"not a cache", b"PK\x03\x04" + bytes(1000), b"QPEFEAT1" + b"\xff" * 100]
)
def test_a_file_of_something_else_is_begun_anew(path: Path, content: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    assert found(path, range(3)) == set()
    fill(path, 1)
    assert found(path, range(3)) == {1}
    assert path.stat().st_size == HEADER + RECORD


def test_inserted_bytes_give_no_wrong_feature_and_later_ones_are_found(path: Path) -> None:
    fill(path, *range(6))
    content = path.read_bytes()
    middle = HEADER + 2 * RECORD + 7
    path.write_bytes(content[:middle] + b"xyz" + content[middle:])
    assert found(path, range(6)) == {0, 1}
    fill(path, 7, 8)
    assert found(path, range(9)) == {0, 1, 7, 8}


def test_a_file_that_is_exchanged_while_it_is_used_gives_no_wrong_feature(path: Path) -> None:
    cache = fill(path, 0, 1, 2)
    path.unlink()
    fill(path, 2, 1, 0)
    assert cache.get(key(0)) is None
    np.testing.assert_array_equal(cache.get(key(1)).features, entry(1).features)
    path.unlink()
    assert cache.get(key(1)) is None


# ---------------------------------------------------------------------- writing


def test_what_cannot_be_written_is_said_and_tried_again(path: Path) -> None:
    path.parent.write_text("a file")
    cache = FeatureCache(path, "this")
    cache.put(key(1), entry(1))
    with pytest.raises(OutputError, match=r"cannot keep features in .*; choose another place"):
        cache.save()
    assert cache.get(key(1)) is not None
    said: list[OutputError] = []
    cache.unkept = said.append
    cache.save()
    assert len(said) == 1
    assert cache.get(key(1)) is not None
    path.parent.unlink()
    cache.save()
    assert found(path, range(3)) == {1}


def test_files_that_cannot_be_locked_are_written_all_the_same(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(*_arguments: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    fill(path, 1)
    fill(path, 2)
    assert found(path, range(3)) == {1, 2}


WRITER = """
import sys
sys.path[:0] = {paths!r}
from pathlib import Path
from test_feature_cache import entry, key
from qprompt_edge.data.feature_cache import FeatureCache
cache = FeatureCache(Path({path!r}), "this")
for number in range(int(sys.argv[1]), int(sys.argv[2])):
    cache.put(key(number), entry(number))
    cache.save()
"""


def test_processes_side_by_side_keep_all_of_theirs(path: Path) -> None:
    code = WRITER.format(paths=[str(Path(__file__).parent), *sys.path], path=str(path))
    jobs = [subprocess.Popen([sys.executable, "-c", code, str(n), str(n + 60)]) for n in (0, 60, 120)]
    assert [job.wait(PATIENCE) for job in jobs] == [0, 0, 0]
    assert found(path, range(200)) == set(range(180))
    assert path.stat().st_size == HEADER + 180 * RECORD


# ---------------------------------------------------------------------- adapt


def test_the_same_photos_in_another_folder_are_not_encoded_again(
    run: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from qprompt_runtime.backbone import Backbone

    encode, encoded = Backbone.encode_images, []
    monkeypatch.setattr(
        Backbone, "encode_images", lambda self, pixels: encoded.append(len(pixels)) or encode(self, pixels)
    )
    monkeypatch.setenv("QPE_CACHE", str(tmp_path / "cache"))
    made = []
    for folder, classes in (("one", ("red", "green", "blue")), ("two", ("rouge", "vert", "bleu"))):
        photos = write_photos(tmp_path / folder, classes, count=4)
        out = tmp_path / f"{folder}.qpt"
        result = run("adapt", photos, "-o", out, "--epochs", 1, "--json")
        assert result.code == 0, result.err
        made.append(len(encoded))
    assert made == [12, 12]
    assert len(list((tmp_path / "cache" / "features").iterdir())) == 1


@pytest.mark.parametrize("size", [0, 1, 2**18 - 1, 2**18, 2**18 + 1, 3 * 2**18])
def test_a_content_has_the_key_of_all_of_its_bytes(size: int, tmp_path: Path) -> None:
    data = np.random.default_rng(size).bytes(size)
    (tmp_path / "photo").write_bytes(data)
    with (tmp_path / "photo").open("rb") as file:
        file.seek(size // 2)
        assert content_key(file) == hashlib.sha256(data).digest()[:16]
