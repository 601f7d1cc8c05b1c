"""`qprompt-edge reproduce`: the paper's protocols on any data, with every method that it compares."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.markdown import Markdown

from qprompt_edge.cli.output import console, counted, emit, progress_reporter, reported, say
from qprompt_edge.cli.parameters import (
    BackboneOption,
    JsonOption,
    MaxMemoryOption,
    ProtocolName,
    ProviderOption,
)
from qprompt_edge.methods.recipes import RECIPES
from qprompt_edge.protocols import base_to_new, few_shot, transfer
from qprompt_edge.reproduction.executors import BackboneChoice
from qprompt_edge.reproduction.experiment import Experiment, needs_deep
from qprompt_edge.reproduction.jobs import Job
from qprompt_edge.reproduction.plots import check_plots
from qprompt_edge.reproduction.report import write_report
from qprompt_edge.reproduction.sets import find_sets
from qprompt_edge.reproduction.tables import points
from qprompt_runtime.files import check_writable

EVERY_METHOD = "all"


def _numbers(text: str, least: int) -> list[int]:
    """Parse `1,2,3`; each is `least` or more."""
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a list of whole numbers such as 1,2,3") from None
    if min(numbers) < least:
        raise typer.BadParameter(f"{text!r} has a number below {least}")
    return list(dict.fromkeys(numbers))


def _methods(text: str) -> list[str]:
    """Parse `coop,qcoop-1`, or `all`."""
    if text == EVERY_METHOD:
        return list(RECIPES)
    names = list(dict.fromkeys(text.split(",")))
    unknown = next((name for name in names if name not in RECIPES), None)
    if unknown is not None:
        raise typer.BadParameter(f"unknown method {unknown!r}; known are all, {', '.join(RECIPES)}")
    return names


@reported
def command(
    sets: Annotated[
        list[str],
        typer.Option(
            "--set", help="Data set: a name of docs/datasets.md, or NAME=FOLDER of class folders; repeatable."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the results; the same command goes on in it.")],
    protocol: Annotated[
        ProtocolName, typer.Option(help="cross-dataset and domain train on the first --set.")
    ] = ProtocolName.base2new,
    methods: Annotated[
        str, typer.Option(help="Comma-separated, or all.", metavar="LIST")
    ] = "zero-shot,coop,qcoop-1",
    seeds: Annotated[str, typer.Option(help="One draw and one training each.", metavar="LIST")] = "1,2,3",
    shots: Annotated[
        str, typer.Option(help="Photos of each class to train on; few-shot takes a list.", metavar="LIST")
    ] = "16",
    data: Annotated[Path | None, typer.Option(help="Folder that holds the named data sets.")] = None,
    backbone: BackboneOption = "tiny",
    epochs: Annotated[
        int | None,
        typer.Option(min=1, help="Replaces each method's own: 50 for contexts, 10 for deep prompts."),
    ] = None,
    lr: Annotated[float | None, typer.Option(min=0, help="Replaces each method's own.")] = None,
    jobs: Annotated[int, typer.Option(min=0, help="Jobs side by side; 0 takes one for each core.")] = 0,
    ray: Annotated[
        str | None, typer.Option(help="Run on this Ray cluster instead: an address, auto, or local.")
    ] = None,
    report: Annotated[
        Path | None, typer.Option(help="Markdown file to write; OUT/results.md by default.")
    ] = None,
    plots: Annotated[bool, typer.Option("--plots", help="Draw plots beside the report.")] = False,
    provider: ProviderOption = "auto",
    max_memory: MaxMemoryOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run one of the paper's protocols and report means, deviations, and what its claims come to.

    Results of several protocols gather in one folder, and the report covers them all. A run that was stopped goes on.

    Example: `qprompt-edge reproduce --set pets=./pets --set tools=./tools --out runs`
    """
    if plots:
        check_plots()
    if report is not None:
        check_writable(report)
    names = _methods(methods)
    found = find_sets(sets, data)
    planned = plan(protocol, names, list(found), _numbers(shots, 1), _numbers(seeds, 0))
    experiment = Experiment(
        jobs=planned,
        sets=found,
        choice=BackboneChoice(backbone, needs_deep(names), provider, max_memory=max_memory),
        training={key: value for key, value in (("epochs", epochs), ("lr", lr)) if value is not None},
    )
    with progress_reporter() as reporter:
        store = experiment.run(out, processes=jobs or os.cpu_count() or 1, ray=ray, reporter=reporter)
    written = write_report(store, report or out / "results.md", plots=plots)
    console().print(Markdown(written.tables))
    for verdict in written.verdicts:
        difference = verdict.difference
        interval = f"{points(difference.value)}, {points(difference.low)} to {points(difference.high)}"
        say(f"{verdict.verdict}: {verdict.claim.text} ({interval})")
    say(f"{counted(len(written.outcomes), 'job')}; the report is {written.path}")
    if as_json:
        emit(written.summary)


def plan(
    protocol: ProtocolName,
    methods: Sequence[str],
    sets: Sequence[str],
    shots: Sequence[int],
    seeds: Sequence[int],
) -> list[Job]:
    """The jobs of a protocol.

    Raises:
        typer.BadParameter: A protocol with one number of shots got several, or one with a source has no target.
    """
    if protocol is ProtocolName.few_shot:
        return few_shot(methods, sets, shots, seeds)
    if len(shots) != 1:
        raise typer.BadParameter(f"--protocol {protocol.value} takes one number of --shots, got {len(shots)}")
    if protocol is ProtocolName.base2new:
        return base_to_new(methods, sets, shots[0], seeds)
    if len(sets) < 2:
        raise typer.BadParameter(
            f"--protocol {protocol.value} needs a --set to train on and another to judge by"
        )
    return transfer(protocol.value, methods, sets[0], sets[1:], shots[0], seeds)
