"""`qprompt-edge reproduce`: the paper's protocols on any data, with every method that it compares."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer

from qprompt_edge.cli.output import console, emit, progress_reporter, reported, say, show
from qprompt_edge.cli.parameters import (
    INPUT,
    MACHINE,
    OUTPUT,
    TRAINING,
    BackboneOption,
    JsonOption,
    MaxMemoryOption,
    ProviderOption,
    number,
    option,
)
from qprompt_edge.cli.streams import beside_a_file
from qprompt_edge.reproduction.executors import BackboneChoice
from qprompt_edge.reproduction.experiment import Experiment, needs_deep
from qprompt_edge.reproduction.jobs import Job
from qprompt_edge.reproduction.measures import BASE_TO_NEW, FEW_SHOT, GENERALISED
from qprompt_edge.reproduction.plots import check_plots
from qprompt_edge.reproduction.protocols import base_to_new, few_shot, generalised, transfer
from qprompt_edge.reproduction.recipes import RECIPES
from qprompt_edge.reproduction.report import write_report
from qprompt_edge.reproduction.sets import find_sets
from qprompt_edge.reproduction.tables import points
from qprompt_runtime.bundle import DEFAULT_BACKBONE
from qprompt_runtime.cores import usable_cores
from qprompt_runtime.files import check_writable
from qprompt_runtime.text import counted

EVERY_METHOD = "all"
Protocol = Literal["base2new", "generalised", "few-shot", "cross-dataset", "domain"]
"""As `measures.PROTOCOLS`."""


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
        option(
            INPUT,
            "Data set: a name of docs/datasets.md, or NAME=FOLDER of class folders; may be given several "
            "times.",
            "--set",
            metavar="NAME",
        ),
    ],
    out: Annotated[
        Path,
        option(
            OUTPUT,
            "Folder for the results; the same command continues there.",
            "--out",
            "-o",
            metavar="FOLDER",
        ),
    ],
    data: Annotated[
        Path | None, option(INPUT, "Folder that holds the named data sets.", metavar="FOLDER")
    ] = None,
    backbone: BackboneOption = DEFAULT_BACKBONE,
    protocol: Annotated[
        Protocol, option(TRAINING, "Protocol; cross-dataset and domain train on the first --set.")
    ] = "base2new",
    methods: Annotated[
        str, option(TRAINING, "Methods to compare, as a,b,c; or all.", metavar="LIST")
    ] = "zero-shot,coop,qcoop-1",
    seeds: Annotated[
        str, option(TRAINING, "Random seeds; one draw and one training each.", metavar="LIST")
    ] = "1,2,3",
    shots: Annotated[
        str, option(TRAINING, "Photos of each class to train on; few-shot takes a list.", metavar="LIST")
    ] = "16",
    epochs: Annotated[
        int | None,
        number(
            TRAINING,
            "Passes over the photos; by default 50 for contexts, 10 for deep prompts.",
            1,
        ),
    ] = None,
    lr: Annotated[
        float | None, number(TRAINING, "Peak learning rate; the default depends on the method.", 0)
    ] = None,
    report: Annotated[
        Path | None, option(OUTPUT, "Markdown file to write; OUT/results.md by default.", metavar="FILE")
    ] = None,
    plots: Annotated[bool, option(OUTPUT, "Draw plots beside the report.", "--plots")] = False,
    as_json: JsonOption = False,
    jobs: Annotated[
        int, number(MACHINE, "Jobs at a time; 0 takes one for each core that the process may use.", 0)
    ] = 0,
    ray: Annotated[
        str | None,
        option(MACHINE, "Ray cluster to run on instead: an address, auto, or local.", metavar="ADDRESS"),
    ] = None,
    provider: ProviderOption = "auto",
    max_memory: MaxMemoryOption = None,
) -> None:
    """Run one of the paper's protocols.

    Reports means, standard deviations, and tests of the paper's claims. Several protocols may share a folder;
    the report covers all of them. The same command continues a run that was stopped.

    Example: qprompt-edge reproduce --set pets=./pets --set tools=./tools --out runs
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
        store = experiment.run(out, processes=jobs or usable_cores(), ray=ray, reporter=reporter)
    written = write_report(store, report or out / "results.md", plots=plots)
    aside = beside_a_file(as_json)
    _print_tables(written.tables, aside=aside)
    for verdict in written.verdicts:
        difference = verdict.difference
        interval = f"{points(difference.value)}, {points(difference.low)} to {points(difference.high)}"
        show(f"{verdict.verdict}: {verdict.claim.text} ({interval})", aside=aside)
    say(f"{counted(len(written.outcomes), 'job')}; the report is {written.path}")
    if as_json:
        emit(written.summary)


def _print_tables(tables: str, *, aside: bool) -> None:
    """Markdown drawn on a terminal, as it is elsewhere."""
    stream = sys.stderr if aside else sys.stdout
    if not stream.isatty():
        typer.echo(tables, err=aside)
        return
    from rich.markdown import Markdown

    console(stderr=aside).print(Markdown(tables))


def plan(
    protocol: str,
    methods: Sequence[str],
    sets: Sequence[str],
    shots: Sequence[int],
    seeds: Sequence[int],
) -> list[Job]:
    """The jobs of a protocol.

    Raises:
        typer.BadParameter: A protocol with one number of shots got several, or one with a source has no
            target.
    """
    if protocol == FEW_SHOT:
        return few_shot(methods, sets, shots, seeds)
    if len(shots) != 1:
        raise typer.BadParameter(f"--protocol {protocol} takes one number of --shots, got {len(shots)}")
    if protocol == BASE_TO_NEW:
        return base_to_new(methods, sets, shots[0], seeds)
    if protocol == GENERALISED:
        return generalised(methods, sets, shots[0], seeds)
    if len(sets) < 2:
        raise typer.BadParameter(f"--protocol {protocol} needs a --set to train on and another to judge by")
    return transfer(protocol, methods, sets[0], sets[1:], shots[0], seeds)
