"""docs/performance.md, written from stored figures: every number in it is taken from them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks import accuracy, adaptation, cold_start, headlines, images, memory, scaling, steps
from benchmarks.tables import duration, markdown_table, megabytes, ratio, times

Figures = Mapping[str, Any]

NOTES = (
    "**One text graph with the gradient behind an `If`**: onnxruntime 1.31 packs the weights that both parts use twice, and keeps the mapped ones "
    "beside them until the session is open (528 MB at most for a ViT-B/32 in float32, 392 as two graphs). Initializers of their own for the branch, in the outer graph or in the branch, did not "
    "change that.",
    "**Memory-mapped weights instead of packed ones** while tuning: 150 MB less, and a step of 10 classes takes a third longer (100 classes: 5%). It is what "
    "`--max-memory` takes, not the default.",
    "**onnxruntime's arena off**: no memory saved, steps 10% slower. **Its memory patterns on**: steps 3% faster, 13 MB more; they are off.",
    "**Reading the prompt's first words from the gradient's graph** instead of opening the features' graph for them: 0.1 s less and 30 MB more, because "
    "the tokenizer is then in memory beside the packed weights.",
    "**Asking the gradient's graph for its forward pass only** (onnxruntime's `only_execute_path_to_fetches`), which would spare the features' graph where "
    "classes come in chunks: onnxruntime for inference runs the whole graph all the same.",
    "**Fewer than 50 steps, larger rates, more momentum**: up to 3 points less on CIFAR-10 ([defaults.md](defaults.md)).",
    "**Int8 without instructions for products of bytes** is at most twice as fast: such a processor multiplies bytes twice as fast as floats, "
    "and the products already run at that rate.",
)
"""What was tried and did not help, a sentence or two each."""

_HEAD = """# Performance

<!-- Written by `python -m benchmarks.performance`; change the benchmarks, not this page. -->

How fast and how small `qprompt-edge` is beside CoOp in PyTorch, and what limits it. Every figure but those at the end is from
`python -m benchmarks.performance`, both sides of a ratio always from the same part of it on the same machine; the figures themselves are in [performance.json](performance.json).
"""

_READING = """## How to read it

- **Ratios travel, times do not.** Both sides ran on the same machine, with the same threads, weights, class names and photos, in turn, so
  that a drift of the machine's speed met both. On another machine expect other times and similar ratios, except where int8 is
  concerned (below).
- **The backbones hold random weights**, but for `small`, which every command takes unless another is named, and `tiny`, which is there for comparison: a smaller one
  for slower boards. Time and memory do not depend on what weights are; accuracy does ([defaults.md](defaults.md)).
- **PyTorch CoOp** (`benchmarks/torch_coop.py`) works as its authors' code does: 77 tokens for every class, images encoded in
  every step, autograd through the text tower. Its photos come decoded and cropped, its loading is not counted. Its whole adaptation is
  computed: steps times the median step.
- **Trimmed and cached** is PyTorch too, as a careful user would write it: text cut behind the longest name, image features computed once.
  What this row gains over the first is the algorithm's; what ours gains over this row is the graph's: a prefix computed once for all
  classes, names without padding, a gradient without PyTorch's bookkeeping, and, by default, fewer steps where that is said.
