"""Adapt a frozen CLIP to your own classes on the device itself, without torch."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import qprompt_runtime  # noqa: F401 -- first of all: it switches onnxruntime's telemetry off

if TYPE_CHECKING:
    from qprompt_edge.adaptation.adapt import adapt
    from qprompt_edge.adaptation.result import AdaptResult, Holdout
    from qprompt_edge.adaptation.update import update
    from qprompt_edge.adaptation.update_result import ClassEstimate, OldClasses, UpdateResult
    from qprompt_edge.checking.check import check
    from qprompt_edge.checking.findings import (
        CurvePoint,
        Duplicates,
        LearningCurve,
        Mislabelled,
        MixedUp,
        PoorPhoto,
        ShortClass,
        Unreadable,
    )
    from qprompt_edge.checking.result import CheckResult
    from qprompt_edge.data.photos import SkippedPhoto
    from qprompt_edge.evaluation.metrics import Scores
    from qprompt_edge.evaluation.paired import Comparison
    from qprompt_edge.reporter import Reporter
    from qprompt_edge.reporting.reports import adapt_report
    from qprompt_edge.shipping.merge import merge
    from qprompt_edge.shipping.merge_result import MergedFile, MergeResult, MergeTrial
    from qprompt_edge.shipping.merged_prompt import MergedClass
    from qprompt_runtime import (
        Backbone,
        ImageError,
        Policy,
        Prediction,
        PromptClassifier,
        PromptFile,
        QPromptError,
    )

_MODULES = {
    "adapt": "qprompt_edge.adaptation.adapt",
    "update": "qprompt_edge.adaptation.update",
    "adapt_report": "qprompt_edge.reporting.reports",
    "check": "qprompt_edge.checking.check",
    "merge": "qprompt_edge.shipping.merge",
    "CheckResult": "qprompt_edge.checking.result",
    "CurvePoint": "qprompt_edge.checking.findings",
    "Duplicates": "qprompt_edge.checking.findings",
    "LearningCurve": "qprompt_edge.checking.findings",
    "Mislabelled": "qprompt_edge.checking.findings",
    "MixedUp": "qprompt_edge.checking.findings",
    "PoorPhoto": "qprompt_edge.checking.findings",
    "ShortClass": "qprompt_edge.checking.findings",
    "Unreadable": "qprompt_edge.checking.findings",
    "AdaptResult": "qprompt_edge.adaptation.result",
    "Holdout": "qprompt_edge.adaptation.result",
    "UpdateResult": "qprompt_edge.adaptation.update_result",
    "ClassEstimate": "qprompt_edge.adaptation.update_result",
    "OldClasses": "qprompt_edge.adaptation.update_result",
    "MergeResult": "qprompt_edge.shipping.merge_result",
    "MergedClass": "qprompt_edge.shipping.merged_prompt",
    "MergedFile": "qprompt_edge.shipping.merge_result",
    "MergeTrial": "qprompt_edge.shipping.merge_result",
    "Scores": "qprompt_edge.evaluation.metrics",
    "Comparison": "qprompt_edge.evaluation.paired",
    "SkippedPhoto": "qprompt_edge.data.photos",
    "Reporter": "qprompt_edge.reporter",
    "PromptClassifier": "qprompt_runtime",
    "Policy": "qprompt_runtime",
    "Prediction": "qprompt_runtime",
    "Backbone": "qprompt_runtime",
    "PromptFile": "qprompt_runtime",
    "QPromptError": "qprompt_runtime",
    "ImageError": "qprompt_runtime",
}

__all__ = [
    "AdaptResult",
    "Backbone",
    "CheckResult",
    "ClassEstimate",
    "Comparison",
    "CurvePoint",
    "Duplicates",
    "Holdout",
    "ImageError",
    "LearningCurve",
    "MergeResult",
    "MergeTrial",
    "MergedClass",
    "MergedFile",
    "Mislabelled",
    "MixedUp",
    "OldClasses",
    "Policy",
    "PoorPhoto",
    "Prediction",
    "PromptClassifier",
    "PromptFile",
    "QPromptError",
    "Reporter",
    "Scores",
    "ShortClass",
    "SkippedPhoto",
    "Unreadable",
    "UpdateResult",
    "adapt",
    "adapt_report",
    "check",
    "merge",
    "update",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for (PEP 562).

    `predict` thus starts without loading what `adapt` needs.
    """
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    """The public names, imported or not, beside what the module holds."""
    return sorted({*globals(), *__all__})
