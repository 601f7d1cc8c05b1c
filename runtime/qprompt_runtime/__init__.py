"""Run a frozen CLIP steered by a packed prompt: numpy, onnxruntime and pillow, no torch."""

from qprompt_runtime.classifier import Prediction, PromptClassifier
from qprompt_runtime.errors import QPromptError

__all__ = ["Prediction", "PromptClassifier", "QPromptError"]
