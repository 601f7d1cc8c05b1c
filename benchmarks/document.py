"""docs/performance.md, written from stored figures: every number in it is taken from them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks import (
    accuracy,
    adaptation,
    cold_start,
    default_method,
    headlines,
    image_limit,
    images,
    memory,
    neighbours,
    scaling,
    steps,
    thousand_classes,
)
from benchmarks.prose import HEAD, LIMITS, NOTES, READING, paragraph
from benchmarks.tables import duration, markdown_table, megabytes, ratio, times

Figures = Mapping[str, Any]


def write(figures: Figures) -> str:
    """The whole page.

    Args:
        figures: What `benchmarks.performance` stores; parts that are missing are left out.
    """
    sections = {name: make(figures) for name, make in _SECTIONS.items() if name in figures}
    machines = {name: figures["machines"].get(name) for name in sections}
    first = next(filter(None, machines.values()))
    elsewhere = {name: found for name, found in machines.items() if found != first}
    parts = [
        HEAD,
        paragraph(f"Machine: {_machine(first)}."),
        _elsewhere([_title(sections[name]) for name in elsewhere]),
        _section("In short", headlines.table(figures)),
        _summary(figures),
        READING,
    ]
    for name, section in sections.items():
        parts.append(_measured_on(section, elsewhere[name]) if name in elsewhere else section)
    notes = "".join(paragraph(note, bullet=True) for note in NOTES)
    single = "These figures are from single trials, not from the run above."
    return "\n".join([*parts, LIMITS, f"## What did not help\n\n{single}\n\n{notes}"])


def _section(title: str, table: tuple[list[str], list[list[str]]], after: str = "") -> str:
    return f"## {title}\n\n{markdown_table(*table)}" + (f"\n{after}" if after else "")


def _title(section: str) -> str:
    """A section's heading, without its signs."""
    return section.partition("\n")[0].removeprefix("## ")


def _elsewhere(titles: list[str]) -> str:
    """Which sections have figures from another machine than the page's."""
    return (
        paragraph(
            f"These sections were measured on another machine or with other versions: {', '.join(titles)}."
        )
        if titles
        else ""
    )


def _measured_on(section: str, machine: Figures | None) -> str:
    """A section with its machine below its heading; None is a machine that was not noted."""
    heading, _, rest = section.partition("\n\n")
    where = "on a machine that was not noted" if machine is None else f"on: {_machine(machine)}"
    return f"{heading}\n\n{paragraph(f'Measured {where}.')}\n{rest}"


def _machine(machine: Figures) -> str:
    """What it ran on, in a line."""
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    vector = f", {machine['vector'].upper()}" if machine["vector"] else ""
    products = machine["byte_products"] or "no instructions for products of bytes (VNNI, dot product)"
    return (
        f"{machine['processor']} ({machine['architecture']}{vector}; {products}), {machine['cores']} cores, "
        f"{machine['threads']} threads used, {machine['memory_mb'] / 1000:.0f} GB of memory; "
        f"Python {machine['python']}, {versions}"
    )


def _summary(figures: Figures) -> str:
    """The gain of the headline configuration.

    It is split into what the algorithm gives and what the graph gives.
    """
    if "adaptation" not in figures:
        return ""
    model, configuration = adaptation.HEADLINE
    found = figures["adaptation"][model]
    ours, authors, trimmed = found["ours"][configuration], found["authors"], found["trimmed"]
    total = ratio(authors["seconds"], ours["seconds"])
    cached = ratio(authors["seconds"], trimmed["seconds"])
    rest = ratio(trimmed["seconds"], ours["seconds"])
    if ours["steps"] == authors["steps"]:
        source = f"from the graph and int8, with the same {ours['steps']} steps"
    else:
        source = (
            f"from everything else: the graph, int8, and {ours['steps']} steps instead of {authors['steps']}"
        )
    return paragraph(
        f"A whole adaptation of {model} ({configuration}) takes {duration(ours['seconds'])}.",
        f"PyTorch CoOp takes {duration(authors['seconds'])}, {times(total)} as long.",
        f"Of that factor, {times(cached)} come from encoding each photo once and cutting the text;",
        f"PyTorch can do that too, and then takes {duration(trimmed['seconds'])}.",
        f"The remaining {times(rest)} come {source}.",
    )


