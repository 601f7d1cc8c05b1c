"""The middle part of a baked classifier: a bundle's image tower, with a prompt's image prompts folded in."""

from __future__ import annotations

import onnx
from onnx import numpy_helper
from onnx.utils import Extractor

from qprompt_exporters.baking.graphs import prefix_names, read_model
from qprompt_exporters.baking.storage import TOWER
from qprompt_runtime.classifier import PromptClassifier
from qprompt_runtime.deep_backbone import require_deep
from qprompt_runtime.prompt_file import FOLDED


def has_image_prompts(classifier: PromptClassifier) -> bool:
    """Whether a prompt changes the image tower, and not the head alone."""
    return classifier.prompt.method == FOLDED


def append_tower(graph: onnx.GraphProto, classifier: PromptClassifier) -> None:
    """Append what turns `pixels` into unit `features` as a classifier's prompt sees photos, weights included.

    Every other value is called `tower_...`.
    """
    if has_image_prompts(classifier):
        _append_prompted(graph, classifier)
        return
    backbone = classifier.backbone
    tower = read_model(backbone.folder / backbone.manifest.image_graph.file).graph
    _append(graph, tower, TOWER, {"pixels", "features"})


def _append_prompted(graph: onnx.GraphProto, classifier: PromptClassifier) -> None:
    """The blocks with their prompts as constants, without loss and gradient, behind the stem."""
    backbone = require_deep(classifier.backbone)
    stem = backbone.deep.stem_graph
    source = "pixels" if stem is None else "tokens"
    if stem is not None:
        _append(graph, read_model(backbone.folder / stem.file).graph, TOWER + "stem_", {"pixels", source})
    whole = read_model(backbone.folder / backbone.deep.image_graph.file)
    blocks = Extractor(whole).extract_model([source, "prompts"], ["features"]).graph
    prompts = classifier.prompt.groups[1].values()
    blocks.initializer.append(numpy_helper.from_array(prompts, "prompts"))
    _append(graph, blocks, TOWER, {source, "features"})


def _append(graph: onnx.GraphProto, part: onnx.GraphProto, prefix: str, edges: set[str]) -> None:
    prefix_names(part, prefix, edges)
    graph.node.extend(part.node)
    graph.initializer.extend(part.initializer)
