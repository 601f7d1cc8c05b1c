"""What `check` found, in words: for each kind of finding a title, advice, and a table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from qprompt_edge.checking.findings import Duplicates, PoorPhoto
from qprompt_runtime.text import counted, first_few, percent, printable

if TYPE_CHECKING:
    from qprompt_edge.checking.result import CheckResult

SHOWN = 5
"""Rows of a table that are shown."""
_SHOWN_PATHS = 4
_SUREST = 0.999  # no classifier is surer than that


@dataclass(frozen=True)
class Section:
    """One kind of finding.

    Attributes:
        kind: Its name in JSON, and in `CheckResult`.
        title: What was found, with the number.
        advice: What to do about it.
        columns: Headings of the table.
        rows: Cells as plain text, one row a finding, the most telling first.
    """

    kind: str
    title: str
    advice: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    @property
    def more(self) -> str:
        """What stands below a table that does not show all."""
        left = len(self.rows) - SHOWN
        return f"... and {left} more; --json lists all" if left > 0 else ""


def sections(result: CheckResult) -> tuple[Section, ...]:
    """The kinds of findings that there are, those that harm most first.

    Args:
        result: What was found.
    """
    made = (_unreadable(result), *_labels(result), *_duplicates(result), *_classes(result), *_poor(result))
    return tuple(section for section in made if section.rows)


def _unreadable(result: CheckResult) -> Section:
    rows = tuple((str(it.path), it.reason) for it in result.unreadable)
    return Section(
        "unreadable",
        f"{counted(len(rows), 'file')} cannot be used",
        "They are left out of training. Replace or remove them.",
        ("file", "reason"),
        rows,
    )


def _labels(result: CheckResult) -> tuple[Section, ...]:
    rows = tuple(
        (str(it.path), it.label, it.looks_like, percent(min(it.doubt, _SUREST))) for it in result.mislabelled
    )
    pairs = tuple(
        (
            " / ".join(it.labels),
            f"{it.wrong} of {it.photos}",
            "no better than a coin" if it.chance else f"{percent(it.share)} wrong",
            _paths(it.paths),
        )
        for it in result.mixed_up
    )
    return (
        Section(
            "mislabelled",
            f"{counted(len(rows), 'photo')} may have the wrong label",
            "Look at each: move it to the class that it shows, or leave it if the label is right.",
            ("photo", "is in", "looks like", "doubt"),
            rows,
        ),
        Section(
            "mixed_up",
            f"{counted(len(pairs), 'pair')} of classes cannot be told apart",
            "Join the two if you do not need both. If you do, take photos that show the difference, from nearer "
            "or from another side. A larger --backbone may help.",
            ("classes", "like the other", "as a classifier", "such as"),
            pairs,
        ),
    )


def _duplicates(result: CheckResult) -> tuple[Section, ...]:
    across = [it for it in result.duplicates if it.across_classes]
    within = [it for it in result.duplicates if not it.across_classes]
    spare = sum(len(it.paths) - 1 for it in within)

    def rows(groups: Iterable[Duplicates]) -> tuple[tuple[str, ...], ...]:
        return tuple(
            (
                ", ".join(dict.fromkeys(it.labels)),
                str(len(it.paths)),
                "the same" if it.identical else "nearly the same",
                _paths(it.paths),
            )
            for it in groups
        )

    columns = ("class", "photos", "are", "which")
    return (
        Section(
            "duplicates",
            f"{counted(len(across), 'photo')} in several classes, as the same or nearly the same picture",
            "At most one label is right. Remove the others.",
            columns,
            rows(across),
        ),
        Section(
            "duplicates",
            f"{counted(spare, 'photo')} too like others of the class to teach anything new",
            "They do no harm, but count once. Take photos from other sides, in other light, on other "
            "backgrounds.",
            columns,
            rows(within),
        ),
    )


def _classes(result: CheckResult) -> tuple[Section, ...]:
    rows = tuple((it.label, str(it.photos), str(it.distinct), str(it.wanted)) for it in result.short_classes)
    return (
        Section(
            "short_classes",
            f"{counted(len(rows), 'class', 'classes')} {_are(len(rows))} short of photos",
            "Take more photos of them, until each has as many distinct ones as the last column says.",
            ("class", "photos", "distinct", "wanted"),
            rows,
        ),
    )


def _poor(result: CheckResult) -> tuple[Section, ...]:
    def rows(photos: Sequence[PoorPhoto]) -> tuple[tuple[str, ...], ...]:
        return tuple((str(it.path), it.label, f"{it.value:.3g}", f"{it.limit:.3g}") for it in photos)

    advice = (
        "Remove those that you could not name yourself. Keep them if the camera will send such photos, too."
    )
    kinds = (
        ("blurred", result.blurred, "far less sharp than the others", "sharpness"),
        ("dark", result.dark, "dark throughout", "brightest parts"),
        ("blown_out", result.blown_out, "blown out", "darkest parts"),
    )
    return tuple(
        Section(
            kind,
            f"{counted(len(photos), 'photo')} {_are(len(photos))} {words}",
            advice,
            ("photo", "class", figure, "limit"),
            rows(photos),
        )
        for kind, photos, words, figure in kinds
    )


def _are(number: int) -> str:
    return "is" if number == 1 else "are"


def _paths(paths: Sequence[Path]) -> str:
    return first_few([str(path) for path in paths], _SHOWN_PATHS)


def curve_lines(result: CheckResult) -> list[str]:
    """Accuracy by number of photos, and what twice as many photos would likely add.

    Args:
        result: What was found.
    """
    curve = result.curve
    if sum(photos > 0 for photos in result.classes.values()) < 2:
        return ["There is nothing to tell apart: a second class needs photos."]
    if curve is None:
        return ["Too few photos to tell whether there are enough."]
    learned = ", ".join(f"{percent(it.top1)} from {it.photos:.0f}" for it in curve.points)
    low, high = (100 * bound for bound in curve.interval)
    likely = f"{100 * curve.gain:.1f} points ({low:+.1f} to {high:+.1f})"
    gain = f"twice the photos would likely add {likely} to the accuracy"
    verdict = {
        True: f"Enough photos: {gain}.",
        False: f"More photos would help: {gain}.",
        None: f"More photos may help, these are too few to tell: {gain}.",
    }[curve.enough]
    return [f"Accuracy of a linear probe, by photos of a class: {learned}.", verdict]


def first_line(result: CheckResult) -> str:
    """What was looked at, and whether something was found."""
    kinds = len(sections(result))
    found = counted(kinds, "kind of finding", "kinds of findings") if kinds else "nothing wrong was found"
    return f"{counted(result.photos, 'photo')} of {counted(len(result.classes), 'class', 'classes')}: {found}"


def summary(result: CheckResult) -> str:
    """All of it as plain text, the first rows of each table."""
    lines = [first_line(result)]
    for section in sections(result):
        rows = ("  " + "  ".join(row) for row in section.rows[:SHOWN])
        lines += ["", section.title, *rows, *filter(None, [section.more]), section.advice]
    return "\n".join(map(printable, [*lines, "", *curve_lines(result)]))
