"""The long work of the child process: functions from an order to a result, both as JSON has them.

Paths in results are photos' ids, as the interface names them. What a version was tuned on, and what was kept
away from that, is part of its result: an update must not train on what is judged by.
"""

from __future__ import annotations

import csv
import io
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from qprompt_edge.adaptation.adapt import adapt
from qprompt_edge.adaptation.result import verdict
from qprompt_edge.adaptation.update import update
from qprompt_edge.adaptation.update_result import ClassEstimate
from qprompt_edge.checking.check import check
from qprompt_edge.data.photos import SkippedPhoto
from qprompt_edge.evaluation.evaluate import PromptReport, judge_prompt
from qprompt_edge.evaluation.metrics import Scores
from qprompt_edge.evaluation.mistakes import Mistake
from qprompt_edge.evaluation.paired import Comparison
from qprompt_edge.reporter import Reporter
from qprompt_edge.reporting import words
from qprompt_edge.reporting.reports import JudgedParts, adapt_parts, adapt_report, eval_parts, eval_report
from qprompt_edge.server.photos import photos_of
from qprompt_edge.shipping.device import Seal, device_seal
from qprompt_runtime.cose_sign1 import Claims, claims_in
from qprompt_runtime.errors import PhotosError, TrustError
from qprompt_runtime.files import write_atomic
from qprompt_runtime.prompt_file import PromptFile, prompt_in, read_content, read_prompt_file
from qprompt_runtime.text import counted, printable

Order = dict[str, Any]
Facts = dict[str, Any]

REPORT = ".html"


def adapted(order: Order, reporter: Reporter) -> Facts:
    """Adapt to a task's photos; a run that was stopped is continued.

    Args:
        order: `photos` (a folder), `out` (the prompt file to write), `options` (arguments of `adapt`), and
            the settings.
        reporter: Told how far it is.

    Raises:
        QPromptError: The photos cannot be adapted to.
    """
    folder, out = Path(order["photos"]), Path(order["out"])
    seal = _seal(order, None)
    result = adapt(folder, **_settings(order), **order["options"], resume=True, reporter=reporter)
    judged = result.holdout
    write_atomic(out.with_suffix(REPORT), adapt_report(result, order["name"], reporter=reporter).encode())
    result.save(out, seal)
    trained = sorted(_id(path, folder) for path in result.trained)
    return {
        **_said(result.prompt, out),
        "photos": result.train_photos,
        "verdict": printable(verdict(result)),
        **_change(judged.change if judged else None),
        "holdout": None
        if judged is None
        else _scores(judged.missing, zero_shot=judged.zero_shot, adapted=judged.adapted, probe=judged.probe),
        **_pictures(
            result.prompt, judged.adapted if judged else None, judged.mistakes if judged else (), folder
        ),
        "parts": _parts(adapt_parts(result)),
        "skipped": _skipped(result.skipped, folder),
        "seconds": _rounded(result.seconds),
        "trained": trained,
        "held": sorted({photo.id for photo in photos_of(folder)} - set(trained)),
    }


def _seal(order: Order, before: Claims | None) -> Seal | None:
    """What signs a prompt: the key that the policy file names; None if it names none.

    The task is the folder's name, unless the prompt before or the policy file says another.
    """
    return device_seal(None, None, before, _passphrase, otherwise=Path(order["photos"]).name)


def _passphrase() -> bytes:
    named = os.environ.get("QPE_PASSPHRASE")
    if not named:
        raise TrustError("the device's key has a passphrase: set QPE_PASSPHRASE for serve")
    return named.encode()


def updated(order: Order, reporter: Reporter) -> Facts:
    """Tune a version's prompt on photos that it does not know, and take out classes that are gone.

    Args:
        order: As for `adapted`, with `prompt` (the version's file) and `held` (ids of photos that are judged
            by).
        reporter: Told how far it is.

    Raises:
        QPromptError: The prompt cannot be updated, or there is nothing new.
    """
    folder, out = Path(order["photos"]), Path(order["out"])
    source, held = Path(order["prompt"]), set(order["held"])
    content = read_content(source)
    before = prompt_in(content, source)
    seal = _seal(order, claims_in(content))
    photos = photos_of(folder)
    given = [(photo.id, photo.label) for photo in photos if photo.id not in held]
    here = {photo.label for photo in photos}
    gone = [name.label for name in before.classes if name.label not in here]
    with tempfile.NamedTemporaryFile("w", suffix=".csv", encoding="utf-8", newline="") as listed:
        listed.write(_table(given))
        listed.flush()
        result = update(
            before, folder, labels=listed.name, remove=gone, **_settings(order), reporter=reporter
        )
    if not result.classes and not gone:
        raise PhotosError(
            "nothing is new since that version; add photos, or adapt to learn labels that changed"
        )
    result.save(out, seal)
    kept = [(photo.id, photo.label) for photo in photos if photo.id in held]
    report = _judged(out, folder, kept, order, reporter) if kept else None
    return {
        **_said(result.prompt, out),
        "photos": sum(result.prompt.photos) if result.prompt.photos else None,
        "verdict": printable(result.summary().replace("\n", " ")),
        **_verdict_of(report, {label for _, label in kept}),
        **_pictures(
            result.prompt, report.scores if report else None, report.mistakes if report else (), folder
        ),
        "parts": _parts(eval_parts(report, _held_out(report)) if report else None),
        "estimates": {it.label: _estimate(it) for it in result.classes},
        "skipped": _skipped(result.skipped, folder),
        "seconds": _rounded(result.seconds),
        "trained": sorted(photo for photo, _ in given),
        "held": sorted(photo for photo, _ in kept),
    }


