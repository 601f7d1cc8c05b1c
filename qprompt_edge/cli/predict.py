"""`qprompt-edge predict`: classify photos with a prompt."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from qprompt_edge.cache import cache_folder
from qprompt_edge.cli.output import counted, emit, fail, percent, progress_reporter, reported, say, table
from qprompt_edge.cli.parameters import (
    PATH,
    json_option,
    max_memory_option,
    number_option,
    own_backbone_option,
    prompt_option,
    provider_option,
    threads_option,
)
from qprompt_edge.data.photos import list_images
from qprompt_edge.memory import check_limit, fit_activations
from qprompt_runtime.classifier import Prediction, PromptClassifier
from qprompt_runtime.errors import ImageError, PhotosError
from qprompt_runtime.text import printable


@click.command("predict")
@click.argument("images", type=PATH, nargs=-1, required=True)
@prompt_option
@own_backbone_option
@click.option("--classes", help="Class names that replace the prompt's own, as a,b,c.")
@number_option("--top-k", int, "Classes to name for each photo.", 1, default=1)
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV on stdout: image,label,probability.")
@provider_option
@threads_option
@max_memory_option
@json_option
@reported
def command(
    images: Sequence[Path],
    prompt: Path,
    backbone: str | None,
    classes: str | None,
    top_k: int,
    as_csv: bool,
    provider: str,
    threads: int,
    max_memory: float | None,
    as_json: bool,
) -> None:
    """Classify IMAGES: image files, or folders of them. With --json, one line for each.

    Example: qprompt-edge predict new.jpg more/ --prompt belt.qpt --top-k 3
    """
    if as_json and as_csv:
        raise click.BadParameter("choose one of --json and --csv")
    names = None if classes is None else _names(classes)
    paths = list_images(images)
    classifier = PromptClassifier.load(
        prompt, backbone, classes=names, provider=provider, threads=threads, cache=cache_folder() / "classes"
    )
    fit_activations(classifier.backbone, max_memory, tuning=False)
    rows, unread = [], 0
    writer = csv.writer(sys.stdout)
    if as_csv:
        writer.writerow(["image", "label", "probability"])
    with progress_reporter() as reporter:
        for done, (path, answer) in enumerate(_answers(classifier, paths, top_k), start=1):
            if isinstance(answer, ImageError):
                unread += 1
                _refuse(path, answer, as_json)
                continue
            pairs = list(zip(answer.labels, answer.probabilities, strict=True))
            if as_json:
                predictions = [{"label": label, "probability": value} for label, value in pairs]
                emit({"image": str(path), "predictions": predictions})
            elif as_csv:
                writer.writerows([path, label, f"{value:.6f}"] for label, value in pairs)
            else:
                rows.append([str(path), ", ".join(f"{label} {percent(value)}" for label, value in pairs)])
                reporter.stage("classifying", done, len(paths))
    check_limit(max_memory, "classifying")
    if rows:
        table(counted(len(rows), "photo"), {"image": "left", "class": "left"}, rows)
    if unread:
        message = f"{unread} of {len(paths)} files could not be read"
        if as_json or as_csv:  # each was reported in its place
            say(message)
            raise click.exceptions.Exit(1)
        fail(message, as_json=False)


def _names(classes: str) -> list[str]:
    names = [name.strip() for name in classes.split(",") if name.strip()]
    if len(names) < 2 or len(set(names)) < len(names):
        raise PhotosError(
            f"--classes {classes!r}: expected at least two different names, separated by commas"
        )
    return names


def _answers(
    classifier: PromptClassifier, paths: list[Path], top_k: int
) -> Iterator[tuple[Path, Prediction | ImageError]]:
    """Each photo with its prediction, or with the reason why there is none."""
    for path in paths:
        try:
            yield path, classifier.predict(path, top_k)
        except ImageError as error:
            yield path, error


def _refuse(path: Path, error: ImageError, as_json: bool) -> None:
    say(f"skipped {error}")
    if as_json:
        emit({"image": str(path), "error": printable(str(error))})
