"""The long work of the child process: functions from an order, as JSON has it, to a result that JSON can hold."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from qprompt_edge.adaptation.adapt import adapt
from qprompt_edge.adaptation.result import AdaptResult, verdict
from qprompt_edge.reporter import Reporter
from qprompt_runtime.text import printable

Order = dict[str, Any]


def adapted(order: Order, reporter: Reporter) -> dict[str, Any]:
    """Adapt to a task's photos and write the prompt file; a run that was stopped is continued.

    Args:
        order: `photos` (a folder), `out` (the prompt file to write), `options` (arguments of `adapt`), and the settings.
        reporter: Told how far it is.

    Raises:
        QPromptError: The photos cannot be adapted to.
    """
    options = {"backbone": order["backbone"], "provider": order["provider"], "threads": order["threads"]}
    folder = Path(order["photos"])
    result = adapt(folder, **options, **order["options"], resume=True, reporter=reporter)
    out = Path(order["out"])
    result.save(out)
    return facts(result, folder, out.stat().st_size)


def facts(result: AdaptResult, folder: Path, size: int) -> dict[str, Any]:
    """What is kept of a version: all that its page shows."""
    judged = result.holdout
    return {
        "bytes": size,
        "classes": [name.label for name in result.prompt.classes],
        "photos": result.train_photos,
        "method": result.prompt.method,
        "bits": result.options.training.bits,
        "backbone": result.backbone_name,
        "verdict": printable(verdict(result)),
        "helped": None if judged is None else judged.change.helped,
        "difference": None if judged is None else judged.change.difference,
        "interval": None if judged is None else list(judged.change.interval),
        "p": None if judged is None else judged.change.p,
        "holdout": None
        if judged is None
        else {
            "n": judged.adapted.n,
            "missing": list(judged.missing),
            **{
                name: {"top1": scores.top1, "class_mean": scores.class_mean}
                for name, scores in (
                    ("zero_shot", judged.zero_shot),
                    ("adapted", judged.adapted),
                    ("probe", judged.probe),
                )
            },
        },
        "confusion": None
        if judged is None
        else {
            "labels": [name.label for name in result.prompt.classes],
            "counts": judged.adapted.confusion.tolist(),
        },
        "skipped": [
            {"id": _id(skip.path, folder), "reason": printable(skip.reason)} for skip in result.skipped
        ],
        "seconds": {name: round(value, 3) for name, value in result.seconds.items()},
    }


def _id(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.name


LONG: dict[str, Callable[[Order, Reporter], dict[str, Any]]] = {"adapt": adapted}
"""What the main thread of the child does, one order at a time."""
