"""Plots of outcomes: H against bytes, accuracy against shots, and the claims' differences.

Drawn with matplotlib's objects alone: no global state, no display.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from qprompt_edge.reproduction.claims import HOLDS, REFUTED, UNDECIDED, Verdict
from qprompt_edge.reproduction.jobs import Outcome
from qprompt_edge.reproduction.measures import BASE_TO_NEW, FEW_SHOT, TOP1, H
from qprompt_edge.reproduction.summary import Summary, summarise
from qprompt_edge.reproduction.tables import complete, title, units_of
from qprompt_runtime.errors import OutputError
from qprompt_runtime.files import write_atomic

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIZE_PLOT, SHOTS_PLOT, CLAIMS_PLOT = "h-by-bytes.png", "few-shot.png", "claims.png"
"""Names of the files."""

_DPI = 150
_MARKERS = "osD^v<>Pp*hX"
_WIDTH_MARKERS = {"1": "^", "2": "s", "4": "D"}
_COLOURS = tuple(f"C{i}" for i in range(10))
_VERDICT_COLOURS = {HOLDS: "#2a7f3f", REFUTED: "#b03030", UNDECIDED: "#8a8a8a"}


def check_plots() -> None:
    """Find out early whether plots can be drawn, before hours of work depend on it.

    Raises:
        OutputError: matplotlib is not installed.
    """
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise OutputError(
            f"plots need matplotlib, which is not installed here ({error}); run pip install "
            "'qprompt-edge[plots]'"
        ) from error


def write_plots(outcomes: Iterable[Outcome], verdicts: Sequence[Verdict], folder: Path) -> list[Path]:
    """Draw what there is to draw.

    Args:
        outcomes: Of any protocols and methods.
        verdicts: On claims, from `claims.judge`.
        folder: Where the PNG files go; created if it is missing.

    Returns:
        The files written: `SIZE_PLOT` if there are base-to-new outcomes, `SHOTS_PLOT` if there are few-shot
        ones, `CLAIMS_PLOT` if there are verdicts.

    Raises:
        OutputError: matplotlib is not installed, or a file cannot be written.
        ValueError: Two outcomes are of the same run.
    """
    check_plots()
    summaries = summarise(outcomes)
    written = []
    for name, protocol, draw in (
        (SIZE_PLOT, BASE_TO_NEW, _draw_sizes),
        (SHOTS_PLOT, FEW_SHOT, _draw_shots),
    ):
        chosen = [summary for summary in summaries if summary.protocol == protocol]
        if chosen:
            with _picture(folder / name, 9, 6) as axes:
                draw(axes, chosen)
            written.append(folder / name)
    if verdicts:
        with _picture(folder / CLAIMS_PLOT, 11, 1.2 + 0.3 * len(verdicts)) as axes:
            _draw_claims(axes, verdicts)
        written.append(folder / CLAIMS_PLOT)
    return written


@contextmanager
def _picture(path: Path, width: float, height: float) -> Iterator[Axes]:
    """Axes to draw on, of a figure of that many inches; written when done."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure: Figure = Figure(figsize=(width, height), layout="constrained")
    canvas = FigureCanvasAgg(figure)
    yield figure.add_subplot()
    buffer = io.BytesIO()
    canvas.print_figure(buffer, format="png", dpi=_DPI, metadata={"Software": None})
    write_atomic(path, buffer.getvalue())


