"""What `update` gives back: the prompt, what changed, what is known of the cost, and all of it in words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from qprompt_edge.data.photos import SkippedPhoto
from qprompt_edge.data.same_photos import SamePhoto, same_lines
from qprompt_runtime.prompt_file import PromptFile, write_prompt_file
from qprompt_runtime.text import counted, first_few, percent, printable

_SHOWN_SKIPPED = 10
_SHOWN_CLASSES = 20
_SHOWN_WRONG = 3

ANEW, JOINED, KEPT = "anew", "joined", "kept"
"""How the calibration was made.

`anew`: fitted to all photos. `joined`: accept scores of old and new photos joined. `kept`: unchanged.
"""


@dataclass(frozen=True)
class ClassEstimate:
    """A class for which photos were given.

    Attributes:
        label: Its label.
        new: Whether the prompt did not have the class before.
        photos: Photos that were given for it and not tuned on before.
        right: How many of `judged` were right.
        judged: Photos of it that were judged by rows tuned without them (cross-validation); 0 if there were
            too few.
        taken_for: Labels that the others of `judged` were taken for, and how many, the most first.
    """

    label: str
    new: bool
    photos: int
    right: int
    judged: int
    taken_for: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True)
class OldClasses:
    """What new classes cost the old ones.

    Measured on photos of the old classes that were kept away in cross-validation.

    Attributes:
        loss: Share of their photos that are taken for a new class and were right without it, mean over
            classes.
        photos: How many photos were judged.
    """

    loss: float
    photos: int


@dataclass(frozen=True, repr=False)
class UpdateResult:
    """The result of `update`.

    Attributes:
        prompt: The updated prompt.
        removed: Labels of classes that were removed.
        classes: The classes for which photos were given.
        cost: What new classes cost the old ones. None if there are no new ones, or no photos of the old ones:
            class vectors alone do not tell (`docs/defaults.md`).
        from_photos: True: tuned anew on old and new photos together, from the feature cache, as by `adapt`.
            False: only the rows of `classes` were tuned, and all others are unchanged.
        calibration: `anew`, `joined` or `kept`.
        repeated: Photos that were given twice, or were tuned on before; each counts once.
        skipped: Files that were left out.
        same: Photos that are in several classes.
        provider: Execution provider that ran; None if no model was needed.
        seconds: `encode`, `tune` and `total`.
        peak_rss_mb: Peak resident memory.
    """

    prompt: PromptFile
    removed: tuple[str, ...]
    classes: tuple[ClassEstimate, ...]
    cost: OldClasses | None
    from_photos: bool
    calibration: str
    repeated: int
    skipped: tuple[SkippedPhoto, ...]
    same: tuple[SamePhoto, ...]
    provider: str | None
    seconds: dict[str, float]
    peak_rss_mb: float

    def __repr__(self) -> str:
        return f"<UpdateResult {self.prompt.about}: {changes(self)}>"

    def save(self, path: str | Path, seal: Callable[[bytes], bytes] | None = None) -> None:
        """Write the prompt file.

        Args:
            path: Where to; a file that is there is replaced, all of it or nothing.
            seal: Makes a signed prompt of the file's bytes; None: it is not signed.

        Raises:
            OutputError: It cannot be written.
        """
        write_prompt_file(Path(path), self.prompt, seal)

    def summary(self) -> str:
        """What people should know, as the command prints it.

        Returns:
            Lines of plain text.
        """
        return "\n".join(map(printable, (*notes(self), *findings(self), facts(self))))


def changes(result: UpdateResult) -> str:
    """What was added and removed, in a few words."""
    new = [f"{it.label} ({counted(it.photos, 'photo')})" for it in result.classes if it.new]
    more = [f"{it.label} (+{it.photos})" for it in result.classes if not it.new]
    parts = [
        f"{what} {first_few(names)}"
        for what, names in (("added", new), ("more photos of", more), ("removed", result.removed))
        if names
    ]
    return "; ".join(parts) or "nothing new"


def notes(result: UpdateResult) -> list[str]:
    """Lines about files that were left out or count once."""
    lines = [f"skipped {skip.path}: {skip.reason}" for skip in result.skipped[:_SHOWN_SKIPPED]]
    more = len(result.skipped) - _SHOWN_SKIPPED
    if more > 0:
        lines.append(f"... and {counted(more, 'more file')}; --json and result.skipped have all")
    lines += same_lines(result.same)
    if result.repeated:
        lines.append(
            f"{counted(result.repeated, 'photo')} given twice or tuned on before: each photo counts once"
        )
    return lines


def findings(result: UpdateResult) -> list[str]:
    """What changed, how well new photos are recognised, and what that costs the old classes."""
    lines = [f"{changes(result)}."]
    for it in result.classes[:_SHOWN_CLASSES]:
        if it.judged:
            wrong = ", ".join(f"{label} {count}" for label, count in it.taken_for[:_SHOWN_WRONG])
            lines.append(
                f"{it.label}: {it.right} of {counted(it.judged, 'photo')} ({percent(it.right / it.judged)}) "
                f"right, judged without having seen them{'; taken for: ' + wrong if wrong else ''}."
            )
        else:
            lines.append(f"{it.label}: too few photos, or too alike, to judge it by.")
    if len(result.classes) > _SHOWN_CLASSES:
        lines.append(f"... and {len(result.classes) - _SHOWN_CLASSES} more classes; --json has all")
    if any(it.new for it in result.classes):
        lines.append(_cost(result))
    if result.calibration != ANEW and result.classes:
        kept = "The logit scale is as it was"
        joined = "; the scores of 'none of these' take the new photos in."
        lines.append(kept + (joined if result.calibration == JOINED else "."))
    return lines


def _cost(result: UpdateResult) -> str:
    if result.cost is not None:
        return (
            f"The old classes lose {100 * result.cost.loss:.1f} points to the new, on "
            f"{counted(result.cost.photos, 'photo')} of theirs that were kept away in turn."
        )
    return (
        "Their cost for the old classes is not known: there are no photos of these to tell by. qprompt-edge "
        "eval tells, with some."
    )


def facts(result: UpdateResult) -> str:
    """The size of the prompt, and what the update took."""
    photos = (
        f", tuned on {counted(sum(result.prompt.photos), 'photo')} in all" if result.prompt.photos else ""
    )
    how = (
        {True: "all classes tuned again", False: "only these classes tuned"}[result.from_photos]
        if result.classes
        else "nothing to tune"
    )
    ran = f" ({result.provider}, {result.peak_rss_mb:.0f} MB at most)" if result.provider else ""
    return (
        f"{len(result.prompt.to_bytes())} bytes, {len(result.prompt.classes)} classes{photos}; {how} in "
        f"{result.seconds['total']:.1f} s{ran}"
    )
