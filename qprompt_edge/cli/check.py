"""`qprompt-edge check`: look at photos before a prompt is tuned on them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from qprompt_edge.checking.check import check
from qprompt_edge.checking.result import CheckResult
from qprompt_edge.checking.words import SHOWN, curve_lines, first_line, sections
from qprompt_edge.cli.output import emit, progress_reporter, reported, show, table
from qprompt_edge.cli.parameters import (
    BackboneOption,
    JsonOption,
    LabelsOption,
    MaxMemoryOption,
    ProviderOption,
    ThreadsOption,
    argument,
)
from qprompt_runtime.bundle import DEFAULT_BACKBONE


@reported
def command(
    photos: Annotated[Path, argument("PHOTOS", "Folder with one sub-folder of photos per class.")],
    labels: LabelsOption = None,
    backbone: BackboneOption = DEFAULT_BACKBONE,
    as_json: JsonOption = False,
    provider: ProviderOption = "auto",
    threads: ThreadsOption = 0,
    max_memory: MaxMemoryOption = None,
) -> None:
    """Look for what is wrong with photos, before a prompt is tuned on them.

    Finds files that cannot be read, photos that may have the wrong label, duplicates, blurred, dark and
    blown-out photos, classes that are short of photos or cannot be told apart, and says whether more photos
    would help. Nothing is changed.

    Example: qprompt-edge check ./photos
    """
    with progress_reporter() as reporter:
        result = check(
            photos,
            labels=labels,
            backbone=backbone,
            provider=provider,
            threads=threads,
            max_memory=max_memory,
            reporter=reporter,
        )
    _show(result, aside=as_json)
    if as_json:
        emit(result.to_json())


def _show(result: CheckResult, *, aside: bool) -> None:
    """The result as people read it: what `CheckResult.summary` says, in tables."""
    show(first_line(result), aside=aside)
    for section in sections(result):
        show("", aside=aside)
        rows = [list(row) for row in section.rows[:SHOWN]]
        table(section.title, dict.fromkeys(section.columns, "left"), rows, aside=aside)
        if section.more:
            show(section.more, aside=aside)
        show(section.advice, aside=aside)
    show("", aside=aside)
    for line in curve_lines(result):
        show(line, aside=aside)
