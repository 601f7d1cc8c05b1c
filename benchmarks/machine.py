"""What the figures were measured on: the processor, the system, and the versions that decide speed."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from typing import Any

from qprompt_runtime.processor import byte_products, cpu_fact, cpu_flags

_WIDTHS = ("avx512f", "avx2", "avx", "asimd")
_PACKAGES = ("qprompt-edge", "numpy", "onnxruntime", "pillow", "torch", "open_clip_torch")


def measure(threads: int) -> dict[str, Any]:
    """Facts of this machine."""
    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return {
        "processor": cpu_fact("model name", "Model") or platform.processor() or platform.machine(),
        "architecture": platform.machine(),
        "cores": os.cpu_count(),
        "threads": threads,
        "vector": next((name for name in _WIDTHS if name in cpu_flags()), ""),
        "byte_products": ", ".join(byte_products()),
        "memory_mb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 10**6),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": versions,
    }
