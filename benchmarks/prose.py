"""The words of docs/performance.md that no figure changes, and how its paragraphs are wrapped."""

from __future__ import annotations

import textwrap

_WIDTH = 100

HEAD = """# Performance

<!-- Written by `python -m benchmarks.performance`; change the benchmarks, not this page. -->

How fast and how small `qprompt-edge` is beside CoOp in PyTorch, and what limits it. All figures are
from `python -m benchmarks.performance`, except those under [What did not help](#what-did-not-help).
Both sides of a ratio are from the same part of that run, on the same machine. The figures are
stored in [performance.json](performance.json).
"""

READING = """## How to read it

- **Ratios carry over to other machines, times do not.** Both sides ran on the same machine, with
  the same threads, weights, class names and photos. They took turns, so a drift of the machine's
  speed affects both. On another machine, expect other times and similar ratios. Int8 is the
  exception (see [What limits what](#what-limits-what)).
- **The backbones hold random weights**, except `small` and `tiny`. `small` is the default; `tiny`
  is smaller, for slower boards, and is here for comparison. Time and memory do not depend on the
  values of the weights. Accuracy does ([defaults.md](defaults.md)).
- **PyTorch CoOp** (`benchmarks/torch_coop.py`) works as its authors' code does: 77 tokens for every
  class, images encoded in every step, autograd through the text tower. Its photos are decoded and
  cropped beforehand, and loading is not counted. Its whole adaptation is computed: the number of
  steps times the median step.
- **Trimmed and cached** is PyTorch too, as a careful user would write it: the text is cut after the
  longest name, and image features are computed once. The gain of this row over PyTorch CoOp comes
  from the algorithm. The gain of ours over this row comes from the graph: the prefix is computed
  once for all classes, names are not padded, and the gradient needs none of PyTorch's bookkeeping.
  Where the table says so, it also comes from fewer steps.
- **Cached features mean no random crops and flips.** The authors' code draws them anew in every
  step. `--views` caches some of them for each photo.
- **Ours**, where CoOp in PyTorch stands beside it, is the command `qprompt-edge adapt --method qcoop`:
  the same method. It is timed from the start of its process, with an empty cache, and decoding is
  included. The default method, `qtaskres`, learns residuals of class features. It has sections of
  its own, and others say where they use it.
"""

LIMITS = """## What limits what

- **Encoding photos** takes most of a short adaptation: each photo goes through the image tower
  once. Int8 makes it faster, most of all on processors with instructions for products of bytes
  (VNNI on x86-64, dot product on ARM). A Raspberry Pi 4 has neither. A Raspberry Pi 5 and the
  Jetsons from Xavier on have dot products.
- **A tuning step** consists of matrix products in the text tower. Its time grows with the number of
  tokens of all class names together, and hardly with the photos in the batch. The roofline compares
  it with a plain large product. The rest of the time goes into normalisation, softmax and
  activations, into products too small to fill the processor, and into reading weights.
- **Non-causal text towers** (MobileCLIP2) attend to their padding. All tokens of the full length
  are computed for every class, as in PyTorch; nothing can be trimmed or shared. The default method
  runs the tower once for each class, and never backwards. What took most of its time were the
  features of the 1,000 nouns of "none of these"; the bundle holds them now.
- **Memory** is taken by the weights of the text tower and the activations of one group of classes.
  `--max-memory` makes the groups smaller, and each step then takes a second pass over the classes.
  Pages of memory-mapped weights count as resident here; a machine short of memory drops them.
- **Many classes** cost time in proportion. If they do not fit in one group, a step takes two passes.
"""

