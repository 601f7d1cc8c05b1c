"""Adapt a frozen CLIP to your own classes on the device itself, without torch."""

from qprompt_edge.adaptation import AdaptResult, adapt
from qprompt_edge.options import AdaptOptions
from qprompt_edge.schedule import TrainingConfig

__all__ = ["AdaptOptions", "AdaptResult", "TrainingConfig", "adapt"]
