"""The reports of `adapt` and `eval`: their results, piece by piece."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

from qprompt_edge.adaptation.result import AdaptResult, Holdout
from qprompt_edge.checking.result import CheckResult
from qprompt_edge.evaluation.evaluate import PromptReport
from qprompt_edge.evaluation.metrics import Scores, confidence_bins
from qprompt_edge.evaluation.mistakes import Mistake
from qprompt_edge.reporter import Reporter
from qprompt_edge.reporting import words
from qprompt_edge.reporting.classes import confusion, needing_photos, per_class
from qprompt_edge.reporting.files import left_out, sizes
from qprompt_edge.reporting.findings import findings, photos_to_show
from qprompt_edge.reporting.gallery import MOST_MISTAKES, mistakes, pictures_of
from qprompt_edge.reporting.markup import element, shown
from qprompt_edge.reporting.measured import Measured, accuracies, no_verdict, verdict
from qprompt_edge.reporting.page import Section, report_page
from qprompt_edge.reporting.reliability import reliability
from qprompt_runtime.manifest import Manifest
from qprompt_runtime.prompt_file import PromptFile
from qprompt_runtime.text import counted, percent

_MINUTES = "%Y-%m-%d %H:%M"


@dataclass(frozen=True)
class JudgedParts:
    """What was measured on photos, as pieces of HTML; `piece_styles` makes them look well.

    Attributes:
        verdict: Whether the prompt helps.
        accuracy: How good it is, beside zero-shot and others on the same photos.
        classes: How good it is for each class.
        confusion: What is taken for what.
    """

    verdict: str
    accuracy: str
    classes: str
    confusion: str


def adapt_parts(result: AdaptResult) -> JudgedParts | None:
    """The judgement of an adaptation; None if nothing was held out."""
    judged = result.holdout
    if judged is None:
        return None
    measured = _measured(judged)
    after = next(row for row in measured if row.name == words.ADAPTED[0])
    photos = words.HELD_OUT.format(photos=counted(judged.adapted.n, "photo"))
    labels = [name.label for name in result.prompt.classes]
    return JudgedParts(
        verdict=verdict(judged.change, measured[0], after, photos),
        accuracy=accuracies(measured),
        classes=per_class(labels, judged.adapted.confusion),
        confusion=confusion(labels, judged.adapted.confusion),
    )


def eval_parts(report: PromptReport, photos: str) -> JudgedParts:
    """The judgement of a prompt that was there already.

    Args:
        report: What `judge_prompt` returned.
        photos: Which photos, such as `48 photos that it was not tuned on`.
    """
    before = Measured.of(report.zero_shot, *words.ZERO_SHOT)
    after = Measured.of(report.scores, *words.ADAPTED)
    return JudgedParts(
        verdict=verdict(report.change, before, after, photos),
        accuracy=accuracies([before, after]) + _refused(report),
        classes=per_class(report.labels, report.scores.confusion),
        confusion=confusion(report.labels, report.scores.confusion),
    )


def adapt_report(
    result: AdaptResult,
    name: str,
    *,
    checked: CheckResult | None = None,
    made: datetime | None = None,
    reporter: Reporter | None = None,
) -> str:
    """The report of an adaptation as an HTML page.

    Args:
        result: What `adapt` returned; its photos must still be there for pictures of the mistakes.
        name: What the prompt is called: its file's name.
        checked: What `check` found in the photos, to stand on the page too.
        made: When; None takes now.
        reporter: Told how far it is.
    """
    prompt, judged, options = result.prompt, result.holdout, result.options
    labels = [name.label for name in prompt.classes]
    folder = options.test_images or options.photos
    parts = adapt_parts(result)
    pictures = _pictured(judged.mistakes, folder, reporter, options.max_memory) if judged else ""
    lead = words.ADAPT_LEAD.format(
        classes=counted(len(labels), "class", "classes"),
        trained=counted(result.train_photos, "photo"),
        made=(made or datetime.now()).strftime(_MINUTES),
    )
    sections = [
        Section("accuracy", words.ACCURACY, parts.accuracy if parts else ""),
        *(_answers(parts, pictures) if parts else []),
        Section(
            "photos",
            words.NEEDS,
            needing_photos(labels, result.class_photos, judged.adapted.confusion if judged else None),
        ),
        _checked(checked, options.photos, reporter, options.max_memory),
        *([_confidence(judged.adapted)] if judged else []),
        Section("left-out", words.LEFT_OUT, left_out(result.skipped, result.same, folder, judged=False)),
        Section("size", words.SIZE, sizes(len(prompt.to_bytes()), len(labels), result.manifest)),
    ]
    opening = parts.verdict if parts else no_verdict()
    return report_page(words.ADAPT_KIND, shown(name), lead, opening, sections, _adapt_settings(result))


def eval_report(
    report: PromptReport,
    name: str,
    images: Path,
    *,
    checked: CheckResult | None = None,
    made: datetime | None = None,
    max_memory: float | None = None,
    reporter: Reporter | None = None,
) -> str:
    """The report of an evaluation as an HTML page.

    Args:
        report: What `judge_prompt` returned; its photos must still be there for pictures of the mistakes.
        name: What the prompt is called: its file's name.
        images: Where the photos are.
        checked: What `check` found in them, to stand on the page too.
        made: When; None takes now.
        max_memory: Limit on the resident memory of the process, in MB of 10^6 bytes. A photo that takes
            more has no picture.
        reporter: Told how far it is.
    """
    prompt, labels = report.prompt, report.labels
    judged = counted(report.scores.n, "photo")
    parts = eval_parts(report, judged)
    opening = parts.verdict + element("p", words.MAY_BE_TRAINED, class_="r-muted")
    lead = words.EVAL_LEAD.format(
        classes=counted(len(labels), "class", "classes"),
        judged=judged,
        made=(made or datetime.now()).strftime(_MINUTES),
    )
    sections = [
        Section("accuracy", words.ACCURACY, parts.accuracy),
        *_answers(parts, _pictured(report.mistakes, images, reporter, max_memory)),
        Section("photos", words.NEEDS, needing_photos(labels, prompt.photos, report.scores.confusion)),
        _checked(checked, images, reporter, max_memory),
        _confidence(report.scores),
        Section("left-out", words.LEFT_OUT, left_out(report.skipped, report.same, images, judged=True)),
        Section("size", words.SIZE, sizes(len(prompt.to_bytes()), len(labels), report.manifest)),
    ]
    settings = [("photos", shown(images)), *_prompt_settings(prompt), *_backbone_settings(report.manifest)]
    return report_page(words.EVAL_KIND, shown(name), lead, opening, sections, settings)


def _refused(report: PromptReport) -> str:
    """How many photos were "none of these", and the accuracy on the others. Nothing where that is off."""
    if report.accepted is None:
        return ""
    refused, top1 = int((~report.accepted).sum()), report.top1_of_accepted
    said = words.REFUSED.format(refused=refused, photos=counted(len(report.accepted), "photo"))
    more = "" if top1 is None else " " + words.OF_THE_OTHERS.format(top1=percent(top1))
    return element("p", said + more)


def _measured(judged: Holdout) -> list[Measured]:
    """Each classifier once: a context that answers as zero-shot or as the prompt does is left out."""
    rows = [(judged.zero_shot, words.ZERO_SHOT)]
    rows += [(judged.context, words.CONTEXT)] if judged.has_own_context else []
    rows += [(judged.adapted, words.ADAPTED), (judged.probe, words.PROBE)]
    return [Measured.of(scores, *texts) for scores, texts in rows]


def _pictured(
    wrong: Sequence[Mistake], folder: Path, reporter: Reporter | None, max_memory: float | None
) -> str:
    paths = [mistake.path for mistake in wrong[:MOST_MISTAKES]]
    return mistakes(wrong, pictures_of(paths, folder, reporter or Reporter(), max_memory))


def _checked(
    result: CheckResult | None, folder: Path, reporter: Reporter | None, max_memory: float | None
) -> Section:
    body = ""
    if result is not None:
        paths = photos_to_show(result)
        pictures = pictures_of(paths, folder, reporter or Reporter(), max_memory)
        body = findings(result, dict(zip(paths, pictures, strict=True)), folder)
    return Section("check", words.CHECKED, body)


def _answers(parts: JudgedParts, pictures: str) -> list[Section]:
    """What the prompt answered."""
    return [
        Section("classes", words.PER_CLASS, parts.classes),
        Section("confusion", words.CONFUSION, parts.confusion),
        Section("mistakes", words.MISTAKES, pictures),
    ]


def _confidence(scores: Scores) -> Section:
    bins = confidence_bins(scores.confidence, scores.right)
    return Section("confidence", words.RELIABILITY, reliability(bins, scores.ece))


def _adapt_settings(result: AdaptResult) -> list[tuple[str, str]]:
    options, training = result.options, result.options.training
    seconds = {name: f"{value:.1f} s" for name, value in result.seconds.items()}
    pairs: list[tuple[str, object]] = [
        ("photos", options.photos),
        ("labels", options.labels),
        ("test_images", options.test_images),
        ("class_names", options.class_names),
        ("holdout", percent(options.holdout) if options.test_images is None else None),
        ("shots", options.shots),
        ("views", options.views or None),
        ("contexts", options.contexts),
        ("epochs", training.epochs),
        ("steps", result.steps),
        ("batch_size", training.batch_size),
        ("lr", training.lr),
        ("seed", training.seed),
        ("time", words.TIMES_TAKEN.format(**seconds)),
        ("memory", f"{result.peak_rss_mb:.0f} MB"),
        ("provider", result.provider),
    ]
    own = [(name, shown(str(value))) for name, value in pairs if value is not None]
    return [*own, *_prompt_settings(result.prompt), *_backbone_settings(result.manifest)]


def _prompt_settings(prompt: PromptFile) -> list[tuple[str, str]]:
    before, after = prompt.template
    accept = prompt.calibration.accept
    return [
        ("method", shown(prompt.method)),
        ("bits", str(prompt.groups[0].bits)),
        ("template", shown(f"{before} … {after}")),
        ("accept", words.OFF if accept is None else percent(accept)),
    ]


def _backbone_settings(manifest: Manifest) -> list[tuple[str, str]]:
    return [
        ("backbone", shown(manifest.name)),
        ("fingerprint", shown(manifest.fingerprint)),
        ("licence", shown(manifest.licence)),
        ("tool", f"qprompt-edge {shown(version('qprompt-edge'))}"),
    ]
