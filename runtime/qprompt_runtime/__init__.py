"""Run a frozen CLIP steered by a packed prompt: numpy, onnxruntime and pillow, no torch."""

from qprompt_runtime.backbone import Backbone
from qprompt_runtime.classifier import PromptClassifier
from qprompt_runtime.errors import ImageError, QPromptError
from qprompt_runtime.prediction import Prediction
from qprompt_runtime.prompt_file import PromptFile

__all__ = ["Backbone", "ImageError", "Prediction", "PromptClassifier", "PromptFile", "QPromptError"]
