"""Run a frozen CLIP steered by a packed prompt: numpy, onnxruntime and pillow, no torch."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from qprompt_runtime.telemetry import switch_off

if TYPE_CHECKING:
    from qprompt_runtime.classifier import Prediction, PromptClassifier
    from qprompt_runtime.errors import QPromptError

__all__ = ["Prediction", "PromptClassifier", "QPromptError"]

_MODULES = {"Prediction": "classifier", "PromptClassifier": "classifier", "QPromptError": "errors"}

switch_off()  # before anything imports onnxruntime


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for (PEP 562): an error's class needs no onnxruntime."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
