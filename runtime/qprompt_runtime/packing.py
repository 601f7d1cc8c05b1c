"""Small integers as a dense stream of bits.

A quantized weight is an index of b bits into a codebook of 2^b numbers; at 1 bit, eight of them share a byte.
Index i occupies the bits i*b to i*b + b - 1 of the stream, its least significant bit first, and bit k of the
stream is bit k % 8 (0 the least significant) of byte k // 8. An index may lie across two bytes:

    indices 5, 3, 6 at 3 bits       101 011 110     (as people write numbers)
    stream, bit 0 on the left       101 110 011     (each least significant bit first)
    the same, by bytes              10111001 1      = 0x9d 0x01

N indices take exactly ceil(N*b / 8) bytes. The count is not in the stream: the reader must know it. The bits
of the last byte that no index uses are zero and nothing else is accepted, so that one prompt has one
encoding.

Indices into a codebook of three numbers take 1.6 bits (`TERNARY`): five share a byte, which is i0 + 3 i1 +
9 i2 + 27 i3 + 81 i4. N of them take ceil(N / 5) bytes; places behind the last index are zero.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qprompt_runtime.errors import PromptFileError

MAX_BITS = 8
TERNARY = 1.6
"""Bits of an index from 0 to 2: five of them share a byte."""
_IN_A_BYTE = 5
_PLACES = 3 ** np.arange(_IN_A_BYTE)
_DIGITS = (np.arange(3**_IN_A_BYTE)[:, None] // _PLACES % 3).astype(np.uint8)


def levels(bits: float) -> int:
    """How many values an index of `bits` bits takes: 3 for `TERNARY`, otherwise 2^bits."""
    return 3 if bits == TERNARY else 2 ** int(bits)


def packed_size(count: int, bits: float) -> int:
    """Return the number of bytes that `count` indices of `bits` bits take."""
    if bits == TERNARY:
        return -(-count // _IN_A_BYTE)
    return (count * int(bits) + 7) // 8


def pack(indices: NDArray[np.integer], bits: float) -> bytes:
    """Pack indices into as few bytes as they need.

    Args:
        indices: Integers from 0 to `levels(bits)` - 1, of any shape; taken in row-major order.
        bits: Bits per index, 1 to 8 or `TERNARY`.

    Returns:
        `packed_size(indices.size, bits)` bytes; none for no indices.

    Raises:
        ValueError: `bits` is out of range, the array is not of integers, or an index does not fit into
            `bits`.
    """
    _check_bits(bits)
    if indices.dtype.kind not in "iu":
        raise ValueError(f"indices have dtype {indices.dtype}, expected integers")
    most = levels(bits) - 1
    if indices.size and (indices.min() < 0 or indices.max() > most):
        raise ValueError(
            f"indices run from {indices.min()} to {indices.max()}, expected 0 to {most} at {bits} bits"
        )
    if bits == TERNARY:
        digits = np.zeros((packed_size(indices.size, bits), _IN_A_BYTE), np.uint8)
        digits.flat[: indices.size] = indices.ravel()
        return (digits @ _PLACES).astype(np.uint8).tobytes()
    column = np.ascontiguousarray(indices, dtype=np.uint8).reshape(-1, 1)
    stream = np.unpackbits(column, axis=1, count=int(bits), bitorder="little")  # [N, bits]
    return np.packbits(stream, bitorder="little").tobytes()


def unpack(data: bytes, count: int, bits: float) -> NDArray[np.uint8]:
    """Read back what `pack` wrote.

    Args:
        data: The packed indices, and nothing else.
        count: How many indices there are.
        bits: Bits per index, 1 to 8 or `TERNARY`.

    Returns:
        The indices, uint8 [count], each from 0 to 2^bits - 1.

    Raises:
        ValueError: `bits` is out of range, or `count` is negative.
        PromptFileError: `data` has another length than `count` indices take, or a spare bit is not zero.
    """
    check_packed(data, count, bits)
    packed = np.frombuffer(data, np.uint8)
    if bits == TERNARY:
        return _DIGITS[packed].ravel()[:count]
    width = int(bits)
    stream = np.unpackbits(packed, count=count * width, bitorder="little")
    return np.packbits(stream.reshape(count, width), axis=1, bitorder="little").reshape(count)


def check_packed(data: bytes, count: int, bits: float) -> None:
    """Check that `data` is what `pack` writes for `count` indices, without unpacking it.

    Args:
        data: The packed indices.
        count: How many indices to read.
        bits: Bits per index, 1 to 8 or `TERNARY`.

    Raises:
        ValueError: `bits` is out of range, or `count` is negative.
        PromptFileError: `data` has another length than `count` indices take, or a spare bit is not zero.
    """
    _check_bits(bits)
    if count < 0:
        raise ValueError(f"the count of indices is {count}, expected 0 or more")
    expected = packed_size(count, bits)
    if len(data) != expected:
        raise PromptFileError(
            f"the packed indices are {len(data)} bytes, expected {expected} for {count} indices of {bits} "
            "bits"
        )
    if bits == TERNARY:
        _check_ternary(np.frombuffer(data, np.uint8), count % _IN_A_BYTE)
        return
    used = count * int(bits) % 8  # bits used in the last byte; 0 means all of them
    if used and data[-1] >> used:
        raise PromptFileError(
            f"the last byte of the packed indices is 0x{data[-1]:02x}, expected zeros in its upper "
            f"{8 - used} bits"
        )


def _check_ternary(packed: NDArray[np.uint8], used: int) -> None:
    """Every byte holds five digits, the last one `used` of them if that is not 0."""
    if len(packed) and packed.max() >= 3**_IN_A_BYTE:
        raise PromptFileError(
            f"a byte of the packed indices is {packed.max()}, expected at most {3**_IN_A_BYTE - 1} for five "
            "indices into three values"
        )
    if used and packed[-1] >= 3**used:
        raise PromptFileError(
            f"the last byte of the packed indices is {packed[-1]}, expected at most {3**used - 1}, since it "
            f"holds {used} of them"
        )


def _check_bits(bits: float) -> None:
    if bits not in (TERNARY, *range(1, MAX_BITS + 1)):
        raise ValueError(f"bits is {bits}, expected 1 to {MAX_BITS} or {TERNARY}")
