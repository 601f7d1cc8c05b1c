"""What was asked for, beside what was reached; every value is taken from the stored figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from benchmarks import accuracy
from benchmarks.adaptation import HEADLINE
from benchmarks.bundles import DEFAULT
from benchmarks.tables import megabytes, ratio, times

Figures = Mapping[str, Any]


@dataclass(frozen=True)
class Target:
    """One measure.

    Attributes:
        measure: What it is, in words.
        least: What it has to reach.
        aim: What is hoped for.
        value: Takes it from the figures.
        show: Writes it.
        smaller: Whether less is better.
    """

    measure: str
    least: float
    aim: float
    value: Callable[[Figures], float]
    show: Callable[[float], str]
    smaller: bool = False

    def verdict(self, value: float) -> str:
        """`aim`, `reached` or `missed`."""
        sign = -1 if self.smaller else 1
        if sign * value >= sign * self.aim:
            return "aim"
        return "reached" if sign * value >= sign * self.least else "**missed**"


def percent(value: float) -> str:
    """A share as a percentage."""
    return f"{100 * value:.0f}%"


def points(value: float) -> str:
    """A difference of accuracies."""
    return f"{value:+.1f} points"


def seconds(value: float) -> str:
    """A time in seconds."""
    return f"{value:.2f} s"


def whole(figures: Figures, model: str, configuration: str, side: str = "authors") -> float:
    """PyTorch's whole adaptation over ours."""
    found = figures["adaptation"][model]
    return ratio(found[side]["seconds"], found["ours"][configuration]["seconds"])


def _peak(name: str) -> Callable[[Figures], float]:
    return lambda figures: float(figures["memory"]["peak_mb"][name])


def _step(classes: int, key: str) -> Callable[[Figures], float]:
    return lambda figures: float(figures["steps"][str(classes)][key])


def _accuracy_change(figures: Figures) -> float:
    """Points of top-1 that the default schedule gains over the 250 steps, on the mean of the sets."""
    gains = []
    for found in figures["accuracy"]["sets"].values():
        (steps,) = (row["top1"] for schedule, row in found.items() if schedule != accuracy.DEFAULTS)
        gains.append(found[accuracy.DEFAULTS]["top1"] - steps)
    return 100 * fmean(gains)


def _image(kind: str, against: str) -> Callable[[Figures], float]:
    return lambda figures: float(figures["images"]["models"]["ViT-B-16"]["ratios"][kind][against])


TARGETS = (
    Target("whole adaptation, ViT-B/16, int8, defaults", 100, 200, lambda f: whole(f, *HEADLINE), times),
    Target("one step, ViT-B/32, 10 classes", 45, 90, _step(10, "ratio"), times),
    Target("one step, ViT-B/32, 100 classes", 28, 60, _step(100, "ratio"), times),
    Target("one step against trimmed and cached, 10 classes", 2.8, 3.5, _step(10, "ratio_trimmed"), times),
    Target("one step against trimmed and cached, 100 classes", 2.8, 3.5, _step(100, "ratio_trimmed"), times),
    Target(
        "text step against sgemm, 10 classes", 0.6, 0.75,
        lambda f: f["scaling"]["roofline"][0]["share"], percent,
    ),
    Target(
        "text step against sgemm, 100 classes", 0.6, 0.75,
        lambda f: f["scaling"]["roofline"][1]["share"], percent,
    ),
    Target("image encoding, ViT-B/16, int8, PyTorch one at a time", 4.5, 6, _image("int8", "batch 1"), times),
    Target("image encoding, ViT-B/16, int8, PyTorch 32 at a time", 4.5, 6, _image("int8", "batch 32"), times),
    Target(
        "whole adaptation, MobileCLIP2-S0, fp32, defaults", 5, 10,
        lambda f: whole(f, "MobileCLIP2-S0", "fp32, defaults"), times,
    ),
    Target("accuracy of the default schedule minus that of 250 steps", 0, 0.1, _accuracy_change, points),
    Target(
        f"memory: `{DEFAULT}` adapt with 12-megapixel photos", 180, 140,
        _peak(f"{DEFAULT}_adapt_large"), megabytes, True,
    ),
    Target("memory: ViT-B/32 adapt, int8 images", 450, 300, _peak("vit_b_32_int8_adapt"), megabytes, True),
    Target("memory: ViT-B/32 adapt, fp32", 450, 300, _peak("vit_b_32_fp32_adapt"), megabytes, True),
    Target("memory: ViT-B/16 predict, int8 images", 350, 250, _peak("vit_b_16_int8_predict"), megabytes, True),
    Target("memory: ViT-B/16 predict, fp32", 350, 250, _peak("vit_b_16_fp32_predict"), megabytes, True),
    Target("memory: 1,000 classes of 16 photos, ViT-B/32", 900, 600, _peak("thousand_classes"), megabytes, True),
    Target(
        "a step at 1,000 classes against one at 100", 16, 11,
        lambda f: f["scaling"]["thousand_to_hundred"], times, True,
    ),
    Target(
        "memory beyond the features, 10,000 classes against 1,000", 10, 5,
        lambda f: f["memory"]["many_classes"]["growth_mb"], megabytes, True,
    ),
    Target(
        f"`predict` of one photo, `{DEFAULT}`, from process start", 0.8, 0.5,
        lambda f: f["cold_start"][DEFAULT]["seconds"]["predict"], seconds, True,
    ),
    Target("device install, pip not counted", 250, 200, lambda f: f["installed"]["ours_mb"], megabytes, True),
)  # fmt: skip


def table(figures: Figures) -> tuple[list[str], list[list[str]]]:
    """Header and rows: measure, what was asked, what was reached; measures whose figures are missing are left out."""
    rows = []
    for target in TARGETS:
        try:
            value = target.value(figures)
        except KeyError:
            continue
        asked = f"{'at most' if target.smaller else 'at least'} {target.show(target.least)}"
        rows.append(
            [
                target.measure,
                asked,
                target.show(target.aim),
                f"**{target.show(value)}**",
                target.verdict(value),
            ]
        )
    return ["measure", "asked", "aim", "measured", ""], rows
