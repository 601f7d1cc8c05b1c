"""A group of prompt weights: one array, quantized or plain.

A quantized group (`bits` 1 to 8) is a codebook of 2^bits float16 numbers and one packed index per weight; at
1.6 bits (`TERNARY`) the codebook has three numbers. The normalisation of the training, w = sigma * centroid +
mu, is folded into the codebook, so reading a weight is one look-up. A quantized group may carry a scale for
each row (entry of its first dimension), a float16 number that the row's weights are multiplied by. A plain
group (`bits` 16 or 32) has neither. Both keep the bytes of the file as `data`, so a prompt is as small in
memory as on disk, and `values()` gives the weights of either. A group whose rows belong to classes may say
which. `docs/prompt-file.md` has the bytes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qprompt_runtime.arrays import Array
from qprompt_runtime.packing import MAX_BITS, TERNARY, check_packed, levels, pack, unpack
from qprompt_runtime.prompt_envelope import name_of, number_of, require, typed

ROLES = {0: "text-context", 1: "image-prompts", 2: "projections", 3: "class-residuals", 4: "class-offsets"}
MAX_DIMENSIONS = 4
MAX_GROUP_SIZE = 2**24
MAX_ROWS = 100_000
"""Of a group that has scales or says whose its rows are: they are rows of classes."""

_FLOATS: dict[float, np.dtype[np.floating[Any]]] = {16: np.dtype("<f2"), 32: np.dtype("<f4")}


@dataclass(frozen=True)
class PromptGroup:
    """One array of prompt weights, as the file holds it. Usually made by `quantized` or `plain`.

    Attributes:
        role: What the weights are, one of `ROLES`.
        shape: The array's shape, row-major.
        bits: 1 to 8 or `TERNARY` for indices into the codebook, 16 or 32 for plain floats.
        codebook: The centroids, each a float16 number: 2^bits, or three; empty for plain floats.
        data: The packed indices, or the floats, little-endian.
        scales: What the weights of each row are multiplied by, float16 numbers, one for each entry of the
            first dimension; empty for none.
        rows: The classes that the rows belong to, as ascending indices; empty for all classes in their order.

    Raises:
        PromptFileError: On construction, if the parts break the format or contradict each other.
    """

    role: str
    shape: tuple[int, ...]
    bits: float
    codebook: tuple[float, ...]
    data: bytes
    scales: tuple[float, ...] = ()
    rows: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        require(self.role in ROLES.values(), "the group's role", self.role, f"one of {list(ROLES.values())}")
        good = 1 <= len(self.shape) <= MAX_DIMENSIONS and all(n >= 1 for n in self.shape)
        require(good, "the group's shape", self.shape, f"1 to {MAX_DIMENSIONS} numbers, each 1 or more")
        require(
            self.size <= MAX_GROUP_SIZE, "the group's count of weights", self.size, f"up to {MAX_GROUP_SIZE}"
        )
        self._check_rows()
        if self.bits in _FLOATS:
            self._check_floats()
            return
        good = self.bits in (TERNARY, *range(1, MAX_BITS + 1))
        require(good, "the group's bits", self.bits, f"1 to {MAX_BITS}, {TERNARY}, 16 or 32")
        length, wanted = len(self.codebook), levels(self.bits)
        require(length == wanted, "the codebook's length", length, f"{wanted} at {self.bits} bits")
        require(_half(self.codebook), "the codebook", self.codebook, "finite float16 numbers")
        check_packed(self.data, self.size, self.bits)

    def _check_floats(self) -> None:
        expected = self.size * int(self.bits) // 8
        for what, entries in (("codebook", self.codebook), ("row scales", self.scales)):
            require(not entries, f"the length of the {what} at {self.bits} bits", len(entries), "none")
        require(len(self.data) == expected, "the weights' byte count", len(self.data), str(expected))
        finite = bool(np.isfinite(np.frombuffer(self.data, _FLOATS[self.bits])).all())
        require(finite, "a weight", "not a number or infinite", "finite numbers")

    def _check_rows(self) -> None:
        """Scales and rows fit the first dimension."""
        for what, entries in (("row scales", self.scales), ("rows", self.rows)):
            good = not entries or len(entries) == self.shape[0] <= MAX_ROWS
            require(good, f"the count of {what}", len(entries), f"0 or {self.shape[0]}, and up to {MAX_ROWS}")
        require(_half(self.scales), "the list of row scales", self.scales[:8], "finite float16 numbers")
        good = all(type(row) is int for row in self.rows)
        good = good and all(a < b for a, b in pairwise((-1, *self.rows)))
        require(good, "the list of rows", self.rows[:8], "indices of classes in ascending order")

    @classmethod
    def quantized(
        cls,
        role: str,
        codebook: NDArray[np.float16],
        indices: NDArray[np.uint8],
        bits: float,
        scales: NDArray[np.float16] | None = None,
        rows: Sequence[int] = (),
    ) -> PromptGroup:
        """Make a group from a codebook (float16) and indices (uint8, in the shape of the weights).

        Args:
            role: One of `ROLES`.
            codebook: The centroids.
            indices: One for each weight.
            bits: 1 to 8 or `TERNARY`.
            scales: One for each row, float16 [rows]; None for none.
            rows: The class that each row belongs to, ascending; empty for all classes.
        """
        factors = () if scales is None else tuple(map(float, scales))
        owners = tuple(map(int, rows))
        centroids = tuple(map(float, codebook))
        return cls(role, indices.shape, bits, centroids, pack(indices, bits), factors, owners)

    @classmethod
    def plain(cls, role: str, weights: NDArray[np.floating], rows: Sequence[int] = ()) -> PromptGroup:
        """Make a group of floats: 16 bits for float16 weights, 32 bits for all others."""
        bits = 16 if weights.dtype.itemsize == 2 else 32
        data = weights.astype(_FLOATS[bits]).tobytes()
        return cls(role, weights.shape, bits, (), data, rows=tuple(map(int, rows)))

    @property
    def size(self) -> int:
        """How many weights there are."""
        return math.prod(self.shape)

    @property
    def payload_bytes(self) -> int:
        """Bytes of codebook, row scales and indices (or floats), without CBOR's heads."""
        return 2 * (len(self.codebook) + len(self.scales)) + len(self.data)

    def values(self) -> Array:
        """Return the weights, float32 in `shape`, as a new array."""
        if self.bits in _FLOATS:
            return np.frombuffer(self.data, _FLOATS[self.bits]).astype(np.float32).reshape(self.shape)
        indices = unpack(self.data, self.size, self.bits)
        values = np.array(self.codebook, np.float32)[indices].reshape(self.shape)
        if self.scales:
            values *= np.array(self.scales, np.float32).reshape(-1, *[1] * (len(self.shape) - 1))
        return values


