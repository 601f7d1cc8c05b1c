"""`qprompt-edge reproduce`: the paper's protocols on any data, with every method that it compares."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import click
from rich.markdown import Markdown

from qprompt_edge.cli.output import console, counted, emit, progress_reporter, reported, say
from qprompt_edge.cli.parameters import (
    backbone_option,
    json_option,
    max_memory_option,
    number_option,
    path_option,
    provider_option,
)
from qprompt_edge.reproduction.executors import BackboneChoice
from qprompt_edge.reproduction.experiment import Experiment, needs_deep
from qprompt_edge.reproduction.jobs import Job
from qprompt_edge.reproduction.measures import BASE_TO_NEW, FEW_SHOT, PROTOCOLS
from qprompt_edge.reproduction.plots import check_plots
from qprompt_edge.reproduction.protocols import base_to_new, few_shot, transfer
from qprompt_edge.reproduction.recipes import RECIPES
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
        raise click.BadParameter(f"{text!r} is not a list of whole numbers such as 1,2,3") from None
    if min(numbers) < least:
        raise click.BadParameter(f"{text!r} has a number below {least}")
    return list(dict.fromkeys(numbers))


def _methods(text: str) -> list[str]:
    """Parse `coop,qcoop-1`, or `all`."""
    if text == EVERY_METHOD:
        return list(RECIPES)
    names = list(dict.fromkeys(text.split(",")))
    unknown = next((name for name in names if name not in RECIPES), None)
    if unknown is not None:
        raise click.BadParameter(f"unknown method {unknown!r}; known are all, {', '.join(RECIPES)}")
    return names


@click.command("reproduce")
@click.option(
    "--set",
    "sets",
    multiple=True,
    required=True,
    help="Data set: a name of docs/datasets.md, or NAME=FOLDER of class folders; repeatable.",
)
@path_option("--out", "Folder of the results; the same command goes on in it.", required=True)
@click.option(
    "--protocol",
    type=click.Choice(PROTOCOLS),
    default=BASE_TO_NEW,
    help="cross-dataset and domain train on the first --set.",
)
@click.option("--methods", default="zero-shot,coop,qcoop-1", metavar="LIST", help="Comma-separated, or all.")
@click.option("--seeds", default="1,2,3", metavar="LIST", help="One draw and one training each.")
@click.option(
    "--shots",
    default="16",
    metavar="LIST",
    help="Photos of each class to train on; few-shot takes a list.",
)
@path_option("--data", "Folder that holds the named data sets.")
@backbone_option
@number_option("--epochs", int, "Replaces each method's own: 50 for contexts, 10 for deep prompts.", 1)
@number_option("--lr", float, "Replaces each method's own.", 0)
@number_option("--jobs", int, "Jobs side by side; 0 takes one for each core.", 0, default=0)
@click.option("--ray", help="Run on this Ray cluster instead: an address, auto, or local.")
@path_option("--report", "Markdown file to write; OUT/results.md by default.")
@click.option("--plots", is_flag=True, help="Draw plots beside the report.")
@provider_option
@max_memory_option
@json_option
@reported
def command(
    sets: Sequence[str],
    out: Path,
    protocol: str,
    methods: str,
    seeds: str,
    shots: str,
    data: Path | None,
    backbone: str,
    epochs: int | None,
    lr: float | None,
    jobs: int,
    ray: str | None,
    report: Path | None,
    plots: bool,
    provider: str,
    max_memory: float | None,
    as_json: bool,
) -> None:
    """Run one of the paper's protocols.

    Reports means, deviations, and what the paper's claims come to. Results of several protocols gather in one folder, and the report covers them all. A run that was stopped goes on.

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
    protocol: str,
    methods: Sequence[str],
    sets: Sequence[str],
    shots: Sequence[int],
    seeds: Sequence[int],
) -> list[Job]:
    """The jobs of a protocol.

    Raises:
        click.BadParameter: A protocol with one number of shots got several, or one with a source has no target.
    """
    if protocol == FEW_SHOT:
        return few_shot(methods, sets, shots, seeds)
    if len(shots) != 1:
        raise click.BadParameter(f"--protocol {protocol} takes one number of --shots, got {len(shots)}")
    if protocol == BASE_TO_NEW:
        return base_to_new(methods, sets, shots[0], seeds)
    if len(sets) < 2:
        raise click.BadParameter(f"--protocol {protocol} needs a --set to train on and another to judge by")
    return transfer(protocol, methods, sets[0], sets[1:], shots[0], seeds)