def _verdict_of(report: PromptReport | None, judged: set[str]) -> Facts:
    """What photos that were held back say of an update; nothing where there are none."""
    if report is None:
        return {**_change(None), "holdout": None}
    missing = [label for label in report.labels if label not in judged]
    scores = _scores(missing, zero_shot=report.zero_shot, adapted=report.scores)
    return {**_change(report.change), "holdout": scores}


def _estimate(it: ClassEstimate) -> Facts:
    return {"photos": it.photos, "judged": it.judged, "top1": it.right / it.judged if it.judged else None}


def checked(order: Order, reporter: Reporter) -> Facts:
    """Look for what is wrong with a task's photos.

    Args:
        order: `photos` and the settings.
        reporter: Told how far it is.

    Raises:
        QPromptError: There are no photos.
    """
    folder = Path(order["photos"])
    found = check(folder, **_settings(order), reporter=reporter).to_json()
    for findings in found.values():
        for finding in findings if isinstance(findings, list) else ():
            if "path" in finding:
                finding["path"] = _id(Path(finding["path"]), folder)
            if "paths" in finding:
                finding["paths"] = [_id(Path(path), folder) for path in finding["paths"]]
    return found


def reported(order: Order, reporter: Reporter) -> Facts:
    """Write the report of a version that has none: of one that was sent, or updated.

    Args:
        order: `photos`, `prompt`, `name`, `judged` (ids of photos; none takes all), and the settings.
        reporter: Told how far it is.

    Raises:
        QPromptError: The photos have classes that the prompt does not know, or it is for another backbone.
    """
    folder, prompt, wanted = Path(order["photos"]), Path(order["prompt"]), set(order["judged"])
    known = {name.label for name in read_prompt_file(prompt).classes}
    photos = [photo for photo in photos_of(folder) if photo.label in known]
    chosen = [(photo.id, photo.label) for photo in photos if photo.id in wanted or not wanted]
    report = _judged(prompt, folder, chosen, order, reporter)
    page = eval_report(report, order["name"], folder, reporter=reporter)
    write_atomic(prompt.with_suffix(REPORT), page.encode())
    return {}


LONG: dict[str, Callable[[Order, Reporter], Facts]] = {
    "adapt": adapted, "update": updated, "check": checked, "report": reported,
}  # fmt: skip
"""What the main thread of the child does, one order at a time."""


def _judged(
    prompt: Path, folder: Path, photos: Sequence[tuple[str, str]], order: Order, reporter: Reporter
) -> PromptReport:
    """What a prompt is worth on some photos."""
    with tempfile.NamedTemporaryFile("w", suffix=".csv", encoding="utf-8", newline="") as listed:
        listed.write(_table(photos))
        listed.flush()
        return judge_prompt(prompt, folder, labels=Path(listed.name), reporter=reporter, **_settings(order))


def _table(photos: Sequence[tuple[str, str]]) -> str:
    """A list of photos as `--labels` takes it."""
    out = io.StringIO()
    csv.writer(out).writerows([("path", "label"), *photos])
    return out.getvalue()


def _settings(order: Order) -> dict[str, Any]:
    return {name: order[name] for name in ("backbone", "provider", "threads")}


def _said(prompt: PromptFile, out: Path) -> Facts:
    return {
        "bytes": out.stat().st_size,
        "classes": [name.label for name in prompt.classes],
        "method": prompt.method,
        "bits": prompt.groups[0].bits,
        "backbone": prompt.backbone_name,
    }


def _scores(missing: Sequence[str], **named: Scores) -> Facts:
    scores = {name: {"top1": it.top1, "class_mean": it.class_mean} for name, it in named.items()}
    return {"n": named["adapted"].n, "missing": list(missing), **scores}


def _change(change: Comparison | None) -> Facts:
    if change is None:
        return {"helped": None, "difference": None, "interval": None, "p": None}
    return {
        "helped": change.helped,
        "difference": change.difference,
        "interval": list(change.interval),
        "p": change.p,
    }


def _pictures(prompt: PromptFile, scores: Scores | None, wrong: Sequence[Mistake], folder: Path) -> Facts:
    if scores is None:
        return {"confusion": None, "mistakes": []}
    labels = [name.label for name in prompt.classes]
    mistakes = [
        {
            "id": _id(it.path, folder),
            "label": it.label,
            "predicted": it.predicted,
            "probability": it.probability,
        }
        for it in wrong
    ]
    return {"confusion": {"labels": labels, "counts": scores.confusion.tolist()}, "mistakes": mistakes}


def _held_out(report: PromptReport) -> str:
    return words.HELD_OUT.format(photos=counted(report.scores.n, "photo"))


def _parts(parts: JudgedParts | None) -> dict[str, str] | None:
    """Pieces of HTML for the page; None where nothing was judged."""
    return None if parts is None else asdict(parts)


def _skipped(skipped: Sequence[SkippedPhoto], folder: Path) -> list[dict[str, str]]:
    return [{"id": _id(skip.path, folder), "reason": printable(skip.reason)} for skip in skipped]


def _rounded(seconds: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 3) for name, value in seconds.items()}


def _id(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.name