def encode_group(group: PromptGroup) -> list[Any]:
    """Return the group as the file's array [role, shape, bits, codebook, data, scales, rows].

    The last two are left out where they, and what follows them, are empty. A codebook of three is at 2 bits
    here.
    """
    codebook, scales = (np.array(half, _FLOATS[16]).tobytes() for half in (group.codebook, group.scales))
    more = [scales, list(group.rows)] if group.rows else [scales] if scales else []
    bits = 2 if group.bits == TERNARY else int(group.bits)
    return [number_of(ROLES, group.role), list(group.shape), bits, codebook, group.data, *more]


def decode_group(value: object) -> PromptGroup:
    """Read what `encode_group` gives, from a file that is not trusted.

    Raises:
        PromptFileError: A part is missing, of another type, or breaks the format.
    """
    found = typed(list, value, "a group")
    require(5 <= len(found) <= 7, "a group's count of parts", len(found), "5 to 7")
    absent: list[Any] = [b"", []]
    role, shape, bits, codebook, data, scales, rows = [*found, *absent[len(found) - 5 :]]
    width, centroids = typed(int, bits, "the group's bits"), _halves(codebook, 2**MAX_BITS, "the codebook")
    return PromptGroup(
        name_of(ROLES, role, "the group's role"),
        tuple(
            typed(int, n, "a number in the group's shape") for n in typed(list, shape, "the group's shape")
        ),
        TERNARY if width == 2 and len(centroids) == levels(TERNARY) else width,
        centroids,
        typed(bytes, data, "the group's data"),
        _halves(scales, MAX_ROWS, "the group's row scales"),
        tuple(typed(int, row, "a row's class") for row in typed(list, rows, "the group's rows")),
    )


def _halves(value: object, most: int, what: str) -> tuple[float, ...]:
    """Read a byte string of up to `most` float16 numbers."""
    raw = typed(bytes, value, what)
    require(len(raw) % 2 == 0, f"{what}'s byte count", len(raw), "an even number")
    require(len(raw) <= 2 * most, f"{what}'s byte count", len(raw), f"up to {2 * most}")
    return tuple(np.frombuffer(raw, _FLOATS[16]).astype(float).tolist())


def _half(values: tuple[float, ...]) -> bool:
    """Whether all are finite numbers of half precision."""
    exact = np.array(values, np.float64)
    with np.errstate(over="ignore"):
        return bool(np.isfinite(exact).all() and (exact.astype(np.float16) == exact).all())
