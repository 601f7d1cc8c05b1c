"""Rows of a prompt with class residuals: taken out, put in, and the others left as they are, to the bit."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from qprompt_edge.tuning.incremental import KnownClasses, TunedRows
from qprompt_runtime.arrays import Array
from qprompt_runtime.errors import PromptFileError
from qprompt_runtime.packing import MAX_BITS, unpack
from qprompt_runtime.prompt_file import ClassName, PromptFile, PromptGroup


@dataclass(frozen=True)
class _Rows:
    """Residuals and offsets as a file holds them.

    Attributes:
        owners: int64 [K], the classes they belong to, ascending.
        codes: [K,E]; uint8 indices into the codebook, or float32 weights where nothing is quantized.
        scales: float16 [K], or None.
        offsets: float16 [K].
        codebook: float16 [k], or none.
        bits: Bits a weight.
    """

    owners: NDArray[np.int64]
    codes: NDArray[np.uint8] | Array
    scales: NDArray[np.float16] | None
    offsets: NDArray[np.float16]
    codebook: NDArray[np.float16]
    bits: float

    @classmethod
    def of(cls, prompt: PromptFile) -> _Rows:
        """A prompt's."""
        residuals, offsets = prompt.groups
        quantized = residuals.bits <= MAX_BITS
        codes = unpack(residuals.data, residuals.size, residuals.bits) if quantized else residuals.values()
        return cls(
            np.array(residuals.rows or range(len(prompt.classes)), np.int64),
            codes.reshape(residuals.shape),
            np.array(residuals.scales, np.float16) if residuals.scales else None,
            offsets.values().astype(np.float16),
            np.array(residuals.codebook, np.float16),
            residuals.bits,
        )

    def groups(self) -> tuple[PromptGroup, PromptGroup]:
        """As a file holds them."""
        rows = self.owners.tolist()
        if self.bits <= MAX_BITS:
            residuals = PromptGroup.quantized(
                "class-residuals", self.codebook, self.codes.astype(np.uint8), self.bits, self.scales, rows
            )
        else:
            dtype = np.float16 if self.bits == 16 else np.float32
            residuals = PromptGroup.plain("class-residuals", self.codes.astype(dtype), rows)
        return residuals, PromptGroup.plain("class-offsets", self.offsets, rows)

    def select(self, places: NDArray[np.int64], owners: NDArray[np.int64]) -> _Rows:
        """The rows at these places, for other owners."""
        scales = None if self.scales is None else self.scales[places]
        return replace(
            self, owners=owners, codes=self.codes[places], scales=scales, offsets=self.offsets[places]
        )


def without_classes(prompt: PromptFile, labels: Collection[str]) -> PromptFile:
    """A `qtaskres` prompt without some of its classes.

    Raises:
        PromptFileError: No class with a row is left.
    """
    kept = [place for place, name in enumerate(prompt.classes) if name.label not in labels]
    rows, renumbered = _Rows.of(prompt), {old: new for new, old in enumerate(kept)}
    places = np.array([i for i, owner in enumerate(rows.owners.tolist()) if owner in renumbered], np.int64)
    if not len(places):
        raise PromptFileError("no class that would remain was tuned on photos; adapt again with all photos")
    owners = np.array([renumbered[owner] for owner in rows.owners[places].tolist()], np.int64)
    return replace(
        prompt,
        groups=rows.select(places, owners).groups(),
        classes=tuple(prompt.classes[place] for place in kept),
        photos=tuple(prompt.photos[place] for place in kept) if prompt.photos else (),
    )


def known_classes(prompt: PromptFile, text: Array, photos: NDArray[np.int64]) -> KnownClasses:
    """What a `qtaskres` prompt knows, with new classes behind its own.

    Args:
        prompt: The prompt.
        text: float32 [C,E], text features of its classes and the new ones.
        photos: int64 [C], how many each was tuned on.

    Raises:
        PromptFileError: The prompt's codebook has one value for all weights.
    """
    rows = _Rows.of(prompt)
    residuals, offsets = np.zeros_like(text), np.zeros(len(text), np.float32)
    residuals[rows.owners], offsets[rows.owners] = prompt.groups[0].values(), prompt.groups[1].values()
    codebook = np.sort(rows.codebook.astype(np.float32))
    if not residuals.any():
        codebook = codebook[:0]  # nothing was learned, so nothing depends on it
    elif len(codebook) and codebook[0] == codebook[-1]:
        raise PromptFileError(
            "the prompt's codebook has one value for all weights, so it cannot be updated; adapt again with "
            "all photos"
        )
    return KnownClasses(text, residuals, offsets, photos, codebook if len(codebook) else None, rows.bits)


def with_rows(
    prompt: PromptFile, added: Sequence[ClassName], tuned: TunedRows, photos: tuple[int, ...]
) -> PromptFile:
    """A `qtaskres` prompt with further classes behind its own, and with rows that were tuned.

    Args:
        prompt: The prompt.
        added: The new classes.
        tuned: Rows of new classes, and of the prompt's own; all others stay.
        photos: How many each class is tuned on then; empty if the prompt does not say.
    """
    rows = _Rows.of(prompt)
    staying = np.flatnonzero(~np.isin(rows.owners, tuned.classes))
    owners = np.concatenate([rows.owners[staying], tuned.classes])
    order = np.argsort(owners, kind="stable")
    codes: NDArray[np.uint8] | Array = tuned.residuals
    codebook = rows.codebook
    if tuned.indices is not None and tuned.codebook is not None:
        codes, codebook = tuned.indices, tuned.codebook
        if np.array_equal(np.sort(rows.codebook), codebook):
            order_before = np.argsort(rows.codebook, kind="stable").astype(np.uint8)
            codes, codebook = order_before[tuned.indices], rows.codebook
    scales = None
    if tuned.scales is not None:
        one = np.float16(rows.codebook.any())  # a codebook of zeros, which is replaced, leaves rows of zeros
        before = np.full(len(rows.owners), one) if rows.scales is None else rows.scales
        scales = np.concatenate([before[staying], tuned.scales])[order]
    joined = _Rows(
        owners[order],
        np.concatenate([rows.codes[staying], codes])[order],
        scales,
        np.concatenate([rows.offsets[staying], tuned.offsets.astype(np.float16)])[order],
        codebook,
        rows.bits,
    )
    return replace(prompt, groups=joined.groups(), classes=(*prompt.classes, *added), photos=photos)
