"""Several prompts as one: which fit together, and what each field of the merged prompt becomes.

Class residuals are merged class by class: a class is its label, whatever its place in a file is, and a class
that only some files know takes what those say. All other weights are merged number by number: by majority
vote at 1 bit, else as means that are quantized again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from qprompt_edge.shipping.combining import (
    clipped_mean,
    majority,
    merged_length,
    weighted_median,
    weights_of,
)
from qprompt_edge.tuning.ptq import make_group
from qprompt_edge.tuning.qtaskres import USUAL_SHOTS
from qprompt_runtime.arrays import Array
from qprompt_runtime.errors import PromptFileError
from qprompt_runtime.prompt_file import CONTEXT, RESIDUAL, Calibration, ClassName, PromptFile, PromptGroup
from qprompt_runtime.prompt_keys import MAX_PHOTOS

Key = TypeVar("Key")
Value = TypeVar("Value")


@dataclass(frozen=True)
class MergedClass:
    """A class of a merged prompt.

    Attributes:
        label: Its label.
        files: How many files know it.
        photos: How many photos they were tuned on together; None if a file does not say.
    """

    label: str
    files: int
    photos: int | None


def check_mergeable(prompts: Sequence[PromptFile], names: Sequence[str]) -> None:
    """Refuse prompts of different kinds.

    Args:
        prompts: At least one.
        names: What each is called in a message.

    Raises:
        PromptFileError: Says which file differs from the first one, and in what.
    """
    first, one = prompts[0], names[0]
    for prompt, other in zip(prompts[1:], names[1:], strict=True):
        if prompt.fingerprint != first.fingerprint:
            raise _differ(
                one, _backbone(first), other, _backbone(prompt), "prompts of one backbone can be merged"
            )
        for what, of in _KINDS.items():
            mine, theirs = of(first), of(prompt)
            if mine != theirs:
                raise _differ(one, f"{what} {mine}", other, f"{what} {theirs}", "these must be the same")
    texts: dict[str, tuple[str, str]] = {}
    for prompt, name in zip(prompts, names, strict=True):
        for each in prompt.classes:
            text, where = texts.setdefault(each.label, (each.text, name))
            if text != each.text:
                raise PromptFileError(
                    f"the class {each.label!r} is {text!r} in {where} and {each.text!r} in {name}; a class must have the "
                    "same words in all files"
                )


def _backbone(prompt: PromptFile) -> str:
    return f"the backbone {prompt.backbone_name!r} ({prompt.fingerprint.hex()[:8]})"


def _per_class(prompt: PromptFile) -> bool:
    """Whether each class has weights of its own."""
    return prompt.method == RESIDUAL or (prompt.method == CONTEXT and len(prompt.groups[0].shape) == 3)


_KINDS: dict[str, Callable[[PromptFile], object]] = {
    "the method": lambda prompt: prompt.method,
    "bits a weight": lambda prompt: "/".join(str(group.bits) for group in prompt.groups),
    "weights of the shape": lambda prompt: " and ".join(
        "x".join(map(str, shape)) for group in prompt.groups if (shape := group.shape[_per_class(prompt) :])
    ),
    "the words": lambda prompt: " ... ".join(map(repr, prompt.template)),
}
"""What must be the same in all files, beside the backbone."""


def _differ(one: str, mine: str, other: str, theirs: str, why: str) -> PromptFileError:
    return PromptFileError(f"{one} has {mine}, {other} has {theirs}; {why}")


def merged_prompt(prompts: Sequence[PromptFile]) -> tuple[PromptFile, tuple[MergedClass, ...]]:
    """Merge prompts that `check_mergeable` lets pass; their order does not matter.

    Args:
        prompts: At least one.

    Returns:
        The merged prompt, with its classes by label, and what each class comes from.

    Raises:
        PromptFileError: A weight is too large for half precision.
    """
    files = sorted(map(_File.of, prompts), key=lambda file: file.content)
    texts = {name.label: name for file in files for name in file.prompt.classes}
    classes = tuple(texts[label] for label in sorted(texts))
    known = tuple(_merged_class(files, name.label) for name in classes)
    first = files[0].prompt
    photos = tuple(each.photos for each in known if each.photos is not None)
    prompt = PromptFile(
        method=first.method,
        groups=_residual_groups(files, classes)
        if first.method == RESIDUAL
        else _shared_groups(files, classes),
        classes=classes,
        template=first.template,
        backbone_name=first.backbone_name,
        fingerprint=first.fingerprint,
        calibration=_calibration(files),
        metadata=_common([file.prompt.metadata for file in files]),
        photos=photos if len(photos) == len(known) else (),
        extras=_common([file.prompt.extras for file in files]),
    )
    return prompt, known


@dataclass(frozen=True)
class _File:
    """A prompt, taken apart.

    Attributes:
        prompt: The prompt.
        content: Its bytes, which the order of files follows.
        places: Label to the class's place in the file.
        rows: Label to row of the first group, for classes with weights of their own.
        values: The weights of each group, float32.
    """

    prompt: PromptFile
    content: bytes
    places: dict[str, int]
    rows: dict[str, int]
    values: tuple[Array, ...]

    @classmethod
    def of(cls, prompt: PromptFile) -> _File:
        labels = [name.label for name in prompt.classes]
        owners = prompt.groups[0].rows or range(len(labels))
        rows = {labels[owner]: row for row, owner in enumerate(owners)} if _per_class(prompt) else {}
        values = tuple(group.values() for group in prompt.groups)
        return cls(prompt, prompt.to_bytes(), {label: i for i, label in enumerate(labels)}, rows, values)

    def photos_of(self, label: str) -> int:
        """How many photos a class was tuned on, or is taken for if the file does not say."""
        return self.prompt.photos[self.places[label]] if self.prompt.photos else USUAL_SHOTS

    @property
    def photos(self) -> int:
        """How many photos all classes were tuned on, as in `photos_of`."""
        return sum(map(self.photos_of, self.places))

    @property
    def level(self) -> float:
        """The mean offset of class residuals: how high the file's classes score beside other names."""
        return float(self.values[1].mean(dtype=np.float64))

    def scale(self, row: int) -> float:
        """What a row's codebook is multiplied by."""
        scales = self.prompt.groups[0].scales
        return scales[row] if scales else 1.0

    def book(self, group: int) -> Array:
        """The codebook of a group, ascending: float32 [k]."""
        return np.sort(np.array(self.prompt.groups[group].codebook, np.float32))


