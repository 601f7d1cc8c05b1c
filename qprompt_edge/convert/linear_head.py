"""A linear classifier on the backbone's image features, as a prompt with class residuals.

A head says softmax(W x + a), a prompt softmax(s (cos(x, w_c) + b_c)) with w_c = norm(t_c + r_c). They are the
same function where all rows of W have one length s, and adding one vector u to every row changes no
probability. So:

    |W_c + u| = s for every class c:   2 W_c u - k = -|W_c|^2 with k = s^2 - |u|^2, linear in (u, k)
    w_c = (W_c + u) / s,   b_c = a_c / s,   r_c = l_c w_c - t_c

The system has a solution for up to E + 1 classes, E the width of the features, unless rows depend on each
other. The length l_c changes no direction. With l_c = 1 / (t_c w_c), quantizing r_c turns w_c the least.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from qprompt_edge.convert.torch_checkpoint import State
from qprompt_edge.tuning.ptq import make_group
from qprompt_edge.tuning.qcoop import CONTEXT_INIT
from qprompt_edge.tuning.qtaskres import OFFSETS, RESIDUALS
from qprompt_runtime.arrays import Array
from qprompt_runtime.backbone import Backbone
from qprompt_runtime.errors import CheckpointError
from qprompt_runtime.prompt_file import RESIDUAL, Calibration, ClassName, PromptFile
from qprompt_runtime.prompt_group import PromptGroup
from qprompt_runtime.text_features import text_features
from qprompt_runtime.tokenizer import check_names

HEAD_BITS = 8
_NAMES = (("weight", "bias"), ("coef_", "intercept_"))
"""What torch and scikit-learn call W and a."""
_TOLERANCE = 1e-3
"""By how much the lengths of two rows may differ, as a share."""
_LEAST_COSINE = 0.05


def is_head(state: State) -> bool:
    """Whether the tensors are a linear classifier's: a weight, perhaps a bias, and nothing else."""
    return any({weight} <= state.names <= {weight, bias} for weight, bias in _NAMES)


def import_head(state: State, classes: Sequence[ClassName], backbone: Backbone, bits: float) -> PromptFile:
    """The prompt that answers as a linear head does, up to its quantization.

    Args:
        state: `weight` [C,E] and perhaps `bias` [C], as torch names them, or `coef_` and `intercept_`, as
            scikit-learn does; one row stands for two classes, the second against the first. Learned on unit
            image features.
        classes: In the order of the rows.
        backbone: What the features come from.
        bits: Bits a weight, 1 to 8, 1.6 or 32.

    Raises:
        CheckpointError: Shapes do not fit each other, the classes or the backbone, or no prompt can be equal
            to it.
        TextError: Two classes are the same words, or one has none.
    """
    weight, bias = _head(state)
    width = backbone.manifest.embed_dim
    if weight.shape[1] != width:
        raise CheckpointError(
            f"the head is for features of {weight.shape[1]} numbers, those of the backbone "
            f"{backbone.manifest.name!r} have {width}; give the backbone that it was learned on as --backbone"
        )
    if len(weight) != len(classes):
        raise CheckpointError(f"the head has {len(weight)} classes, but {len(classes)} were named")
    check_names([(name.label, name.text) for name in classes], backbone.tokenizer.encode, shared=True)
    directions, scale = _one_length(weight)
    template = (f"{CONTEXT_INIT} ", ".")
    text = text_features(backbone, classes, template)
    cosines = (text * directions).sum(axis=1, keepdims=True)
    residuals = directions / np.maximum(cosines, _LEAST_COSINE) - text
    return PromptFile(
        method=RESIDUAL,
        groups=(
            make_group(RESIDUALS, residuals.astype(np.float32), bits, by_row=True),
            PromptGroup.plain(OFFSETS, (bias / scale).astype(np.float16)),
        ),
        classes=tuple(classes),
        template=template,
        backbone_name=backbone.manifest.name,
        fingerprint=backbone.fingerprint,
        calibration=Calibration(scale),
    )


def _head(state: State) -> tuple[Array, Array]:
    """W float32 [C,E] and a float32 [C]."""
    weight_name, bias_name = next(pair for pair in _NAMES if pair[0] in state.names)
    weight = state.load(weight_name)
    if weight.ndim != 2 or not weight.size:
        raise CheckpointError(f"{weight_name} is of shape {list(weight.shape)}, expected [classes, features]")
    bias = state.load(bias_name) if bias_name in state.names else np.zeros(len(weight), np.float32)
    if bias.shape != (len(weight),):
        raise CheckpointError(f"{bias_name} is of shape {list(bias.shape)}, expected [{len(weight)}]")
    if len(weight) == 1:
        half = np.float32(0.5)
        weight, bias = half * np.concatenate([-weight, weight]), half * np.concatenate([-bias, bias])
    return weight, bias - bias.mean()


def _one_length(weight: Array) -> tuple[Array, float]:
    """Unit rows [C,E] and the scale s, with the same probabilities as the rows of a head [C,E].

    Raises:
        CheckpointError: No vector brings all rows to one length.
    """
    rows = weight.astype(np.float64)
    squares = (rows**2).sum(axis=1)
    system = np.column_stack([2 * rows, -np.ones(len(rows))])
    shift = np.linalg.lstsq(system, -squares, rcond=None)[0][:-1]
    moved = rows + shift
    lengths = np.linalg.norm(moved, axis=1)
    if lengths.min() <= 0 or lengths.max() / lengths.min() > 1 + _TOLERANCE:
        raise CheckpointError(
            f"its {len(rows)} rows cannot be brought to one length, which a prompt needs: there are more "
            f"classes than {rows.shape[1]} features can keep apart, or two rows are equal"
        )
    return (moved / lengths[:, None]).astype(np.float32), float(lengths.mean())
