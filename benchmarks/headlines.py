"""The figures that sum the page up; every value is taken from what is stored."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from benchmarks import accuracy
from benchmarks.adaptation import HEADLINE
from benchmarks.bundles import DEFAULT
from benchmarks.tables import megabytes, percent, ratio, times

Figures = Mapping[str, Any]


@dataclass(frozen=True)
class Headline:
    """One measure.

    Attributes:
        measure: What it is, in words.
        value: Takes it from the figures.
        show: Writes it.
    """

    measure: str
    value: Callable[[Figures], float]
    show: Callable[[float], str]


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


def _default_method(model: str) -> Callable[[Figures], float]:
    """PyTorch's whole adaptation over ours with the default method."""
    return lambda figures: ratio(
        figures["default_method"][model]["authors"]["seconds"], figures["default_method"][model]["seconds"]
    )


def _neighbour(name: str) -> Callable[[Figures], float]:
    return lambda figures: float(figures["neighbours"]["rows"][name]["ratio"])


def _image(kind: str, against: str) -> Callable[[Figures], float]:
    return lambda figures: float(figures["images"]["models"]["ViT-B-16"]["ratios"][kind][against])


HEADLINES = (
    Headline("whole adaptation, ViT-B/16, int8, defaults", lambda f: whole(f, *HEADLINE), times),
    Headline("one step, ViT-B/32, 10 classes", _step(10, "ratio"), times),
    Headline("one step, ViT-B/32, 100 classes", _step(100, "ratio"), times),
    Headline("one step against trimmed and cached, 10 classes", _step(10, "ratio_trimmed"), times),
    Headline("one step against trimmed and cached, 100 classes", _step(100, "ratio_trimmed"), times),
    Headline(
        "text step against sgemm, 10 classes",
        lambda f: f["scaling"]["roofline"][0]["share"], percent,
    ),
    Headline(
        "text step against sgemm, 100 classes",
        lambda f: f["scaling"]["roofline"][1]["share"], percent,
    ),
    Headline("image encoding, ViT-B/16, int8, PyTorch one at a time", _image("int8", "batch 1"), times),
    Headline("image encoding, ViT-B/16, int8, PyTorch 32 at a time", _image("int8", "batch 32"), times),
    Headline(
        "whole adaptation, MobileCLIP2-S0, fp32, defaults",
        lambda f: whole(f, "MobileCLIP2-S0", "fp32, defaults"), times,
    ),
    Headline("whole adaptation, ViT-B/16, the default method", _default_method("ViT-B-16"), times),
    Headline("whole adaptation, MobileCLIP2-S0, the default method", _default_method("MobileCLIP2-S0"), times),
    Headline(
        f"`adapt` of 160 photos again with other options, `{DEFAULT}`",
        lambda f: f["default_method"][DEFAULT]["again"], seconds,
    ),
    Headline("MobileNetV2 fine-tuning against `adapt`", _neighbour("mobilenet"), times),
    Headline("PyTorch CoOp on the same tower against `adapt`", _neighbour("authors"), times),
    Headline("accuracy of the default schedule minus that of 250 steps", _accuracy_change, points),
    Headline(
        f"memory: `{DEFAULT}` adapt with 12-megapixel photos",
        _peak(f"{DEFAULT}_adapt_large"), megabytes,
    ),
    Headline("memory: ViT-B/32 adapt, int8 images", _peak("vit_b_32_int8_adapt"), megabytes),
    Headline("memory: ViT-B/32 adapt, fp32", _peak("vit_b_32_fp32_adapt"), megabytes),
    Headline("memory: ViT-B/16 predict, int8 images", _peak("vit_b_16_int8_predict"), megabytes),
    Headline("memory: ViT-B/16 predict, fp32", _peak("vit_b_16_fp32_predict"), megabytes),
    Headline("memory: 1,000 classes of 16 photos, ViT-B/32", _peak("thousand_classes"), megabytes),
    Headline(
        "1,000 classes of 16 photos, ViT-B/32, the default method: tuning",
        lambda f: f["thousand_classes"]["tuning"], seconds,
    ),
    Headline("... and its peak memory", lambda f: f["thousand_classes"]["peak_mb"], megabytes),
    Headline(
        "a step at 1,000 classes against one at 100",
        lambda f: f["scaling"]["thousand_to_hundred"], times,
    ),
    Headline(
        "memory beyond the features, 10,000 classes against 1,000",
        lambda f: f["memory"]["many_classes"]["growth_mb"], megabytes,
    ),
    Headline(
        f"`predict` of one photo, `{DEFAULT}`, from process start",
        lambda f: f["cold_start"][DEFAULT]["seconds"]["predict"], seconds,
    ),
    Headline("device install, pip not counted", lambda f: f["installed"]["ours_mb"], megabytes),
)  # fmt: skip


def table(figures: Figures) -> tuple[list[str], list[list[str]]]:
    """Header and rows: measure and value; measures whose figures are missing are left out."""
    rows = []
    for headline in HEADLINES:
        try:
            value = headline.value(figures)
        except KeyError:
            continue
        rows.append([headline.measure, f"**{headline.show(value)}**"])
    return ["measure", "measured"], rows
