"""A group of prompt weights: one array, quantized or plain.

A quantized group (`bits` 1 to 8) is a codebook of 2^bits float16 numbers and one packed index per weight. The
normalisation of the training, w = sigma * centroid + mu, is folded into the codebook, so reading a weight is one
look-up. A plain group (`bits` 16 or 32) has no codebook. Both keep the bytes of the file as `data`, so a prompt
is as small in memory as on disk, and `values()` gives the weights of either. `docs/prompt-file.md` has the bytes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qprompt_runtime.arrays import Array
from qprompt_runtime.packing import MAX_BITS, check_packed, pack, unpack
from qprompt_runtime.prompt_envelope import name_of, number_of, parts, require, typed

ROLES = {0: "text-context", 1: "image-prompts", 2: "projections"}
MAX_DIMENSIONS = 4
MAX_GROUP_SIZE = 2**24

_FLOATS: dict[int, np.dtype[np.floating[Any]]] = {16: np.dtype("<f2"), 32: np.dtype("<f4")}


@dataclass(frozen=True)
class PromptGroup:
    """One array of prompt weights, as the file holds it. Usually made by `quantized` or `plain`.

    Attributes:
        role: What the weights are, one of `ROLES`.
        shape: The array's shape, row-major.
        bits: 1 to 8 for indices into the codebook, 16 or 32 for plain floats.
        codebook: The 2^bits centroids, each a float16 number; empty for plain floats.
        data: The packed indices, or the floats, little-endian.

    Raises:
        PromptFileError: On construction, if the parts break the format or contradict each other.
    """

    role: str
    shape: tuple[int, ...]
    bits: int
    codebook: tuple[float, ...]
    data: bytes

    def __post_init__(self) -> None:
        require(self.role in ROLES.values(), "the group's role", self.role, f"one of {list(ROLES.values())}")
        good = 1 <= len(self.shape) <= MAX_DIMENSIONS and all(n >= 1 for n in self.shape)
        require(good, "the group's shape", self.shape, f"1 to {MAX_DIMENSIONS} numbers, each 1 or more")
        require(
            self.size <= MAX_GROUP_SIZE, "the group's count of weights", self.size, f"up to {MAX_GROUP_SIZE}"
        )
        if self.bits in _FLOATS:
            expected = self.size * self.bits // 8
            require(not self.codebook, f"the codebook at {self.bits} bits", len(self.codebook), "none")
            require(len(self.data) == expected, "the weights' byte count", len(self.data), str(expected))
            finite = bool(np.isfinite(np.frombuffer(self.data, _FLOATS[self.bits])).all())
            require(finite, "a weight", "not a number or infinite", "finite numbers")
            return
        require(1 <= self.bits <= MAX_BITS, "the group's bits", self.bits, f"1 to {MAX_BITS}, 16 or 32")
        length = len(self.codebook)
        require(
            length == 2**self.bits, "the codebook's length", length, f"{2**self.bits} at {self.bits} bits"
        )
        with np.errstate(over="ignore"):
            exact = all(math.isfinite(c) and float(np.float16(c)) == c for c in self.codebook)
        require(exact, "the codebook", self.codebook, "finite float16 numbers")
        check_packed(self.data, self.size, self.bits)

    @classmethod
    def quantized(
        cls, role: str, codebook: NDArray[np.float16], indices: NDArray[np.uint8], bits: int
    ) -> PromptGroup:
        """Make a group from a codebook (float16 [2^bits]) and indices (uint8, in the shape of the weights)."""
        return cls(role, indices.shape, bits, tuple(map(float, codebook)), pack(indices, bits))

    @classmethod
    def plain(cls, role: str, weights: NDArray[np.floating]) -> PromptGroup:
        """Make a group of floats: 16 bits for float16 weights, 32 bits for all others."""
        bits = 16 if weights.dtype.itemsize == 2 else 32
        return cls(role, weights.shape, bits, (), weights.astype(_FLOATS[bits]).tobytes())

    @property
    def size(self) -> int:
        """How many weights there are."""
        return math.prod(self.shape)

    @property
    def payload_bytes(self) -> int:
        """Bytes of codebook and indices (or floats), without CBOR's heads."""
        return 2 * len(self.codebook) + len(self.data)

    def values(self) -> Array:
        """Return the weights, float32 in `shape`, as a new array."""
        if self.bits in _FLOATS:
            return np.frombuffer(self.data, _FLOATS[self.bits]).astype(np.float32).reshape(self.shape)
        indices = unpack(self.data, self.size, self.bits)
        return np.array(self.codebook, np.float32)[indices].reshape(self.shape)


def encode_group(group: PromptGroup) -> list[Any]:
    """Return the group as the file's array [role, shape, bits, codebook, data]."""
    codebook = np.array(group.codebook, _FLOATS[16]).tobytes()
    return [number_of(ROLES, group.role), list(group.shape), group.bits, codebook, group.data]


def decode_group(value: object) -> PromptGroup:
    """Read what `encode_group` gives, from a file that is not trusted.

    Raises:
        PromptFileError: A part is missing, of another type, or breaks the format.
    """
    role, shape, bits, codebook, data = parts(value, 5, "a group")
    codebook = typed(bytes, codebook, "the codebook")
    require(len(codebook) % 2 == 0, "the codebook's byte count", len(codebook), "an even number")
    return PromptGroup(
        name_of(ROLES, role, "the group's role"),
        tuple(
            typed(int, n, "a number in the group's shape") for n in typed(list, shape, "the group's shape")
        ),
        typed(int, bits, "the group's bits"),
        tuple(np.frombuffer(codebook, _FLOATS[16]).astype(float).tolist()),
        typed(bytes, data, "the group's data"),
    )
