"""How prompts fare, as text for Prometheus.

The text format 0.0.4 (https://prometheus.io/docs/instrumenting/exposition_formats/): `serve` answers with it,
and node_exporter's textfile collector reads it from a file.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from qprompt_edge.watching.health import PromptHealth, Report
from qprompt_runtime.prompt_file import ACCEPT_SHARES

BEGIN = "# HELP qprompt_"
"""What the text begins with."""
MEDIA = "text/plain; version=0.0.4; charset=utf-8"

_GAUGE, _COUNTER = "gauge", "counter"
_ANSWERS = "over the last 24 hours, or since the prompt was taken up"

Labels = dict[str, str]


@dataclass(frozen=True)
class _Family:
    """A metric: its name without the prefix, type, and what it is."""

    name: str
    kind: str
    words: str


_FAMILIES = (
    _Family("build_info", _GAUGE, "The program's version, as a label."),
    _Family("running", _GAUGE, "Whether frames are answered: 1, or 0 after the end."),
    _Family("source_up", _GAUGE, "Whether the camera, stream or folder is there."),
    _Family("frames_total", _COUNTER, "Frames answered since the start."),
    _Family("frames_unread_total", _COUNTER, "Frames that could not be read since the start."),
    _Family("prompt_info", _GAUGE, "Which prompt answers, as labels."),
    _Family("answers_total", _COUNTER, "Answers since the start."),
    _Family("none_of_these_total", _COUNTER, "Answers that were none of these since the start."),
    _Family("answer_age_seconds", _GAUGE, "Time since the last answer."),
    _Family("day_seconds", _GAUGE, "Time that the figures of the day cover, at most 24 hours."),
    _Family("day_answers", _GAUGE, f"Answers {_ANSWERS}."),
    _Family("day_none_of_these_ratio", _GAUGE, f"Share of answers that were none of these, {_ANSWERS}."),
    _Family("day_confidence_ratio", _GAUGE, f"Mean probability of the likeliest class, {_ANSWERS}."),
    _Family(
        "day_score_reached_ratio",
        _GAUGE,
        f"Share of answers whose score reaches that of this share of the known photos, {_ANSWERS}.",
    ),
    _Family("day_drift", _GAUGE, f"How far those shares fall short of those of known photos, {_ANSWERS}."),
)


def exposition(report: Report, version: str) -> str:
    """The text.

    Args:
        report: How everything fares.
        version: Of this program.
    """
    samples: dict[str, list[str]] = {}
    for name, labels, value in _samples(report, version):
        if value is not None:
            samples.setdefault(name, []).append(f"qprompt_{name}{{{_written(labels)}}} {_number(value)}")
    lines: list[str] = []
    for family in _FAMILIES:
        if family.name in samples:
            lines += [
                f"# HELP qprompt_{family.name} {family.words}",
                f"# TYPE qprompt_{family.name} {family.kind}",
                *samples[family.name],
            ]
    return "\n".join(lines) + "\n"


def _samples(report: Report, version: str) -> Iterator[tuple[str, Labels, float | None]]:
    source = {"source": report.source}
    yield "build_info", source | {"version": version}, 1
    yield "running", source, report.running
    yield "source_up", source, report.here
    yield "frames_total", source, report.frames
    yield "frames_unread_total", source, report.unread
    for it in report.prompts:
        yield from _of_prompt(it, source | {"prompt": it.prompt})


def _of_prompt(it: PromptHealth, named: Labels) -> Iterator[tuple[str, Labels, float | None]]:
    if it.version is not None:
        labels = {
            "task": it.version.task or "",
            "sequence": "" if it.version.sequence is None else str(it.version.sequence),
            "sha256": it.version.sha256,
            "backbone": it.version.backbone,
            "fingerprint": it.version.fingerprint,
        }
        yield "prompt_info", named | labels, 1
    yield "answers_total", named, it.total
    yield "none_of_these_total", named, it.total_none
    yield "answer_age_seconds", named, it.age
    yield "day_seconds", named, it.hours * 3600
    yield "day_answers", named, it.answers
    yield "day_none_of_these_ratio", named, it.none_of_these
    yield "day_confidence_ratio", named, it.confidence
    for share, found in zip(ACCEPT_SHARES, it.reached, strict=False):
        yield "day_score_reached_ratio", named | {"share": f"{share:g}"}, found
    yield "day_drift", named, it.drift


def _written(labels: Labels) -> str:
    return ",".join(f'{name}="{"".join(_escaped(value))}"' for name, value in labels.items())


def _escaped(value: str) -> Iterable[str]:
    return ({"\\": "\\\\", '"': '\\"', "\n": "\\n"}.get(sign, sign) for sign in value)


def _number(value: float) -> str:
    return f"{float(value):.6g}" if value != int(value) else str(int(value))
