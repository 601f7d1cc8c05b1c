"""The last part of a baked classifier: from image features to probabilities, and to "none of these".

Every value in it is called `head_...`, but for the graph's outputs.
"""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from qprompt_exporters.baking.graphs import append_nodes
from qprompt_runtime.classifier import PromptClassifier
from qprompt_runtime.none_of_these import SHARPNESS, WEIGHT

PROBABILITIES, NONE = "probabilities", "none_of_these"
_PREFIX = "head_"

# `class_head.ClassHead`: softmax(s (x W + b))
_CLASSES = f"""
    head_cosines = MatMul (features, head_classes)
    head_scores = Add (head_cosines, head_offsets)
    head_logits = Mul (head_scores, head_logit_scale)
    {PROBABILITIES} = Softmax <axis = -1> (head_logits)
"""

# `none_of_these.known_scores` < threshold, both sides times k, so that only the logarithms are left
_NONE_OF_THESE = f"""
    head_sharp_scores = Mul (head_scores, head_sharpness)
    head_known = ReduceLogSumExp <keepdims = 0> (head_sharp_scores, head_rows)
    head_noun_cosines = MatMul (features, head_nouns)
    head_sharp_nouns = Mul (head_noun_cosines, head_sharpness)
    head_other = ReduceLogSumExp <keepdims = 0> (head_sharp_nouns, head_rows)
    head_weighted = Mul (head_other, head_weight)
    head_known_beside = Sub (head_known, head_weighted)
    {NONE} = Less (head_known_beside, head_threshold)
"""


def append_head(graph: onnx.GraphProto, classifier: PromptClassifier) -> None:
    """Append the head of a classifier to a graph that computes `features` [N,E], in place of the one it has.

    The outputs become `probabilities` float32 [N,C] and, if the classifier answers "none of these",
    `none_of_these` bool [N].
    """
    _drop_head(graph)
    head = classifier.head
    constants: dict[str, NDArray[np.generic]] = {
        "head_classes": head.features.T,
        "head_offsets": head.offsets,
        "head_logit_scale": np.asarray(head.logit_scale, np.float32),
    }
    append_nodes(graph, _CLASSES, constants)
    batch = _batch(graph)
    classes = len(classifier.labels)
    graph.output.append(helper.make_tensor_value_info(PROBABILITIES, TensorProto.FLOAT, [batch, classes]))
    if classifier.least_score is None:
        return
    append_nodes(
        graph,
        _NONE_OF_THESE,
        {
            "head_nouns": classifier.nouns.T,
            "head_sharpness": np.asarray(SHARPNESS),
            "head_weight": np.asarray(WEIGHT),
            "head_threshold": np.asarray(np.float32(classifier.least_score) * SHARPNESS),
            "head_rows": np.array([1], np.int64),
        },
    )
    graph.output.append(helper.make_tensor_value_info(NONE, TensorProto.BOOL, [batch]))


def head_bytes(graph: onnx.GraphProto) -> int:
    """How many bytes of a baked graph are its head's constants."""
    return sum(tensor.ByteSize() for tensor in graph.initializer if tensor.name.startswith(_PREFIX))


def _drop_head(graph: onnx.GraphProto) -> None:
    """Leave only what does not depend on the classes."""
    nodes = [node for node in graph.node if not node.output[0].startswith((_PREFIX, PROBABILITIES, NONE))]
    arrays = [array for array in graph.initializer if not array.name.startswith(_PREFIX)]
    for old, new in ((graph.node, nodes), (graph.initializer, arrays), (graph.output, ())):
        del old[:]
        old.extend(new)


def _batch(graph: onnx.GraphProto) -> int | str:
    """The batch dimension of the graph's input: a number, or a name."""
    first = graph.input[0].type.tensor_type.shape.dim[0]
    return first.dim_value or first.dim_param
