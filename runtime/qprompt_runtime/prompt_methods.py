"""The methods of prompt files, and the groups of weights that each must have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from qprompt_runtime.prompt_envelope import require
from qprompt_runtime.prompt_group import ROLES, PromptGroup

CONTEXT, FOLDED, COUPLED, RESIDUAL = "qcoop", "qmaple", "qmaple-coupled", "qtaskres"
METHODS = {1: CONTEXT, 2: FOLDED, 3: COUPLED, 4: RESIDUAL}
DEEP_METHODS = FOLDED, COUPLED
"""Those that need a `DeepBackbone`."""
_ROLES = {
    CONTEXT: [ROLES[0]],
    FOLDED: [ROLES[0], ROLES[1]],
    COUPLED: [ROLES[0], ROLES[2]],
    RESIDUAL: [ROLES[3], ROLES[4]],
}


def check_groups(method: str, groups: Sequence[PromptGroup], classes: int, before: str) -> None:
    """Check that the groups are those of the method.

    Args:
        method: One of `METHODS`.
        groups: The prompt's.
        classes: How many the prompt has.
        before: The template's text before the class.

    Raises:
        PromptFileError: They are others, or their shapes do not fit each other or the classes.
    """
    roles = [group.role for group in groups]
    require(roles == _ROLES[method], f"the list of roles of a {method} prompt", roles, f"{_ROLES[method]}")
    if method == RESIDUAL:
        _check_residuals(groups[0], groups[1], classes, before)
        return
    for group in groups:
        good = not group.scales and not group.rows
        require(good, f"a group of a {method} prompt", "one with row scales or rows", "neither")
    if method == CONTEXT:
        shape = groups[0].shape
        good = len(shape) == 2 or (len(shape) == 3 and shape[0] == classes)
        require(
            good, "the shape of a qcoop prompt", shape, f"[n, D], or [C, n, D] with C = {classes} classes"
        )
    else:
        _check_deep(method, [group.shape for group in groups])


def _check_deep(method: str, shapes: list[tuple[int, ...]]) -> None:
    text, second = shapes
    good = len(text) == len(second) == 3 and text[0] == second[0]
    if method == FOLDED:
        good, wanted = good and text[1] == second[1], "[J, n, D] and [J, n, V]"
    else:
        good, wanted = good and text[2] + 1 == second[2], "[J, n, D] and [J, V, D + 1]"
    require(good, f"the shapes of a {method} prompt", shapes, wanted)


def _check_residuals(residuals: PromptGroup, offsets: PromptGroup, classes: int, before: str) -> None:
    shapes = [residuals.shape, offsets.shape]
    good = len(residuals.shape) == 2 and offsets.shape == residuals.shape[:1]
    require(good, "the shapes of a qtaskres prompt", shapes, "[K, E] and [K]")
    require(offsets.bits == 16, "the class offsets' bits", offsets.bits, "16")
    good = residuals.rows == offsets.rows
    require(good, "the list of rows of the class offsets", offsets.rows[:8], "that of the class residuals")
    count = len(residuals.rows) or classes
    require(residuals.shape[0] == count, "the count of class residuals", residuals.shape[0], f"{count} rows")
    good = all(row < classes for row in residuals.rows[-1:])
    require(good, "the class of a row", residuals.rows[-1:], f"below {classes}, the count of classes")
    good = any(map(str.isalnum, before))
    require(
        good, "the template's start", repr(before), "a word, since a qtaskres prompt has no context vectors"
    )


def without_needless_rows(group: PromptGroup, classes: int) -> PromptGroup:
    """The group without its list of rows where that names all classes, so that a prompt has one encoding."""
    return replace(group, rows=()) if len(group.rows) == classes else group
