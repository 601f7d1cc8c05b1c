"""`qprompt-edge bench`: how fast a backbone is on this machine."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from qprompt_edge.bench import KINDS, LEAST_CLASSES, PHOTOS_PER_CLASS, BenchResult, bench
from qprompt_edge.cli.output import emit, progress_reporter, reported, show, table
from qprompt_edge.cli.parameters import (
    INPUT,
    BackboneOption,
    JsonOption,
    MaxMemoryOption,
    ProviderOption,
    ThreadsOption,
    number,
)
from qprompt_runtime.bundle import DEFAULT_BACKBONE
from qprompt_runtime.prompt_file import CONTEXT
from qprompt_runtime.text import counted

_MOST_CLASSES = 10_000


@reported
def command(
    backbone: BackboneOption = DEFAULT_BACKBONE,
    class_count: Annotated[
        int, number(INPUT, "Number of classes; their names are made up.", LEAST_CLASSES, max=_MOST_CLASSES)
    ] = 10,
    repeats: Annotated[int, number(INPUT, "Runs of each kind of work that count.", 1)] = 20,
    as_json: JsonOption = False,
    provider: ProviderOption = "auto",
    threads: ThreadsOption = 0,
    max_memory: MaxMemoryOption = None,
) -> None:
    """Time a backbone on this machine.

    Times loading, encoding, tuning and predicting, and estimates what adapt
    would take, by its default method and by --method qcoop.

    Example: qprompt-edge bench --class-count 10
    """
    with progress_reporter() as reporter:
        result = bench(
            backbone,
            classes=class_count,
            repeats=repeats,
            provider=provider,
            threads=threads,
            max_memory=max_memory,
            reporter=reporter,
        )
    _show(result, aside=as_json)
    if as_json:
        emit(as_dict(result))


def as_dict(result: BenchResult) -> dict[str, Any]:
    """The result as `--json` prints it."""
    manifest = result.manifest
    return {
        "backbone": {
            "name": manifest.name,
            "fingerprint": manifest.fingerprint,
            "precision": {"image": result.image_precision, "text": manifest.text_graph.precision},
        },
        "provider": result.provider,
        "machine": asdict(result.machine),
        "classes": result.classes,
        "repeats": result.repeats,
        "milliseconds": {kind: asdict(timing) for kind, timing in result.milliseconds.items()},
        "steps": result.steps,
        "adapt_seconds_estimate": result.adapt_seconds(),
        "qcoop_seconds_estimate": result.adapt_seconds(CONTEXT),
        "peak_rss_mb": round(result.peak_rss_mb, 1),
    }


def _show(result: BenchResult, *, aside: bool) -> None:
    manifest, machine = result.manifest, result.machine
    rows = [
        [KINDS[kind], f"{timing.median:.2f}", f"{timing.fastest:.2f}"]
        for kind, timing in result.milliseconds.items()
    ]
    title = f"{manifest.name}, {result.classes} classes, milliseconds over {counted(result.repeats, 'run')}"
    table(title, {"": "left", "median": "right", "fastest": "right"}, rows, aside=aside)
    show(
        f"{manifest.name}: image tower {result.image_precision}, text tower "
        f"{manifest.text_graph.precision}; {machine.processor}, {counted(machine.cores, 'usable core')}, "
        f"{counted(machine.threads, 'thread') if machine.threads else 'a thread for each core'}, "
        f"{result.provider}, onnxruntime {machine.onnxruntime}",
        aside=aside,
    )
    show(
        f"estimate: adapt takes about {result.adapt_seconds():.1f} s for {result.photos} photos of 12 megapixels "
        f"({PHOTOS_PER_CLASS} for each class), adapt --method qcoop {result.adapt_seconds(CONTEXT):.1f} s "
        f"({result.steps} steps); this run took {result.peak_rss_mb:.0f} MB at most",
        aside=aside,
    )
