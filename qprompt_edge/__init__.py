"""Adapt a frozen CLIP to your own classes on the device itself, without torch."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import qprompt_runtime  # noqa: F401 -- first of all: it switches onnxruntime's telemetry off

if TYPE_CHECKING:
    from qprompt_edge.adaptation.adapt import AdaptResult, adapt
    from qprompt_edge.adaptation.options import AdaptOptions
    from qprompt_edge.tuning.config import TrainingConfig

__all__ = ["AdaptOptions", "AdaptResult", "TrainingConfig", "adapt"]

_MODULES = {
    "AdaptOptions": "adaptation.options",
    "AdaptResult": "adaptation.adapt",
    "TrainingConfig": "tuning.config",
    "adapt": "adaptation.adapt",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for (PEP 562): `predict` starts without what `adapt` needs."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
