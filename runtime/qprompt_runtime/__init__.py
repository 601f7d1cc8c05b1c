"""Run a frozen CLIP steered by a packed prompt: numpy, onnxruntime and pillow, no torch."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from qprompt_runtime.telemetry import switch_off

if TYPE_CHECKING:
    from qprompt_runtime.backbone import Backbone
    from qprompt_runtime.classifier import PromptClassifier
    from qprompt_runtime.errors import ImageError, QPromptError
    from qprompt_runtime.policy import Policy
    from qprompt_runtime.prediction import Prediction
    from qprompt_runtime.prompt_file import PromptFile

__all__ = ["Backbone", "ImageError", "Policy", "Prediction", "PromptClassifier", "PromptFile", "QPromptError"]

_MODULES = {
    "Backbone": "backbone",
    "ImageError": "errors",
    "Policy": "policy",
    "Prediction": "prediction",
    "PromptClassifier": "classifier",
    "PromptFile": "prompt_file",
    "QPromptError": "errors",
}

switch_off()  # before anything imports onnxruntime


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for (PEP 562): an error's class needs no onnxruntime."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    """The public names, imported or not, beside what the module holds."""
    return sorted({*globals(), *__all__})
