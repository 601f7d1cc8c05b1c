"""`qprompt-edge eval`: judge a prompt on labelled photos."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qprompt_edge.cli.output import emit, progress_reporter, reported, say, show, table
from qprompt_edge.cli.parameters import (
    AcceptOption,
    ImagesOption,
    JsonOption,
    LabelsOption,
    MaxMemoryOption,
    OwnBackboneOption,
    PolicyOption,
    PromptOption,
    ProviderOption,
    ReportOption,
    TaskOption,
    ThreadsOption,
    TrustOption,
)
from qprompt_edge.cli.reports import check_report, write_report
from qprompt_edge.data.same_photos import same_lines
from qprompt_edge.evaluation.evaluate import PromptReport, judge_prompt
from qprompt_runtime.policy import Policy
from qprompt_runtime.text import counted, percent

_SHOWN_MISTAKES = 20


@reported
def command(
    images: ImagesOption,
    prompt: PromptOption = Path("prompt.qpt"),
    labels: LabelsOption = None,
    backbone: OwnBackboneOption = None,
    accept: AcceptOption = None,
    report: ReportOption = None,
    as_json: JsonOption = False,
    policy: PolicyOption = None,
    trust: TrustOption = None,
    task: TaskOption = None,
    provider: ProviderOption = "auto",
    threads: ThreadsOption = 0,
    max_memory: MaxMemoryOption = None,
) -> None:
    """Measure the accuracy of a prompt on labelled photos.

    Reports accuracy, confusions, calibration, and which photos were wrong.

    Example: qprompt-edge eval --images ./more-photos --prompt belt.qpt
    """
    if report is not None:
        check_report(report, prompt)
    with progress_reporter() as reporter:
        judged = judge_prompt(
            prompt,
            images,
            labels=labels,
            backbone=backbone,
            provider=provider,
            threads=threads,
            accept=accept,
            policy=Policy.of(policy, trust, task),
            max_memory=max_memory,
            reporter=reporter,
        )
        if report is not None:
            from qprompt_edge.checking.check import check  # only a report needs them
            from qprompt_edge.reporting.reports import eval_report

            checked = check(
                images,
                labels=labels,
                backbone=backbone or judged.prompt.backbone_name,
                provider=provider,
                threads=threads,
                max_memory=max_memory,
                reporter=reporter,
            )
            page = eval_report(
                judged, prompt.name, images, checked=checked, max_memory=max_memory, reporter=reporter
            )
    if report is not None:
        write_report(report, page, say)
    _show(judged, aside=as_json)
    if as_json:
        emit(as_dict(judged, report))


def as_dict(judged: PromptReport, report: Path | None) -> dict[str, Any]:
    """What was found, as `--json` prints it."""
    scores = judged.scores
    return {
        "top1": scores.top1,
        "class_mean": scores.class_mean,
        "n": scores.n,
        "per_class": dict(zip(judged.labels, map(float, scores.per_class), strict=True)),
        "confusion": {"labels": list(judged.labels), "counts": scores.confusion.tolist()},
        "ece": scores.ece,
        "zero_shot": {"top1": judged.zero_shot.top1, "class_mean": judged.zero_shot.class_mean},
        "mistakes": [mistake.to_json() for mistake in judged.mistakes],
        "none_of_these": None
        if judged.accepted is None
        else {"accepted": float(judged.accepted.mean()), "top1_of_accepted": judged.top1_of_accepted},
        "skipped": [{"path": str(skip.path), "reason": skip.reason} for skip in judged.skipped],
        "in_several_classes": [photo.to_json() for photo in judged.same],
        "report": None if report is None else str(report),
    }


def _show(report: PromptReport, *, aside: bool) -> None:
    scores = report.scores
    for skip in report.skipped:
        say(f"skipped {skip.path}: {skip.reason}")
    for line in same_lines(report.same):
        say(line)
    rows = []
    for index, label in enumerate(report.labels):
        row = scores.confusion[index]
        wrong = [
            f"{report.labels[k]} {row[k]}" for k in (-row).argsort(kind="stable") if k != index and row[k]
        ]
        if row.sum():
            rows.append(
                [label, str(row.sum()), percent(float(scores.per_class[index])), ", ".join(wrong[:3])]
            )
    columns = {"class": "left", "photos": "right", "right": "right", "taken for": "left"}
    table(counted(scores.n, "photo"), columns, rows, aside=aside)
    if report.mistakes:
        shown = report.mistakes[:_SHOWN_MISTAKES]
        table(
            f"Mistakes, the most confident first ({len(shown)} of {len(report.mistakes)})",
            {"photo": "left", "is": "left", "taken for": "left", "probability": "right"},
            [[str(m.path), m.label, m.predicted, percent(m.probability)] for m in shown],
            aside=aside,
        )
    show(
        f"top-1 {percent(scores.top1)} ({percent(scores.class_mean)} as a mean over classes); zero-shot "
        f"{percent(report.zero_shot.top1)}; calibration error {percent(scores.ece)}",
        aside=aside,
    )
    if report.accepted is not None:
        refused = int((~report.accepted).sum())
        show(
            f"none of these: {counted(refused, 'photo')} of {scores.n}; top-1 of the others "
            f"{percent(report.top1_of_accepted or 0.0)}",
            aside=aside,
        )