def _merged_class(files: Sequence[_File], label: str) -> MergedClass:
    knowing = [file for file in files if label in file.places]
    said = all(file.prompt.photos for file in files)
    photos = min(sum(file.photos_of(label) for file in knowing), MAX_PHOTOS) if said else None
    return MergedClass(label, len(knowing), photos)


def _residual_groups(files: Sequence[_File], classes: Sequence[ClassName]) -> tuple[PromptGroup, ...]:
    """Residuals and offsets of the classes that a file has a row for.

    Offsets are merged beside their file's level: files of other classes have other levels.
    """
    first, last = files[0].prompt.groups
    level = _level(files)
    residuals, offsets, owners = [], [], []
    for place, name in enumerate(classes):
        knowing = [file for file in files if name.label in file.rows]
        if knowing:
            weights = weights_of(np.array([file.photos_of(name.label) for file in knowing]))
            at = [(file, file.rows[name.label]) for file in knowing]
            rows = np.stack([file.values[0][row] for file, row in at])
            if first.bits == 1:
                scales = np.array([file.scale(row) for file, row in at])
                middles = np.array([file.book(0).mean() for file in knowing]) * scales
                merged = np.where(majority(rows, middles, weights), 1.0, -1.0)
            else:
                merged = clipped_mean(rows, weights)
            length = float(np.linalg.norm(merged))
            residuals.append(merged * (merged_length(rows, weights) / length if length else 0.0))
            beside = np.stack([file.values[1][row : row + 1] - file.level for file, row in at])
            offsets.append(weighted_median(beside, weights) + level)
            owners.append(place)
    group = make_group(first.role, np.stack(residuals).astype(np.float32), first.bits, by_row=True)
    plain = PromptGroup.plain(last.role, np.concatenate(offsets).astype(np.float16), owners)
    return replace(group, rows=tuple(owners)), plain


def _level(files: Sequence[_File]) -> float:
    """The level of class residuals that are merged: the median of the files'."""
    weights = weights_of(np.array([file.photos for file in files]))
    return float(weighted_median(np.array([[file.level] for file in files]), weights)[0])


def _shared_groups(files: Sequence[_File], classes: Sequence[ClassName]) -> tuple[PromptGroup, ...]:
    """Context vectors, prompts of both towers, projections."""
    groups = []
    for number, group in enumerate(files[0].prompt.groups):
        everyone = weights_of(np.array([file.photos for file in files]))
        books = np.stack([file.book(number) for file in files])
        book = weighted_median(books, everyone).astype(np.float16).astype(np.float32)
        labels = [name.label for name in classes] if _per_class(files[0].prompt) else [None]
        values = np.stack([_shared(files, number, book, label) for label in labels])
        groups.append(
            make_group(group.role, values if _per_class(files[0].prompt) else values[0], group.bits)
        )
    return tuple(groups)


def _shared(files: Sequence[_File], number: int, book: Array, label: str | None) -> Array:
    """Weights of a group, or those of one class in it, merged number by number: float32 of their shape."""
    knowing = [file for file in files if label is None or label in file.rows]
    photos = [file.photos if label is None else file.photos_of(label) for file in knowing]
    arrays = [
        file.values[number] if label is None else file.values[number][file.rows[label]] for file in knowing
    ]
    rows, weights = np.stack([array.ravel() for array in arrays]), weights_of(np.array(photos))
    if files[0].prompt.groups[number].bits == 1:
        middles = np.array([file.book(number).mean() for file in knowing])
        merged = book[majority(rows, middles, weights).astype(np.uint8)]
    else:
        merged = clipped_mean(rows, weights).astype(np.float32)
    return merged.reshape(arrays[0].shape)


def _calibration(files: Sequence[_File]) -> Calibration:
    """Medians of what the files say; those that measured nothing, for want of photos, say nothing here."""
    measured = [file for file in files if file.prompt.calibration.accept_scores] or files
    weights = weights_of(np.array([file.photos for file in measured]))
    said = [file.prompt.calibration for file in measured]
    scale = weighted_median(np.array([[each.logit_scale] for each in said]), weights)[0]
    scores: tuple[float, ...] = ()
    if said[0].accept_scores:
        middle = weighted_median(np.array([each.accept_scores for each in said]), weights)
        scores = tuple(map(float, middle.astype(np.float16)))
    accepted = {each.accept for each in said}
    accept = accepted.pop() if scores and len(accepted) == 1 else None
    return Calibration(float(np.float16(scale)) if scores else float(scale), scores, accept)


def _common(maps: Sequence[Mapping[Key, Value]]) -> dict[Key, Value]:
    """The entries that all maps share."""
    first, *rest = maps
    return {key: value for key, value in first.items() if all(other.get(key) == value for other in rest)}
