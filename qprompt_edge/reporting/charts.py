"""A square chart: shares from 0 to 100% upwards, something from left to right."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from qprompt_edge.reporting.markup import element, shown

_LEFT, _TOP, _SIDE = 58, 12, 280  # of the square, in the chart's own units
_WIDTH, _HEIGHT = _LEFT + _SIDE + 24, _TOP + _SIDE + 44
_MOST_LETTERS = 4000
SHARES = tuple((tick / 100, f"{tick}%") for tick in (0, 25, 50, 75, 100))
"""Places on an axis of shares, from 0 to 1, and what stands there."""


def x_of(place: float) -> float:
    """From 0 (left) to 1 (right) to the chart's own units."""
    return round(_LEFT + _SIDE * place, 1)


def y_of(share: float) -> float:
    """From 0 (bottom) to 1 (top) to the chart's own units."""
    return round(_TOP + _SIDE * (1 - share), 1)


def line(kind: str, x: tuple[float, float], y: tuple[float, float]) -> str:
    """A line of a class of the style sheet, between two places from 0 to 1."""
    ends = f'x1="{x_of(x[0])}" x2="{x_of(x[1])}" y1="{y_of(y[0])}" y2="{y_of(y[1])}"'
    return f'<line class="{kind}" {ends}/>'


def dot(x: float, y: float, radius: float) -> str:
    """A dot at a place from 0 to 1; the radius is in the chart's own units."""
    return f'<circle class="r-bubble" cx="{x_of(x)}" cy="{y_of(y)}" r="{radius:.1f}"/>'


def chart(
    parts: Iterable[str], alt: str, x_ticks: Sequence[tuple[float, str]], x_title: str, y_title: str
) -> str:
    """The chart with its axes.

    Args:
        parts: What is drawn, as SVG.
        alt: What it shows, for those who do not see it; plain text.
        x_ticks: Places from left to right, from 0 to 1, and what stands below them.
        x_title: What goes from left to right.
        y_title: Of what the shares are.
    """
    drawn = [line("r-grid", (x, x), (0, 1)) for x, _ in x_ticks]
    drawn += [line("r-grid", (0, 1), (y, y)) for y, _ in SHARES]
    drawn += [_text(x_of(x), _TOP + _SIDE + 18, "middle", shown(name)) for x, name in x_ticks]
    drawn += [_text(_LEFT - 8, y_of(y) + 4, "end", name) for y, name in SHARES]
    drawn.append(_text(x_of(0.5), _HEIGHT - 8, "middle", shown(x_title)))
    middle = y_of(0.5)
    turned = f' transform="rotate(-90 10 {middle})"'
    drawn.append(_text(10, middle, "middle", shown(y_title), turned))
    box = f"0 0 {_WIDTH} {_HEIGHT}"
    alt = alt if len(alt) <= _MOST_LETTERS else alt[: _MOST_LETTERS - 1] + "…"
    return element(
        "svg", "".join([*drawn, *parts]), class_="r-chart", viewBox=box, role="img", aria_label=alt
    )


def figure(drawing: str, caption: str) -> str:
    """A chart with the words below it, as HTML."""
    words = element("figcaption", caption, class_="r-muted r-small")
    return element("figure", drawing + words, class_="r-figure")


def _text(x: float, y: float, anchor: str, words: str, more: str = "") -> str:
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}"{more}>{words}</text>'