def _adaptation(figures: Figures) -> str:
    lines = []
    for model, found in figures["adaptation"].items():
        runs = f"ours {found['rounds']} run{'s' * (found['rounds'] > 1)}"
        timed = f"PyTorch {found['authors']['timed_steps']} timed steps, {runs}"
        for name, row in found["ours"].items():
            spent = f"encoding {duration(row['encode'])}, tuning {duration(row['train'])}"
            lines.append(paragraph(f"{model}, {name}: {spent} ({timed})", bullet=True))
    text = paragraph(
        "PyTorch's totals are the number of steps times the median step; the trimmed rows add encoding the",
        "photos once. Loading and decoding are not in them. Where the time goes on our side:",
    )
    return _section(
        "A whole adaptation", adaptation.table(figures["adaptation"]), f"{text}\n{''.join(lines)}"
    )


def _default_method(figures: Figures) -> str:
    found = figures["default_method"]
    spent = "; ".join(
        f"{model}: encoding {duration(row['encode'])}, the rest {duration(row['train'])}"
        for model, row in found.items()
    )
    text = paragraph(
        "Ours is `adapt` without options; its method is `qtaskres`, which needs no gradient of the text tower.",
        "PyTorch's is CoOp, another method for the same task. *Again* is `adapt --bits 2` of the same photos,",
        "whose features are in the cache then. Ours is measured whole. PyTorch's totals are computed: 250 times a",
        f"step, which is timed with {default_method.TIMED_PHOTOS} photos; each further photo of a batch of 32 adds",
        "what encoding one takes. *Trimmed* encodes each photo once. Where the time goes on our side:",
        f"{spent}.",
    )
    return _section("The default method", default_method.table(found), text)


def _thousand_classes(figures: Figures) -> str:
    text = paragraph(
        "The photos are tiny pictures whose features were put into the cache before. They come in batches, and",
        "neither tower is in memory while residuals are tuned.",
    )
    return _section("1,000 classes", thousand_classes.table(figures["thousand_classes"]), text)


def _neighbours(figures: Figures) -> str:
    found = figures["neighbours"]
    return _section("What people use instead", neighbours.table(found), paragraph(*neighbours.notes(found)))


def _steps(figures: Figures) -> str:
    graph = " and ".join(
        f"{duration(found['ours_text_graph'])} with {count} classes"
        for count, found in figures["steps"].items()
    )
    text = paragraph(
        "The names are those of CIFAR-10 and Caltech-101. A ratio is PyTorch's time over ours.",
        f"Loss and gradient alone, without quantizer and optimizer, take {graph}.",
    )
    return _section("One tuning step", steps.table(figures["steps"]), text)


def _images(figures: Figures) -> str:
    found = figures["images"]["byte_products"]
    said = (
        f"has instructions for products of bytes ({found})"
        if found
        else "has no instructions for products of bytes"
    )
    text = paragraph(
        f"This processor {said}. Int8 gains most with such instructions. Ours takes one photo at a time."
    )
    return _section("Encoding a photo", images.table(figures["images"]), text)


def _image_limit(figures: Figures) -> str:
    text = paragraph(
        "The limit is what the multiply-adds of a photo would take at the rates of plain large products: of bytes",
        "by onnxruntime, of float32 by the faster of numpy and onnxruntime, on two matrices of 2048 x 2048 each,",
        "in the same process and in turn. Times are processor time, the shortest of all runs.",
    )
    return _section("A photo against plain products", image_limit.table(figures["image_limit"]), text)


