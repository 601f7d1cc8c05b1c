"""How much disk an installation takes: a distribution with everything that it requires, pip not counted."""

from __future__ import annotations

import importlib.metadata
import re
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

from benchmarks.processes import ROOT

PYTORCH = ("torch", "open_clip_torch")
OURS = ("qprompt-edge",)
_OWN_PACKAGES = ("runtime/qprompt_runtime", "qprompt_edge", "exporters/qprompt_exporters")
_GPU = re.compile(r"^(nvidia|cuda|triton)")


def normalised(name: str) -> str:
    """A distribution's name as PEP 503 writes it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def closure(names: tuple[str, ...]) -> dict[str, importlib.metadata.Distribution]:
    """Distributions that are installed because of some others, with those others.

    Extras are followed where asked for.
    """
    found: dict[str, importlib.metadata.Distribution] = {}
    waiting: list[tuple[str, frozenset[str]]] = [(name, frozenset()) for name in names]
    while waiting:
        name, extras = waiting.pop()
        name = normalised(name)
        if name in found and not extras:
            continue
        try:
            found[name] = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # required only where a marker does not tell, such as an optional backend
        for line in found[name].requires or []:
            needed = Requirement(line)
            wanted = any(
                needed.marker is None or needed.marker.evaluate({"extra": extra}) for extra in ("", *extras)
            )
            if wanted and (normalised(needed.name) not in found):
                waiting.append((needed.name, frozenset(needed.extras)))
    return found


def size_mb(distribution: importlib.metadata.Distribution) -> float:
    """Files of a distribution in MB of 10^6 bytes.

    An editable install of this project counts what its wheel holds.
    """
    if normalised(distribution.name) == OURS[0]:
        return sum(_tree_mb(ROOT / name) for name in _OWN_PACKAGES)
    paths = (Path(str(distribution.locate_file(file))) for file in distribution.files or [])
    return sum(path.stat().st_size for path in paths if path.is_file()) / 10**6


def _tree_mb(folder: Path) -> float:
    """A package's files, without what the wheel leaves out."""
    left_out = {".safetensors", ".pyc"}
    return (
        sum(
            path.stat().st_size
            for path in folder.rglob("*")
            if path.is_file() and path.suffix not in left_out
        )
        / 10**6
    )


def total_mb(names: tuple[str, ...]) -> float:
    """MB of some distributions with all that they require, without the separate libraries for GPUs."""
    found = closure(names)
    return sum(size_mb(distribution) for name, distribution in found.items() if not _GPU.match(name))


def measure() -> dict[str, Any]:
    """Installed sizes of both sides, in MB; of PyTorch's also without the libraries for GPUs."""
    ours = {name: size_mb(found) for name, found in closure(OURS).items()}
    theirs = {name: size_mb(found) for name, found in closure(PYTORCH).items()}
    return {
        "ours_mb": sum(ours.values()),
        "torch_mb": sum(theirs.values()),
        "torch_without_gpu_mb": sum(size for name, size in theirs.items() if not _GPU.match(name)),
        "ours": {name: round(size, 1) for name, size in sorted(ours.items())},
        "torch": {name: round(size, 1) for name, size in sorted(theirs.items())},
    }
