"""The result of `adapt`: the prompt, the verdict, and a report in words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from qprompt_edge.adaptation.options import SHARED, AdaptOptions
from qprompt_edge.adaptation.resume import WorkDir
from qprompt_edge.data.photos import SkippedPhoto
from qprompt_edge.data.same_photos import SamePhoto, same_lines
from qprompt_edge.evaluation.metrics import Scores
from qprompt_edge.evaluation.mistakes import Mistake
from qprompt_edge.evaluation.paired import Comparison
from qprompt_runtime.backbone import Backbone
from qprompt_runtime.classifier import PromptClassifier
from qprompt_runtime.manifest import Manifest
from qprompt_runtime.prompt_file import CONTEXT, PromptFile, write_prompt_file
from qprompt_runtime.text import counted, percent, printable

_SHOWN_SKIPPED = 10
_FAR_FROM_PROBE = 0.1


@dataclass(frozen=True)
class Holdout:
    """Scores on photos that were not trained on.

    Attributes:
        zero_shot: The hand-written prompt.
        context: The context of the prompt that is written, without what was learned for each class: what
            names get that were not tuned. For a prompt that is all context it is `adapted`.
        adapted: The prompt that is written.
        probe: A linear probe on the same image features: what the backbone's features allow.
        missing: Classes without a photo to judge by.
        change: What adaptation changed: top-1 of `adapted` beside that of `zero_shot`, photo by photo.
        mistakes: Photos that `adapted` gets wrong, the most confident first.
    """

    zero_shot: Scores
    context: Scores
    adapted: Scores
    probe: Scores
    missing: tuple[str, ...]
    change: Comparison
    mistakes: tuple[Mistake, ...]

    @property
    def has_own_context(self) -> bool:
        """Whether the context answers otherwise than zero-shot and than the prompt; else it tells nothing."""
        others = (self.zero_shot, self.adapted)
        return not any(np.array_equal(self.context.confusion, it.confusion) for it in others)


@dataclass(frozen=True, repr=False)
class AdaptResult:
    """The result of `adapt`.

    Attributes:
        prompt: The tuned prompt.
        holdout: The verdict, or None if nothing was held out.
        options: The options that were used.
        provider: Execution provider that ran it.
        backbone_name: The backbone's model name.
        manifest: Facts of the backbone.
        trained: The photos trained on.
        class_photos: Photos of each class trained on, in the order of the prompt's classes.
        single: Classes with only one photo to train on.
        skipped: Files that were left out, and test photos that are trained on.
        same: Photos that are in several classes; they do not count in the verdict.
        steps: Training steps in the whole schedule.
        seconds: `encode`, `train` and `total`.
        peak_rss_mb: Peak resident memory.
        work: The work directory, which holds the finished training until the prompt is saved.
    """

    prompt: PromptFile
    holdout: Holdout | None
    options: AdaptOptions
    provider: str
    backbone_name: str
    manifest: Manifest
    trained: tuple[Path, ...]
    class_photos: tuple[int, ...]
    single: tuple[str, ...]
    skipped: tuple[SkippedPhoto, ...]
    same: tuple[SamePhoto, ...]
    steps: int
    seconds: dict[str, float]
    peak_rss_mb: float
    work: WorkDir

    @property
    def train_photos(self) -> int:
        """How many photos were trained on."""
        return len(self.trained)

    def __repr__(self) -> str:
        if self.holdout is None:
            return f"<AdaptResult {self.prompt.about}: nothing held out>"
        before, after = self.holdout.zero_shot, self.holdout.adapted
        return (
            f"<AdaptResult {self.prompt.about}: {percent(before.top1)} before, {percent(after.top1)} after, "
            f"on {counted(after.n, 'photo')}>"
        )

    def save(self, path: str | Path, seal: Callable[[bytes], bytes] | None = None) -> None:
        """Write the prompt file, then remove the finished training from the work directory.

        Args:
            path: File to write; an existing file is replaced.
            seal: Makes a signed prompt of the file's bytes; None: it is not signed.

        Raises:
            OutputError: It cannot be written.
        """
        write_prompt_file(Path(path), self.prompt, seal)
        self.work.finish()

    def classifier(self) -> PromptClassifier:
        """A classifier with the tuned prompt, on the backbone, provider and threads of the tuning.

        Raises:
            BundleError: The backbone is no longer there.
        """
        options = self.options
        backbone = Backbone.load(options.backbone, options.provider, options.threads)
        return PromptClassifier(self.prompt, backbone)

    def summary(self) -> str:
        """The report that the command prints: files left out, scores, verdict, time and memory.

        Returns:
            Lines of plain text. Options have the command line's names, which are those of `adapt`'s
            arguments.
        """
        lines = (*notes(self), *score_lines(self.holdout), verdict(self), facts(self))
        return "\n".join(map(printable, lines))


def notes(result: AdaptResult) -> list[str]:
    """Lines about files that were left out, and classes with too few photos."""
    lines = [f"skipped {skip.path}: {skip.reason}" for skip in result.skipped[:_SHOWN_SKIPPED]]
    more = len(result.skipped) - _SHOWN_SKIPPED
    if more > 0:
        lines.append(f"... and {counted(more, 'more file')}; --json and result.skipped have all")
    lines += same_lines(result.same, "; it is not judged by")
    if result.single:
        lines.append(f"trained on a single photo: {', '.join(result.single)}")
    if result.holdout is not None and result.holdout.missing:
        lines.append(
            f"no photo to judge by (fewer than 4, or too alike): {', '.join(result.holdout.missing)}; "
            "--test-images DIR judges by photos of your choice"
        )
    return lines


def score_lines(holdout: Holdout | None) -> list[str]:
    """The scores as a table: its title, its heading, a line for each; nothing if nothing was held out."""
    if holdout is None:
        return []
    named = [("zero-shot", holdout.zero_shot), ("adapted", holdout.adapted), ("linear probe", holdout.probe)]
    if holdout.has_own_context:
        named.insert(1, ("context alone", holdout.context))
    return [
        f"On {counted(holdout.adapted.n, 'photo')} not trained on",
        f"{'':13}  top-1  mean over classes",
        *(f"{name:13} {percent(it.top1):>6} {percent(it.class_mean):>18}" for name, it in named),
    ]


def facts(result: AdaptResult) -> str:
    """The size of the prompt, and what tuning it took."""
    return (
        f"{len(result.prompt.to_bytes())} bytes, {len(result.prompt.classes)} classes, "
        f"{counted(result.options.training.bits, 'bit')} a weight, tuned on {result.train_photos} photos in "
        f"{result.steps} steps and {result.seconds['total']:.1f} s ({result.provider}, "
        f"{result.peak_rss_mb:.0f} MB at most)"
    )


def verdict(result: AdaptResult) -> str:
    """What the hold-out says, in words."""
    holdout, options = result.holdout, result.options
    may_split = options.method == CONTEXT and options.contexts == SHARED
    if holdout is None:
        return (
            "Nothing was held out, so nothing says how good this is; give --test-images DIR or --holdout 0.2."
        )
    change, n = holdout.change, counted(holdout.adapted.n, "photo")
    low, high = (100 * bound for bound in change.interval)
    found = (
        f"{percent(holdout.zero_shot.top1)} before, {percent(holdout.adapted.top1)} after, a difference of "
        f"{100 * change.difference:+.1f} points (95% interval {low:+.1f} to {high:+.1f}; p {change.p:.2g})"
    )
    if change.helped:
        probe = holdout.probe.top1
        far = may_split and probe - holdout.adapted.top1 > _FAR_FROM_PROBE
        closer = " --contexts per-class may come closer." if far else ""
        return f"Adaptation helped: {found}; a linear probe on the same features reaches {percent(probe)}.{closer}"
    per_class = "--contexts per-class, " if may_split else ""
    may_help = (
        "What may help: more photos of each class, words that describe the classes (--class-names), "
        f"{per_class}more --bits, or a larger --backbone."
    )
    if change.helped is None:
        return (
            f"Too close to call with {n}: {found}. More photos to judge by, with --test-images DIR or a larger "
            f"--holdout, would tell. {may_help}"
        )
    return f"Adaptation did not help, it made it worse: {found}. {may_help}"
