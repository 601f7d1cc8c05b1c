"""Which image tower runs on this processor, if a bundle has one in floating point and one in int8.

A fixed table decides by the processor's instructions, made from measurements. Nothing is timed at run time: a
photo must have the same features every time, and two runs on one machine must give the same prompt file.
"""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import TYPE_CHECKING

from qprompt_runtime.errors import ProviderError

if TYPE_CHECKING:
    from qprompt_runtime.manifest import Graph, Manifest

AUTO, FLOAT, INT8 = "auto", "float", "int8"
"""What a precision may be: as the table says, or one of the two towers."""
_CPUINFO = Path("/proc/cpuinfo")
_BYTE_PRODUCTS = ("avx512_vnni", "avx_vnni", "asimddp", "i8mm")
_FASTER_IN_INT8 = {"x86_64": ("avx2",)}
"""Instructions with which int8 is faster, by architecture; elsewhere the tower in floating point runs.

An emulator may show the instructions of the processor that it runs on, hence the architecture. onnxruntime
uses nothing newer where `avx2` is missing. A photo of `small` takes, of its time in float32 (EPYC, Zen 4,
onnxruntime 1.32, processor time):

- with `avx512_vnni` 0.47;
- with `avx2` alone 0.67, and with AVX-512 but no VNNI 0.71. The instructions above were hidden from
  onnxruntime; it was not an older processor. An EPYC that has AVX2 alone took 0.70 with an older int8 graph.
  Haswell, Broadwell, Zen 1 and Zen 2 multiply bytes no faster than floats: 0.96, estimated, not measured.
- with `avx_vnni`: not measured; one instruction does what takes AVX2 three.

`asimddp` and `i8mm` (ARM) were never measured, so they are not in the table: there int8 would cost accuracy
for a gain that nobody has seen.
"""


def cpu_fact(*names: str) -> str:
    """The first value that /proc/cpuinfo gives under one of some names; empty where there is none."""
    try:
        with _CPUINFO.open(encoding="utf-8") as lines:
            for line in lines:
                key, _, value = line.partition(":")
                if key.strip() in names:
                    return value.strip()
    except OSError:
        pass
    return ""


def cpu_flags() -> frozenset[str]:
    """Instruction sets that /proc/cpuinfo names; empty where there is none."""
    return frozenset(cpu_fact("flags", "Features").split())


def byte_products() -> tuple[str, ...]:
    """Instructions for products of bytes (VNNI, ARM's dot product) that this processor has."""
    flags = cpu_flags()
    return tuple(name for name in _BYTE_PRODUCTS if name in flags)


def chosen_graph(manifest: Manifest, wanted: str, provider: str) -> Graph:
    """The image tower that is to run.

    Args:
        manifest: The bundle's; without an int8 graph beside the other there is no choice.
        wanted: `float`, `int8`, or `auto`: what `QPE_PRECISION` says, or else the table.
        provider: As onnxruntime names it. The table is about its CPU provider alone.

    Raises:
        ProviderError: `QPE_PRECISION`, or `wanted`, is none of the three.
    """
    named = os.environ.get("QPE_PRECISION", "") or AUTO if wanted == AUTO else wanted
    if named not in (AUTO, FLOAT, INT8):
        raise ProviderError(
            f"the precision {named!r:.80} (QPE_PRECISION) is not one of {AUTO}, {FLOAT}, {INT8}"
        )
    if manifest.int8_image_graph is None or named == FLOAT:
        return manifest.image_graph
    faster = _FASTER_IN_INT8.get(platform.machine(), ())
    if named == INT8 or (provider.startswith("CPU") and not cpu_flags().isdisjoint(faster)):
        return manifest.int8_image_graph
    return manifest.image_graph
