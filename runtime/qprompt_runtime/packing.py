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
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qprompt_runtime.errors import PromptFileError

MAX_BITS = 8


def packed_size(count: int, bits: int) -> int:
    """Return the number of bytes that `count` indices of `bits` bits take."""
    return (count * bits + 7) // 8


def pack(indices: NDArray[np.integer], bits: int) -> bytes:
    """Pack indices into as few bytes as they need.

    Args:
        indices: Integers from 0 to 2^bits - 1, of any shape; taken in row-major order.
        bits: Bits per index, 1 to 8.

    Returns:
        `packed_size(indices.size, bits)` bytes; none for no indices.

    Raises:
        ValueError: `bits` is out of range, the array is not of integers, or an index does not fit into
            `bits`.
    """
    _check_bits(bits)
    if indices.dtype.kind not in "iu":
        raise ValueError(f"indices have dtype {indices.dtype}, expected integers")
    if indices.size and (indices.min() < 0 or indices.max() >= 2**bits):
        raise ValueError(
            f"indices run from {indices.min()} to {indices.max()}, expected 0 to {2**bits - 1} at {bits} bits"
        )
    column = np.ascontiguousarray(indices, dtype=np.uint8).reshape(-1, 1)
    stream = np.unpackbits(column, axis=1, count=bits, bitorder="little")  # [N, bits]
    return np.packbits(stream, bitorder="little").tobytes()


def unpack(data: bytes, count: int, bits: int) -> NDArray[np.uint8]:
    """Read back what `pack` wrote.

    Args:
        data: The packed indices, and nothing else.
        count: How many indices there are.
        bits: Bits per index, 1 to 8.

    Returns:
        The indices, uint8 [count], each from 0 to 2^bits - 1.

    Raises:
        ValueError: `bits` is out of range, or `count` is negative.
        PromptFileError: `data` has another length than `count` indices take, or a spare bit is not zero.
    """
    check_packed(data, count, bits)
    stream = np.unpackbits(np.frombuffer(data, np.uint8), count=count * bits, bitorder="little")
    return np.packbits(stream.reshape(count, bits), axis=1, bitorder="little").reshape(count)


def check_packed(data: bytes, count: int, bits: int) -> None:
    """Check that `data` is what `pack` writes for `count` indices, without unpacking it.

    Args:
        data: The packed indices.
        count: How many indices to read.
        bits: Bits per index, 1 to 8.

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
    used = count * bits % 8  # bits used in the last byte; 0 means all of them
    if used and data[-1] >> used:
        raise PromptFileError(
            f"the last byte of the packed indices is 0x{data[-1]:02x}, expected zeros in its upper "
            f"{8 - used} bits"
        )


def _check_bits(bits: int) -> None:
    if not 1 <= bits <= MAX_BITS:
        raise ValueError(f"bits is {bits}, expected 1 to {MAX_BITS}")
