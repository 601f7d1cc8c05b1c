"""`qprompt-edge predict`: classify photos with a prompt."""

from __future__ import annotations

import csv
import functools
import sys
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from qprompt_edge.cache import cache_folder
from qprompt_edge.cli.output import emit, fail, progress_reporter, reported, say, table
from qprompt_edge.cli.parameters import (
    OUTPUT,
    AcceptOption,
    ClassesOption,
    JsonOption,
    MaxMemoryOption,
    OwnBackboneOption,
    PolicyOption,
    PromptOption,
    ProviderOption,
    TaskOption,
    ThreadsOption,
    TrustOption,
    argument,
    names_in,
    number,
    option,
)
from qprompt_edge.data.photos import list_images
from qprompt_edge.memory import check_limit, check_photo, fit_activations
from qprompt_runtime.classifier import PromptClassifier
from qprompt_runtime.errors import ImageError
from qprompt_runtime.policy import Policy
from qprompt_runtime.prediction import Prediction
from qprompt_runtime.text import counted, percent, printable

NONE = "none of these"


@reported
def command(
    images: Annotated[list[Path], argument("IMAGES", "Image files, or folders of them.")],
    prompt: PromptOption = Path("prompt.qpt"),
    backbone: OwnBackboneOption = None,
    classes: ClassesOption = None,
    top_k: Annotated[int, number(OUTPUT, "Number of classes to print for each photo.", 1)] = 1,
    accept: AcceptOption = None,
    as_csv: Annotated[bool, option(OUTPUT, "Print CSV: image,label,probability.", "--csv")] = False,
    as_json: JsonOption = False,
    policy: PolicyOption = None,
    trust: TrustOption = None,
    task: TaskOption = None,
    provider: ProviderOption = "auto",
    threads: ThreadsOption = 0,
    max_memory: MaxMemoryOption = None,
) -> None:
    """Classify photos with a prompt.

    On a terminal, prints a table. To a file or a pipe, prints a line for each photo as soon as it is done:
    path, label and probability, separated by tabs; with --top-k, more labels and probabilities. With --json,
    each line is a JSON object.

    With --accept 0.95, photos that look like no class are answered with "none of these". 95% of the photos of
    the classes keep their label.

    Example: qprompt-edge predict new.jpg more/ --prompt belt.qpt --top-k 3
    """
    if as_json and as_csv:
        raise typer.BadParameter("choose one of --json and --csv")
    names = None if classes is None else names_in(classes)
    paths, lost = list_images(images)
    classifier = PromptClassifier.load(
        prompt,
        backbone,
        classes=names,
        provider=provider,
        threads=threads,
        cache=cache_folder("classes"),
        accept=accept,
        policy=Policy.of(policy, trust, task),
    )
    fit_activations(classifier.backbone, max_memory, tuning=False)
    as_table = not (as_json or as_csv) and sys.stdout.isatty()
    rows, unread = [], len(lost)
    if as_csv:
        extra = [] if classifier.least_score is None else ["none_of_these"]
        _write_csv([["image", "label", "probability", *extra]])
    for skip in lost:
        _refuse(skip.path, ImageError(skip.reason, printable(skip.path)), as_json)
    check = functools.partial(check_photo, max_memory)
    with (
        progress_reporter() as reporter,
        closing(classifier.predict_many(paths, top_k, check=check)) as answers,
    ):
        for done, (path, answer) in enumerate(answers, start=1):
            if isinstance(answer, ImageError):
                unread += 1
                _refuse(path, answer, as_json)
            elif as_table:
                named = zip(answer.labels, answer.probabilities, strict=True)
                shown = ", ".join(f"{label} {percent(value)}" for label, value in named)
                rows.append([str(path), f"{NONE} ({shown})" if answer.none_of_these else shown])
            else:
                _write(path, answer, as_json, as_csv)
            if not (as_json or as_csv):
                reporter.stage("classifying", done, len(paths))
    check_limit(max_memory, "classifying")
    if rows:
        table(counted(len(rows), "photo"), {"image": "left", "class": "left"}, rows)
    if unread:
        message = f"{unread} of {len(paths) + len(lost)} files could not be read"
        if as_json or as_csv:  # each was reported in its place
            say(message)
            raise typer.Exit(1)
        fail(message, as_json=False)


def _write(path: Path, answer: Prediction, as_json: bool, as_csv: bool) -> None:
    """One photo's answer, as soon as it is there, for whatever reads our output."""
    pairs, none = list(zip(answer.labels, answer.probabilities, strict=True)), answer.none_of_these
    if as_json:
        predictions = [{"label": label, "probability": value} for label, value in pairs]
        said = {} if none is None else {"none_of_these": none}
        emit({"image": str(path), "predictions": predictions, **said})
    elif as_csv:
        extra = [] if none is None else [str(none).lower()]
        _write_csv([str(path), label, f"{value:.6f}", *extra] for label, value in pairs)
    elif none:
        sys.stdout.write(f"{printable(path)}\t{NONE}\n")
        sys.stdout.flush()
    else:  # a tab within a name would be shown as \t
        cells = (cell for label, value in pairs for cell in (printable(label), f"{value:.6f}"))
        sys.stdout.write("\t".join((printable(path), *cells)) + "\n")
        sys.stdout.flush()


def _write_csv(rows: Iterable[list[str]]) -> None:
    csv.writer(sys.stdout, lineterminator="\n").writerows(rows)
    sys.stdout.flush()


def _refuse(path: Path, error: ImageError, as_json: bool) -> None:
    say(f"skipped {error}")
    if as_json:
        emit({"image": str(path), "error": printable(str(error))})