def _draw_sizes(axes: Axes, summaries: list[Summary]) -> None:
    """H against stored bytes, a point a method: colours are families, marks are bits.

    A method that stores nothing is a line across.
    """
    families: dict[str, int] = {}
    for summary in summaries:
        units = [unit for unit in units_of(summaries) if unit.shots == summary.shots]
        overall = complete(summary.metrics.get(H), units)
        if overall is None:
            continue
        family, width = _family(summary.method)
        number = families.setdefault(family, len(families))
        colour, filled = _COLOURS[number % len(_COLOURS)], number % (2 * len(_COLOURS)) < len(_COLOURS)
        label = _label(summary, summaries)
        if summary.payload_bytes > 0:
            axes.errorbar(
                summary.payload_bytes,
                100 * overall.mean,
                yerr=100 * (overall.standard_deviation or 0),
                fmt=_WIDTH_MARKERS.get(width, "o"),
                fillstyle="full" if filled else "none",
                color=colour,
                capsize=2,
                label=label,
            )
        else:
            axes.axhline(100 * overall.mean, color=colour, linestyle="--", label=label)
    axes.set_xscale("log")
    axes.set_xlabel("bytes stored")
    axes.set_ylabel("H, %; bars: standard deviation over seeds")
    _finish(axes, len(families))


def _family(method: str) -> tuple[str, str]:
    """`qcoop-1` is `qcoop` at `1` bit; other names are families of their own."""
    family, _, width = method.rpartition("-")
    return (family, width) if width.isdigit() else (method, "")


def _label(summary: Summary, summaries: list[Summary]) -> str:
    """The method; with its shots, where these differ."""
    several = len({other.shots for other in summaries}) > 1
    return f"{title(summary.method)}, {summary.shots} shots" if several else title(summary.method)


def _draw_shots(axes: Axes, summaries: list[Summary]) -> None:
    """Accuracy against shots, a line a method."""
    counts = sorted({summary.shots for summary in summaries})
    units = units_of(summaries)
    shown = 0
    for method in dict.fromkeys(summary.method for summary in summaries):
        found = {
            summary.shots: complete(
                summary.metrics.get(TOP1), [unit for unit in units if unit.shots == summary.shots]
            )
            for summary in summaries
            if summary.method == method
        }
        values = {shots: overall for shots, overall in sorted(found.items()) if overall is not None}
        if not values:
            continue
        colour, marker = _COLOURS[shown % len(_COLOURS)], _MARKERS[shown % len(_MARKERS)]
        shown += 1
        means = [100 * overall.mean for overall in values.values()]
        errors = [100 * (overall.standard_deviation or 0) for overall in values.values()]
        axes.errorbar(
            list(values),
            means,
            yerr=errors,
            fmt=f"{marker}-",
            color=colour,
            capsize=2,
            label=title(method),
        )
    axes.set_xscale("log", base=2)
    axes.set_xticks(counts, [str(count) for count in counts])
    axes.set_xlabel("photos of each class")
    axes.set_ylabel("accuracy, %; bars: standard deviation over seeds")
    _finish(axes, shown)


def _draw_claims(axes: Axes, verdicts: Sequence[Verdict]) -> None:
    """Bars of differences with their intervals, the first claim on top.

    A tick marks a threshold that is not 0.
    """
    for row, verdict in enumerate(verdicts):
        value, low, high = (
            100 * x for x in (verdict.difference.value, verdict.difference.low, verdict.difference.high)
        )
        axes.barh(row, value, color=_VERDICT_COLOURS[verdict.verdict], height=0.6)
        axes.plot([low, high], [row, row], color="black", linewidth=1)
        if verdict.claim.threshold:
            axes.plot(
                [100 * verdict.claim.threshold] * 2, [row - 0.4, row + 0.4], color="tab:blue", linewidth=2
            )
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_yticks(range(len(verdicts)), [verdict.claim.text for verdict in verdicts], fontsize=7)
    axes.set_ylim(len(verdicts) - 0.5, -0.5)
    axes.set_xlabel("difference in points; lines: 95% intervals; blue: threshold, where it is not 0")
    for verdict_name, colour in _VERDICT_COLOURS.items():
        axes.barh(0, 0, color=colour, label=verdict_name)
    axes.legend(fontsize=7)
    axes.set_axisbelow(True)
    axes.grid(axis="x", alpha=0.3)


def _finish(axes: Axes, shown: int) -> None:
    axes.grid(alpha=0.3)
    if shown:
        axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