- **Cached features mean no random crops and flips**, which the authors' code draws anew in every step. `--views` caches some of each photo.
- Ours is the command `qprompt-edge adapt --method qcoop`, the same method, from the start of its process, with an empty cache, decoding included. The default method, `qtaskres`, is
  under [From a cold start](#from-a-cold-start) and, where it says so, under [Memory](#memory).
"""

_LIMITS = """## What limits what

- **Encoding photos** is most of a short adaptation: each photo goes through the image tower once. Int8 makes it faster, and most so on processors
  with instructions for products of bytes (VNNI on x86-64, dot product on ARM). A Raspberry Pi 4 has neither, a Raspberry Pi 5
  and the Jetsons from Xavier on have dot products.
- **A tuning step** is products of matrices in the text tower, so it grows with the tokens of all class names together, and hardly with the
  photos in the batch. The roofline compares it with a plain large product; the rest goes into normalisation, softmax and activations,
  products too small to fill the processor, and reading weights.
- **Non-causal text towers** (MobileCLIP2) see their padding, so all tokens of the full length are computed for every class, exactly as
  in PyTorch; nothing can be trimmed or shared there.
- **Memory** is the text tower's weights and the activations of one group of classes. `--max-memory` makes the groups smaller, for a second pass
  over the classes in each step. Pages of memory-mapped weights count as resident here; a machine short of memory drops them.
- **Many classes** cost time in proportion; beyond one group a step takes two passes.
"""


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
        _HEAD,
        f"Machine: {_machine(first)}.\n",
        _elsewhere([_title(sections[name]) for name in elsewhere]),
        _section("In short", headlines.table(figures)),
        _summary(figures),
        _READING,
    ]
    for name, section in sections.items():
        parts.append(_measured_on(section, elsewhere[name]) if name in elsewhere else section)
    parts.append(_LIMITS)
    if NOTES:
        parts.append(
            "## What did not help\n\nFigures here are of single trials, not of the run above.\n\n"
            + "".join(f"- {note}\n" for note in NOTES)
        )
    return "\n".join(parts)


def _section(title: str, table: tuple[list[str], list[list[str]]], after: str = "") -> str:
    return f"## {title}\n\n{markdown_table(*table)}" + (f"\n{after}\n" if after else "")


def _title(section: str) -> str:
    """A section's heading, without its signs."""
    return section.partition("\n")[0].removeprefix("## ")


def _elsewhere(titles: list[str]) -> str:
    """Which sections have figures from another machine than the page's."""
    return (
        f"Not measured on this machine with these versions, as they say themselves: {', '.join(titles)}.\n"
        if titles
        else ""
    )


def _measured_on(section: str, machine: Figures | None) -> str:
    """A section with the machine that it was measured on below its heading; None is one that nobody noted."""
    heading, _, rest = section.partition("\n\n")
    where = "on a machine that was not noted" if machine is None else f"on: {_machine(machine)}"
    return f"{heading}\n\nMeasured {where}.\n\n{rest}"


def _machine(machine: Figures) -> str:
    """What it ran on, in a line."""
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    vector = f", {machine['vector'].upper()}" if machine["vector"] else ""
    products = machine["byte_products"] or "no instructions for products of bytes (VNNI, dot product)"
    return (
        f"{machine['processor']} ({machine['architecture']}{vector}; {products}), {machine['cores']} cores, "
        f"{machine['threads']} threads used, {machine['memory_mb'] / 1000:.0f} GB of memory; Python {machine['python']}, {versions}"
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
        source = f"from the graph and int8, at the same {ours['steps']} steps"
    else:
        source = (
            f"from everything else: the graph, int8, and {ours['steps']} steps instead of {authors['steps']}"
        )
    return (
        f"A whole adaptation of {model} ({configuration}) takes {duration(ours['seconds'])} where PyTorch CoOp takes "
        f"{duration(authors['seconds'])}: {times(total)}. Of that, {times(cached)} come from encoding each photo once and cutting "
        f"the text (PyTorch can do that too: {duration(trimmed['seconds'])}), and {times(rest)} {source}.\n"
    )


def _adaptation(figures: Figures) -> str:
    lines = []
    for model, found in figures["adaptation"].items():
        timed = f"PyTorch {found['authors']['timed_steps']} timed steps, ours {found['rounds']} run{'s' * (found['rounds'] > 1)}"
        for name, row in found["ours"].items():
            lines.append(
                f"- {model}, {name}: encoding {duration(row['encode'])}, tuning {duration(row['train'])} ({timed})"
            )
    text = (
        "PyTorch's totals are steps times the median step, for the trimmed rows with encoding the photos once; loading and decoding are "
        "not in them. Where the time goes on our side:\n\n" + "\n".join(lines)
    )
    return _section("A whole adaptation", adaptation.table(figures["adaptation"]), text)


def _steps(figures: Figures) -> str:
    graph = " and ".join(
        f"{duration(found['ours_text_graph'])} with {count} classes"
        for count, found in figures["steps"].items()
    )
    text = (
        "The names are CIFAR-10's and Caltech-101's. The ratios are PyTorch's time over ours. Loss and gradient alone, without quantizer and "
        f"optimizer, take {graph}."
    )
    return _section("One tuning step", steps.table(figures["steps"]), text)


def _images(figures: Figures) -> str:
    found = figures["images"]["byte_products"]
    said = (
        f"has instructions for products of bytes ({found})"
        if found
        else "has no instructions for products of bytes"
    )
    text = f"This processor {said}, which int8 gains most from. Ours takes one photo at a time."
    return _section("Encoding a photo", images.table(figures["images"]), text)


def _scaling(figures: Figures) -> str:
    found = figures["scaling"]
    parts = [f"## How it scales\n\n{scaling.MODEL}, fp32, medians.\n"]
    for header, rows in scaling.tables(found):
        parts.append(markdown_table(header, [["time", *row[1:]] for row in rows]))
    parts.append(f"A step of 1,000 classes takes {times(found['thousand_to_hundred'])} one of 100.\n")
    parts.append(markdown_table(*scaling.roofline_table(found)))
    parts.append(
        "Multiply-adds are those that the mathematics needs, counted as `benchmarks/roofline.py` says; the other side is the faster of numpy and "
        "onnxruntime on two matrices of 2048 x 2048, in the same process.\n"
    )
    return "\n".join(parts)


def _memory(figures: Figures) -> str:
    text = f"`adapt` is `--method {figures['memory']['method']}` here. "
    if "adaptation" in figures:
        text += "PyTorch CoOp's process, from the whole adaptations, for comparison: " + ", ".join(
            f"{model} {megabytes(found['authors']['peak_mb'])} ({megabytes(found['trimmed']['peak_mb'])} trimmed)"
            for model, found in figures["adaptation"].items()
        )
        text += f", {adaptation.CLASSES} classes."
    return _section("Memory", memory.table(figures["memory"]), text)


def _cold_start(figures: Figures) -> str:
    return _section(
        "From a cold start", cold_start.table(figures["cold_start"]), "Files are in the system's cache."
    )


def _installed(figures: Figures) -> str:
    found = figures["installed"]
    largest = sorted(found["ours"].items(), key=lambda item: -item[1])[:5]
    rows = [
        ["ours, with all dependencies", megabytes(found["ours_mb"])],
        ["PyTorch and open_clip, with all dependencies", megabytes(found["torch_mb"])],
        ["... without the separate libraries for GPUs", megabytes(found["torch_without_gpu_mb"])],
    ]
    text = f"The largest parts of ours: {', '.join(f'{name} {megabytes(size)}' for name, size in largest)}."
    return _section("Installed size", (["installed, pip not counted", "size"], rows), text)


def _accuracy(figures: Figures) -> str:
    text = (
        f"QCoOp at 1 bit on `{figures['accuracy']['backbone']}`, 16 photos a class, ten draws, photos that were not trained on. The rate of either schedule was chosen on "
        "the first two sets ([defaults.md](defaults.md))."
    )
    return _section("Accuracy at that speed", accuracy.table(figures["accuracy"]), text)


def _aarch64(figures: Figures) -> str:
    """The device side in an emulator, beside this machine."""
    found = figures["aarch64"]
    header = [
        f"`{found['backbone']}` on examples/photos, 512 MB",
        "adapted",
        "zero-shot",
        "seconds",
        "peak memory",
    ]
    rows = [
        [
            f"{name}, onnxruntime {side['versions']['onnxruntime']}, Python {side['versions']['python']}",
            f"{100 * side['adapted']:.1f}%",
            f"{100 * side['zero_shot']:.1f}%",
            f"{sum(side['seconds'].values()):.0f}",
            megabytes(max(side["peak_mb"].values())),
        ]
        for name, side in ((name, found[name]) for name in ("aarch64", "x86-64"))
    ]
    text = (
        f"`python -m benchmarks.aarch64` runs the device side in an emulator with the wheels a device would install, nothing compiled. "
        f"Of {found['photos']} photos, {found['agree_same_prompt']} get the same label on both with the prompt that was tuned on aarch64, "
        f"{found['agree']} with each side's own. Emulation takes minutes; its times say nothing about a board."
    )
    if found["failures"]:
        text += f" **Not fulfilled:** {'; '.join(found['failures'])}."
    return _section("On aarch64", (header, rows), text)


_SECTIONS = {
    "adaptation": _adaptation,
    "accuracy": _accuracy,
    "steps": _steps,
    "images": _images,
    "scaling": _scaling,
    "memory": _memory,
    "cold_start": _cold_start,
    "installed": _installed,
    "aarch64": _aarch64,
}
