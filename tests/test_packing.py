"""Bit packing: literal bytes first, then properties. A round trip alone would accept a wrong bit order."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qprompt_runtime.errors import PromptFileError
from qprompt_runtime.packing import check_packed, pack, packed_size, unpack

ALL_BITS = range(1, 9)


@pytest.mark.parametrize(
    ("bits", "indices", "expected"),
    [
        (1, [1, 0, 1, 1, 0, 0, 0, 0], "0d"),
        (1, [0, 0, 0, 0, 0, 0, 0, 1, 1], "8001"),
        (2, [1, 2, 3, 0], "39"),
        (3, [5, 3, 6], "9d01"),  # 6 lies across two bytes
        (4, [1, 2, 3], "2103"),
        (5, [31, 0, 31], "1f7c"),
        (6, [1, 2, 3, 4], "813010"),
        (7, [127, 1], "ff00"),
        (8, [0, 1, 254, 255], "0001feff"),
    ],
)
def test_literal_bytes(bits: int, indices: list[int], expected: str) -> None:
    data = bytes.fromhex(expected)
    assert pack(np.array(indices), bits) == data
    assert unpack(data, len(indices), bits).tolist() == indices


def by_arithmetic(indices: list[int], bits: int) -> bytes:
    """The stream as one large number: an independent way to the same bytes."""
    number = sum(index << (i * bits) for i, index in enumerate(indices))
    return number.to_bytes((len(indices) * bits + 7) // 8, "little")


@pytest.mark.parametrize("bits", ALL_BITS)
@pytest.mark.parametrize("count", range(18))
def test_every_remainder(bits: int, count: int) -> None:
    indices = np.random.default_rng(count).integers(0, 2**bits, count)
    data = pack(indices, bits)
    assert data == by_arithmetic(indices.tolist(), bits)
    assert len(data) == packed_size(count, bits)
    read = unpack(data, count, bits)
    assert read.dtype == np.uint8
    assert read.tolist() == indices.tolist()


@given(st.data(), st.sampled_from(ALL_BITS))
def test_round_trip(data: st.DataObject, bits: int) -> None:
    indices = data.draw(st.lists(st.integers(0, 2**bits - 1), max_size=200))
    packed = pack(np.array(indices, np.uint8), bits)
    assert packed == by_arithmetic(indices, bits)
    assert unpack(packed, len(indices), bits).tolist() == indices


def test_shape_and_memory_order_do_not_matter() -> None:
    indices = np.arange(12, dtype=np.uint8).reshape(3, 4)
    assert pack(indices, 4) == pack(np.asfortranarray(indices), 4) == pack(indices.ravel(), 4)


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 5, 6, 7])
@pytest.mark.parametrize("count", range(1, 9))
def test_spare_bits_are_refused(bits: int, count: int) -> None:
    data = pack(np.zeros(count, np.uint8), bits)
    for spare in range(count * bits, len(data) * 8):
        altered = bytearray(data)
        altered[spare // 8] |= 1 << (spare % 8)
        with pytest.raises(PromptFileError, match="expected zeros in its upper"):
            unpack(bytes(altered), count, bits)


@pytest.mark.parametrize("bits", ALL_BITS)
@pytest.mark.parametrize("size", [0, 1, 100])
def test_other_lengths_are_refused(bits: int, size: int) -> None:
    with pytest.raises(PromptFileError, match=f"{size} bytes, expected {packed_size(17, bits)} "):
        check_packed(bytes(size), 17, bits)


@pytest.mark.parametrize(
    ("indices", "bits", "message"),
    [
        (np.array([0, 2]), 1, "0 to 2, expected 0 to 1"),
        (np.array([-1, 0]), 8, "-1 to 0, expected 0 to 255"),
        (np.array([256]), 8, "expected 0 to 255"),
        (np.array([0.5]), 8, "dtype float64"),
        (np.array([0]), 0, "bits is 0"),
        (np.array([0]), 9, "bits is 9"),
    ],
)
def test_wrong_indices(indices: np.ndarray, bits: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pack(indices, bits)


@pytest.mark.parametrize(("count", "bits"), [(-1, 1), (1, 0), (1, 9)])
def test_wrong_count_or_bits(count: int, bits: int) -> None:
    with pytest.raises(ValueError, match="expected"):
        unpack(b"", count, bits)
