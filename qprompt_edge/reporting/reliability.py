"""The reliability diagram: whether the prompt is right as often as it says."""

from __future__ import annotations

from collections.abc import Sequence

from qprompt_edge.evaluation.intervals import wilson
from qprompt_edge.evaluation.metrics import ConfidenceBin
from qprompt_edge.reporting import words
from qprompt_edge.reporting.markup import element
from qprompt_runtime.text import counted, percent

_LEFT, _TOP, _SIDE = 58, 12, 280  # the square of the diagram, in its own units
_WIDTH, _HEIGHT = _LEFT + _SIDE + 24, _TOP + _SIDE + 44
_TICKS = (0, 25, 50, 75, 100)
_RADII = (3.5, 11.0)


def reliability(bins: Sequence[ConfidenceBin], ece: float) -> str:
    """The diagram with what it means.

    Args:
        bins: Photos by their confidence, at least one bin.
        ece: The calibration error.
    """
    photos = sum(it.photos for it in bins)
    sure = sum(it.confidence * it.photos for it in bins) / photos
    right = sum(it.accuracy * it.photos for it in bins) / photos
    low, high = wilson(right, photos)
    meaning = words.FITTING.format(photos=counted(photos, "photo"))
    if not low <= sure <= high:
        meaning = words.TOO_SURE if sure > right else words.TOO_MODEST
    said = words.SURE.format(confidence=percent(sure), accuracy=percent(right), meaning=meaning)
    error = words.CALIBRATION_ERROR.format(error=percent(ece))
    caption = element("figcaption", words.RELIABILITY_CAPTION, class_="r-muted r-small")
    figure = element("figure", reliability_svg(bins) + caption, class_="r-figure")
    return element("p", f"{said} {error}") + figure


def reliability_svg(bins: Sequence[ConfidenceBin]) -> str:
    """The diagram alone: confidence from left to right, accuracy from bottom to top, a dot for each bin."""
    most = max(it.photos for it in bins)
    points = "; ".join(
        words.RELIABILITY_POINT.format(
            photos=counted(it.photos, "photo"),
            confidence=percent(it.confidence),
            accuracy=percent(it.accuracy),
        )
        for it in bins
    )
    parts = [_axes()]
    for it in bins:
        x, y, line = _x(it.confidence), _y(it.accuracy), _y(it.confidence)
        parts.append(f'<line class="r-gap" x1="{x:.1f}" x2="{x:.1f}" y1="{line:.1f}" y2="{y:.1f}"/>')
    for it in sorted(bins, key=lambda it: -it.photos):
        radius = _RADII[0] + (_RADII[1] - _RADII[0]) * (it.photos / most) ** 0.5
        x, y = _x(it.confidence), _y(it.accuracy)
        parts.append(f'<circle class="r-bubble" cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}"/>')
    label = words.RELIABILITY_ALT.format(points=points)
    return element(
        "svg",
        "".join(parts),
        class_="r-chart",
        viewBox=f"0 0 {_WIDTH} {_HEIGHT}",
        role="img",
        aria_label=label,
    )


def _axes() -> str:
    parts = []
    for tick in _TICKS:
        x, y = _x(tick / 100), _y(tick / 100)
        parts.append(f'<line class="r-grid" x1="{x}" x2="{x}" y1="{_TOP}" y2="{_TOP + _SIDE}"/>')
        parts.append(f'<line class="r-grid" x1="{_LEFT}" x2="{_LEFT + _SIDE}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text x="{x}" y="{_TOP + _SIDE + 18}" text-anchor="middle">{tick}%</text>')
        parts.append(f'<text x="{_LEFT - 8}" y="{y + 4}" text-anchor="end">{tick}%</text>')
    middle = _LEFT + _SIDE / 2
    parts.append(f'<text x="{middle}" y="{_HEIGHT - 8}" text-anchor="middle">{words.CONFIDENCE_AXIS}</text>')
    turned = f'transform="rotate(-90 10 {_TOP + _SIDE / 2})"'
    parts.append(
        f'<text x="10" y="{_TOP + _SIDE / 2}" text-anchor="middle" {turned}>{words.RIGHT_AXIS}</text>'
    )
    ends = f'x1="{_x(0)}" y1="{_y(0)}" x2="{_x(1)}" y2="{_y(1)}"'
    return "".join(parts) + f'<line class="r-ideal" {ends}/>'


def _x(share: float) -> float:
    return _LEFT + _SIDE * share


def _y(share: float) -> float:
    return _TOP + _SIDE * (1 - share)
