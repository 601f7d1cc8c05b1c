"""What the figures were measured on: the processor, the system, and the versions that decide speed."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

_CPUINFO = Path("/proc/cpuinfo")
_BYTE_PRODUCTS = ("avx512_vnni", "avx_vnni", "asimddp", "i8mm")
_WIDTHS = ("avx512f", "avx2", "avx", "asimd")
_PACKAGES = ("qprompt-edge", "numpy", "onnxruntime", "pillow", "torch", "open_clip_torch")


def cpu_flags() -> frozenset[str]:
    """Instruction sets that /proc/cpuinfo names; empty where there is none."""
    return frozenset(_cpu_fact("flags", "Features").split())


def byte_products() -> str:
    """Instructions for products of bytes (VNNI, ARM's dot product), separated by commas.

    Empty if there are none.
    """
    return ", ".join(name for name in _BYTE_PRODUCTS if name in cpu_flags())


def _cpu_fact(*names: str) -> str:
    """The first value that /proc/cpuinfo gives under one of some names."""
    if not _CPUINFO.exists():
        return ""
    for line in _CPUINFO.read_text(encoding="utf-8").splitlines():
        key, _, value = line.partition(":")
        if key.strip() in names:
            return value.strip()
    return ""


def measure(threads: int) -> dict[str, Any]:
    """Facts of this machine."""
    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return {
        "processor": _cpu_fact("model name", "Model") or platform.processor() or platform.machine(),
        "architecture": platform.machine(),
        "cores": os.cpu_count(),
        "threads": threads,
        "vector": next((name for name in _WIDTHS if name in cpu_flags()), ""),
        "byte_products": byte_products(),
        "memory_mb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 10**6),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": versions,
    }
