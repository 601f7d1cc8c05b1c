"""Baking: a prompt and its backbone's image tower become one plain ONNX classifier; needs onnx and no torch.

The graph is a chain of three: `photo_graph` (only where photos come as bytes), `tower`, and `head_graph`.
Only the head depends on the classes: `update` replaces it and leaves the tower as it is.
"""

from qprompt_exporters.baking.bake import Baked, bake, update
from qprompt_exporters.baking.model_file import labels_of

__all__ = ["Baked", "bake", "labels_of", "update"]
