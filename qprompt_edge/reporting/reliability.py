"""The reliability diagram: whether the prompt is right as often as it says."""

from __future__ import annotations

from collections.abc import Sequence

from qprompt_edge.evaluation.intervals import wilson
from qprompt_edge.evaluation.metrics import ConfidenceBin
from qprompt_edge.reporting import words
from qprompt_edge.reporting.charts import SHARES, chart, dot, figure, line
from qprompt_edge.reporting.markup import element
from qprompt_runtime.text import counted, percent

_LEAST_RADIUS, _MORE_RADIUS = 3.5, 7.5


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
    return element("p", f"{said} {error}") + figure(reliability_svg(bins), words.RELIABILITY_CAPTION)


def reliability_svg(bins: Sequence[ConfidenceBin]) -> str:
    """The diagram alone: confidence from left to right, accuracy from bottom to top, a dot for each bin."""
    most = max(it.photos for it in bins)
    drawn = [line("r-ideal", (0, 1), (0, 1))]
    drawn += [line("r-gap", (it.confidence, it.confidence), (it.confidence, it.accuracy)) for it in bins]
    for it in sorted(bins, key=lambda it: -it.photos):
        radius = _LEAST_RADIUS + _MORE_RADIUS * (it.photos / most) ** 0.5
        drawn.append(dot(it.confidence, it.accuracy, radius))
    points = "; ".join(
        words.RELIABILITY_POINT.format(
            photos=counted(it.photos, "photo"),
            confidence=percent(it.confidence),
            accuracy=percent(it.accuracy),
        )
        for it in bins
    )
    alt = words.RELIABILITY_ALT.format(points=points)
    return chart(drawn, alt, SHARES, words.CONFIDENCE_AXIS, words.RIGHT_AXIS)