NOTES = (
    "**One text graph with the gradient behind an `If`.** onnxruntime 1.31 packs the weights that both parts "
    "use twice, and keeps the mapped ones beside them until the session is open: at most 528 MB for a "
    "ViT-B/32 in float32, against 392 MB as two graphs. Separate initializers for the branch did not change "
    "that, neither in the outer graph nor in the branch.",
    "**Memory-mapped weights instead of packed ones** while tuning: 150 MB less, but a step of 10 classes "
    "takes a third longer (100 classes: 5%). `--max-memory` uses them; the default does not.",
    "**onnxruntime's arena off**: no memory saved, steps 10% slower. **Its memory patterns on**: steps 3% "
    "faster, 13 MB more; they are off.",
    "**Reading the prompt's first words from the gradient's graph**, instead of opening the features' graph "
    "for them: 0.1 s less but 30 MB more, because the tokenizer is then in memory beside the packed weights.",
    "**Asking the gradient's graph for its forward pass only** (onnxruntime's "
    "`only_execute_path_to_fetches`). This would make the features' graph unnecessary where classes come in "
    "chunks, but onnxruntime for inference runs the whole graph anyway.",
    "**Fewer than 50 steps, larger rates, more momentum**: up to 3 points less on CIFAR-10 "
    "([defaults.md](defaults.md)).",
    "**More from a text step with few classes.** With 10 classes (ViT-B/32, 36 rows, one core with AVX-512, "
    "onnxruntime 1.32), the linear maps alone, weights packed, run at 89% of the rate of a plain large "
    "product. With the last block and the products of attention, a step without any other operator would "
    "reach 85%. It reaches 78% on that core, and 89% with 100 classes; the rest is 1,150 small operators. They "
    "run on one thread, so the share is lower with two. Changes of 2% at most: the "
    "activation's constants within the products beside it, reused buffers so that reshapes do not copy, "
    "denormal numbers as zero. The backward pass of a normalisation takes as many operators in other terms. "
    "onnxruntime's fused operators for normalisations and activations do not give what a backward pass "
    "needs, and a bundle could not name them.",
    "**Large pages for packed weights** (`GLIBC_TUNABLES=glibc.malloc.hugetlb=1`): with two threads, a step of "
    "10 classes takes 35.9 instead of 37.4 ms, with 4 MB more, but the first one 0.1 to 0.2 s more, which 60 steps "
    "do not win back. Without them, some processes (up to a third) are slow as a whole, 44 ms a step: where the "
    "weights come to lie in memory seems to decide.",
    "**Half of the classes on each of two threads**, in place of two threads within each operator: 41 instead of 36 "
    "ms with 10 classes, 281 instead of 283 ms with 100, and the tower would run forward twice. Threads that look "
    "for work for 50, 200 or 1,000 microseconds, or without end, instead of 20: 36 to 37 ms all.",
    "**Int8 without instructions for products of bytes** is at most twice as fast. Such a processor "
    "multiplies bytes twice as fast as floats, and the products already run at that rate. By LLVM's tables, "
    "Haswell, Broadwell, Zen 1 and Zen 2 multiply them no faster.",
    "**A faster float32 graph of `small`.** On a core with AVX2, a photo takes 14.3 ms of processor time, 88% of "
    "the rate of a plain large product; PyTorch takes 31.1 ms, with `channels_last` 26.9 ms. onnxruntime already "
    "joins each convolution with its activation, in a blocked layout (NCHWc): without that layout it takes "
    "34.4 ms. Batches of 8, memory patterns, reused memory and weights stored as float32 change 3% at most. An "
    "older int8 graph took 10.2 ms. Where AVX-512 and VNNI were hidden from onnxruntime on a newer processor, "
    "int8 takes 7.5 ms and float32 11.3 ms ([decisions](decisions.md#the-device-side)).",
    "**A faster int8 graph of `small`.** On a core with AVX-512 and VNNI (onnxruntime 1.32), a photo takes "
    "4.3 ms of processor time at best: 61% of the rate of plain products of 2048 x 2048 (183 G multiply-adds "
    "a second of bytes, 53 of float32), 52% with products of 1024 x 1024 (221 and 50), 49% of what the "
    "instructions alone give in a loop (`vpdpbusd` 234, `vfmadd` 58.5). Of its 426 M multiply-adds, 22 M are "
    "in float. Each operator that can be one of bytes is one. By onnxruntime's profiler, pointwise "
    "convolutions take 44% of the time, at 146 G/s. Depthwise ones take 24%, at 25 G/s, since they are not "
    "products of matrices. The three convolutions in float take 13%, at 32 G/s, the blocks' products 9%, and "
    "all other operators 10%: transposes, reshapes and gathers 3% in all, which is about what another graph "
    "with the same numbers could save. Memory patterns, reused memory and denormals as zero change 2% at "
    "most.",
)
"""What was tried and did not help."""


def paragraph(*sentences: str, bullet: bool = False) -> str:
    """One wrapped paragraph of Markdown, or one item of a list, with a line break at its end."""
    text = " ".join(sentences)
    return (
        textwrap.fill(
            text,
            _WIDTH,
            initial_indent="- " if bullet else "",
            subsequent_indent="  " if bullet else "",
            break_long_words=False,
            break_on_hyphens=False,
        )
        + "\n"
    )