def _scaling(figures: Figures) -> str:
    found = figures["scaling"]
    parts = [f"## How it scales\n\n{scaling.MODEL}, fp32, medians.\n"]
    for header, rows in scaling.tables(found):
        parts.append(markdown_table(header, [["time", *row[1:]] for row in rows]))
    times_as_long = times(found["thousand_to_hundred"])
    parts.append(paragraph(f"A step of 1,000 classes takes {times_as_long} as long as one of 100."))
    parts.append(markdown_table(*scaling.roofline_table(found)))
    parts.append(
        paragraph(
            "Multiply-adds are those that the mathematics needs, counted as `benchmarks/roofline.py` says.",
            "The other side is the faster of numpy and onnxruntime on two matrices of 2048 x 2048, in the",
            "same process.",
        )
    )
    return "\n".join(parts)


def _memory(figures: Figures) -> str:
    sentences = [f"`adapt` is `--method {figures['memory']['method']}` here."]
    if "adaptation" in figures:
        peaks = ", ".join(
            f"{model} {megabytes(found['authors']['peak_mb'])} "
            f"({megabytes(found['trimmed']['peak_mb'])} trimmed)"
            for model, found in figures["adaptation"].items()
        )
        sentences.append(
            f"For comparison, PyTorch CoOp's process in the whole adaptations of {adaptation.CLASSES} classes: {peaks}."
        )
    return _section("Memory", memory.table(figures["memory"]), paragraph(*sentences))


def _cold_start(figures: Figures) -> str:
    text = paragraph("The system holds all files in its cache.")
    return _section("From a cold start", cold_start.table(figures["cold_start"]), text)


def _installed(figures: Figures) -> str:
    found = figures["installed"]
    largest = sorted(found["ours"].items(), key=lambda item: -item[1])[:5]
    rows = [
        ["ours, with all dependencies", megabytes(found["ours_mb"])],
        ["PyTorch and open_clip, with all dependencies", megabytes(found["torch_mb"])],
        ["... without the separate libraries for GPUs", megabytes(found["torch_without_gpu_mb"])],
    ]
    sizes = ", ".join(f"{name} {megabytes(size)}" for name, size in largest)
    text = paragraph(f"The largest parts of ours: {sizes}.")
    return _section("Installed size", (["installed, pip not counted", "size"], rows), text)


def _accuracy(figures: Figures) -> str:
    text = paragraph(
        f"QCoOp at 1 bit on `{figures['accuracy']['backbone']}`, 16 photos a class, mean of ten draws, on photos",
        "that were not trained on. The learning rate of each schedule was chosen on the first two sets",
        "([defaults.md](defaults.md)).",
    )
    return _section("Accuracy at that speed", accuracy.table(figures["accuracy"]), text)


def _aarch64(figures: Figures) -> str:
    """The device side in an emulator, beside this machine."""
    found = figures["aarch64"]
    header = [f"`{found['backbone']}` on examples/photos, 512 MB", "adapted", "zero-shot", "peak memory"]
    rows = [
        [
            f"{name}, onnxruntime {side['versions']['onnxruntime']}, Python {side['versions']['python']}",
            f"{100 * side['adapted']:.1f}%",
            f"{100 * side['zero_shot']:.1f}%",
            megabytes(max(side["peak_mb"].values())),
        ]
        for name, side in ((name, found[name]) for name in ("aarch64", "x86-64"))
    ]
    sentences = [
        "`python -m benchmarks.aarch64` runs the device side in an emulator, with the wheels that a device",
        f"would install and nothing compiled. Of {found['photos']} photos, {found['agree_same_prompt']} get the",
        "same label on both sides with the prompt that was tuned on aarch64, and",
        f"{found['agree']} with each side's own prompt. The emulator's times say nothing about a board.",
        "Accuracy is of the 48 photos held out, of which one is two points.",
    ]
    if found["failures"]:
        sentences.append(f"The check reports: {'; '.join(found['failures'])}.")
    return _section("On aarch64", (header, rows), paragraph(*sentences))


_SECTIONS = {
    "neighbours": _neighbours,
    "adaptation": _adaptation,
    "default_method": _default_method,
    "accuracy": _accuracy,
    "steps": _steps,
    "images": _images,
    "image_limit": _image_limit,
    "scaling": _scaling,
    "thousand_classes": _thousand_classes,
    "memory": _memory,
    "cold_start": _cold_start,
    "installed": _installed,
    "aarch64": _aarch64,
}
