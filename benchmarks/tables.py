"""Figures as people read them: tables in text and in Markdown, and the arithmetic of ratios."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence


def median(values: Iterable[float]) -> float:
    """The median; of nothing it is an error, not a zero."""
    return statistics.median(values)


def ratio(theirs: float, ours: float) -> float:
    """How many times ours fit into theirs."""
    return theirs / ours


def duration(seconds: float) -> str:
    """A time with three figures or so, in the unit that suits it."""
    if seconds >= 120:
        return f"{seconds / 60:.1f} min"
    if seconds >= 1:
        return f"{seconds:.1f} s" if seconds >= 10 else f"{seconds:.2f} s"
    return f"{1000 * seconds:.0f} ms" if seconds >= 0.1 else f"{1000 * seconds:.1f} ms"


def times(value: float) -> str:
    """A ratio with as many figures as it deserves."""
    return f"{value:.0f}x" if value >= 20 else f"{value:.1f}x"


def percent(value: float) -> str:
    """A share as a percentage."""
    return f"{100 * value:.0f}%"


def megabytes(value: float) -> str:
    """Memory or size in MB of 10^6 bytes."""
    return f"{value:,.0f} MB"


def text_table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table for the terminal: the first column to the left, the others to the right."""
    table = [list(header), *map(list, rows)]
    widths = [max(len(row[i]) for row in table) for i in range(len(header))]
    lines = [
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in table
    ]
    return "\n".join([title, "-" * len(title), *lines, ""])


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table: the first column to the left, the others to the right."""
    rule = ["---"] + ["---:"] * (len(header) - 1)
    lines = [" | ".join(row) for row in (header, rule, *rows)]
    return "\n".join(f"| {line} |" for line in lines) + "\n"
