"""What `merge` gives back: the prompt, what it comes from, and how it did on held-out photos."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from qprompt_edge.evaluation.paired import Comparison
from qprompt_edge.shipping.merged_prompt import MergedClass
from qprompt_runtime.prompt_file import PromptFile, write_prompt_file
from qprompt_runtime.text import counted, percent, printable


@dataclass(frozen=True)
class MergedFile:
    """A prompt that was merged.

    Attributes:
        name: Its path, or its number if it was no file.
        classes: How many classes it has.
        photos: How many photos it was tuned on; None if it does not say.
        merged: Whether it was merged. Of three files or more, one that disagrees with the others is left out.
        agreement: Mean cosine of what it learned to what the others learned, over the classes that others
            know too; None where that is not defined.
        top1: Its accuracy on the hold-out photos; None without them.
    """

    name: str
    classes: int
    photos: int | None
    merged: bool
    agreement: float | None
    top1: float | None


@dataclass(frozen=True)
class MergeTrial:
    """How a merged prompt did on held-out photos.

    Attributes:
        photos: How many photos.
        top1: Accuracy of the merged prompt.
        best: Name of the best file.
        best_top1: Accuracy of the best file.
        change: The merged prompt beside the best file, photo by photo.
        calibrated: Whether the scores for "none of these" are those of these photos; and the probabilities
            too, where no file was calibrated.
    """

    photos: int
    top1: float
    best: str
    best_top1: float
    change: Comparison
    calibrated: bool


@dataclass(frozen=True, repr=False)
class MergeResult:
    """The result of `merge`.

    Attributes:
        prompt: The merged prompt.
        files: The prompts that were merged.
        classes: The classes of the merged prompt, and how many files and photos each comes from.
        trial: How it did on held-out photos; None if there were none.
    """

    prompt: PromptFile
    files: tuple[MergedFile, ...]
    classes: tuple[MergedClass, ...]
    trial: MergeTrial | None

    def __repr__(self) -> str:
        return f"<MergeResult {self.prompt.about}, of {counted(len(self.files), 'file')}>"

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
        return "\n".join(map(printable, (*findings(self), facts(self))))


def findings(result: MergeResult) -> list[str]:
    """Files that were left out, and how the merged prompt did on held-out photos."""
    trial, left = result.trial, [it for it in result.files if not it.merged]
    usual = median([it.agreement for it in result.files if it.agreement is not None] or [0.0])
    lines = [
        f"left out {it.name}: what it learned disagrees with the other files (agreement {it.agreement:.2f}, usually "
        f"{usual:.2f})"
        for it in left
    ]
    if trial is None:
        return [
            *lines,
            "not tried on photos: give --holdout FOLDER to compare it with the files it comes from",
        ]
    low, high = (100 * bound for bound in trial.change.interval)
    lines.append(
        f"on {counted(trial.photos, 'hold-out photo')}: {percent(trial.top1)} are right, {percent(trial.best_top1)} with the "
        f"best file, {trial.best} ({100 * trial.change.difference:+.1f} points, 95% interval {low:+.1f} to {high:+.1f}; "
        f"p {trial.change.p:.2g})"
    )
    if trial.calibrated:
        lines.append('"none of these" is calibrated on the hold-out photos')
    return lines


def facts(result: MergeResult) -> str:
    """Size and content of the merged prompt in one line."""
    prompt = result.prompt
    photos = f", tuned on {counted(sum(prompt.photos), 'photo')}" if prompt.photos else ""
    return f"{len(prompt.to_bytes())} bytes, {prompt.about}, of {counted(sum(it.merged for it in result.files), 'file')}{photos}"
