"""Bit packing: literal bytes first, then properties. A round trip alone would accept a wrong bit order."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qprompt_runtime.errors import PromptFileError
from qprompt_runtime.packing import TERNARY, check_packed, levels, pack, packed_size, unpack

ALL_BITS = (*range(1, 9), TERNARY)


@pytest.mark.parametrize(
    ("bits", "indices", "expected"),
    [
        (1, [1, 0, 1, 1, 0, 0, 0, 0], "0d"),
        (1, [0, 0, 0, 0, 0, 0, 0, 1, 1], "8001"),
        (TERNARY, [1, 2, 0, 1, 2, 2], "c402"),  # 1 + 2*3 + 1*27 + 2*81 = 0xc4
        (TERNARY, [2, 2, 2, 2, 2], "f2"),
        (2, [1, 2, 3, 0], "39"),
        (3, [5, 3, 6], "9d01"),  # 6 lies across two bytes
        (4, [1, 2, 3], "2103"),
        (5, [31, 0, 31], "1f7c"),
        (6, [1, 2, 3, 4], "813010"),
        (7, [127, 1], "ff00"),
        (8, [0, 1, 254, 255], "0001feff"),
    ],
)
def test_literal_bytes(bits: float, indices: list[int], expected: str) -> None:
    data = bytes.fromhex(expected)
    assert pack(np.array(indices), bits) == data
    assert unpack(data, len(indices), bits).tolist() == indices


def by_arithmetic(indices: list[int], bits: float) -> bytes:
    """The stream as one large number, or one number for each five: an independent way to the same bytes."""
    if bits == TERNARY:
        fives = ("".join(map(str, indices[i : i + 5][::-1])) for i in range(0, len(indices), 5))
        return bytes(int(five, 3) for five in fives)
    number = sum(index << (i * int(bits)) for i, index in enumerate(indices))
    return number.to_bytes((len(indices) * int(bits) + 7) // 8, "little")


@pytest.mark.parametrize("bits", ALL_BITS)
@pytest.mark.parametrize("count", range(18))
def test_every_remainder(bits: float, count: int) -> None:
    indices = np.random.default_rng(count).integers(0, levels(bits), count)
    data = pack(indices, bits)
    assert data == by_arithmetic(indices.tolist(), bits)
    assert len(data) == packed_size(count, bits)
    read = unpack(data, count, bits)
    assert read.dtype == np.uint8
    assert read.tolist() == indices.tolist()


@given(st.data(), st.sampled_from(ALL_BITS))
def test_round_trip(data: st.DataObject, bits: float) -> None:
    indices = data.draw(st.lists(st.integers(0, levels(bits) - 1), max_size=200))
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


@pytest.mark.parametrize("value", [243, 255])
def test_a_byte_that_is_no_five_digits_is_refused(value: int) -> None:
    with pytest.raises(PromptFileError, match=f"is {value}, expected at most 242"):
        check_packed(bytes([0, value, 0]), 15, TERNARY)


@pytest.mark.parametrize("count", range(1, 5))
def test_digits_behind_the_last_index_are_refused(count: int) -> None:
    assert unpack(bytes([3**count - 1]), count, TERNARY).tolist() == [2] * count
    with pytest.raises(PromptFileError, match=f"is {3**count}, expected at most {3**count - 1}"):
        unpack(bytes([3**count]), count, TERNARY)


@pytest.mark.parametrize("bits", ALL_BITS)
@pytest.mark.parametrize("size", [0, 1, 100])
def test_other_lengths_are_refused(bits: float, size: int) -> None:
    with pytest.raises(PromptFileError, match=f"{size} bytes, expected {packed_size(17, bits)} "):
        check_packed(bytes(size), 17, bits)


@pytest.mark.parametrize(
    ("indices", "bits", "message"),
    [
        (np.array([0, 2]), 1, "0 to 2, expected 0 to 1"),
        (np.array([0, 3]), TERNARY, "0 to 3, expected 0 to 2"),
        (np.array([-1, 0]), 8, "-1 to 0, expected 0 to 255"),
        (np.array([256]), 8, "expected 0 to 255"),
        (np.array([0.5]), 8, "dtype float64"),
        (np.array([0]), 0, "bits is 0"),
        (np.array([0]), 9, "bits is 9"),
        (np.array([0]), 1.5, "bits is 1.5"),
    ],
)
def test_wrong_indices(indices: np.ndarray, bits: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pack(indices, bits)


@pytest.mark.parametrize(("count", "bits"), [(-1, 1), (1, 0), (1, 9)])
def test_wrong_count_or_bits(count: int, bits: int) -> None:
    with pytest.raises(ValueError, match="expected"):
        unpack(b"", count, bits)
