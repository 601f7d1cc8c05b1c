"""What CoOp and MaPLe learn, taken from their checkpoints.

The names of their tensors, behind `prompt_learner.` where the whole model is saved (as MaPLe's is), and
behind whatever wrapped it (`module.`, `_orig_mod.`, `model.`):

    CoOp    ctx [n,D], or [C,n,D] with a context for each class
    MaPLe   ctx [n,Dt], compound_prompts_text.k [n,Dt]
                text prompts of the layers 0 and k + 1
            proj, compound_prompt_projections.k: weight [Dv,Dt], bias [Dv]
                their couplings to the image tower

The image prompts of a tuned MaPLe are constants: the projections fold into them (`folding.fold` of the
runtime). A checkpoint does not say where in the sentence the class stands; this reads all contexts as
standing before it, as is CoOp's default.
"""

from __future__ import annotations

import re

import numpy as np

from qprompt_edge.convert.torch_checkpoint import State
from qprompt_edge.tuning import qmaple
from qprompt_runtime.arrays import Array
from qprompt_runtime.errors import CheckpointError
from qprompt_runtime.text import printable

MAX_LAYERS = 64
_SHOWN = 6
_WRAPPED = r"(?:(?:module|_orig_mod|model)\.)*"
_CONTEXT = re.compile(rf"(?:(?:[^.]+\.)*prompt_learner\.)?{_WRAPPED}ctx")


def _prefix(state: State) -> str:
    """What stands before the prompt learner's names; refuses learners whose prompts are of another kind."""
    found = sorted(name for name in state.names if _CONTEXT.fullmatch(name))
    if not found:
        first = printable(", ".join(sorted(state.names)[:_SHOWN]))[:200]
        raise CheckpointError(
            f"it has no context vectors of CoOp or MaPLe (`ctx`); the first of its tensors are {first}"
        )
    if len(found) > 1:
        names = printable(", ".join(found[:_SHOWN]))[:200]
        raise CheckpointError(
            f"it has the context vectors of {len(found)} models ({names}); save one model's state_dict() "
            "alone"
        )
    prefix = found[0].removesuffix("ctx")
    if any(name.startswith(f"{prefix}meta_net.") for name in state.names):
        raise CheckpointError(
            "it is of CoCoOp, whose context depends on each photo; a prompt file cannot hold that"
        )
    if any("VPT" in name for name in state.names):
        raise CheckpointError(
            "it has prompts that are not coupled (VPT, IVLP, PromptSRC); only CoOp's and MaPLe's are read"
        )
    return prefix


def is_maple(state: State) -> bool:
    """Whether the state is MaPLe's; else it is CoOp's.

    Raises:
        CheckpointError: It is neither's.
    """
    return f"{_prefix(state)}proj.weight" in state.names


def read_coop(state: State) -> Array:
    """CoOp's context vectors v_1 ... v_n (Zhou et al., IJCV 2022, equation 2).

    Returns:
        float32 [n,D], or [C,n,D] where each class has its own.

    Raises:
        CheckpointError: They are missing, damaged or of another shape.
    """
    return _shaped(state, f"{_prefix(state)}ctx", (2, 3))


def read_maple(state: State) -> dict[str, Array]:
    """MaPLe's text prompts P_0 ... P_{J-1} and their projections (Khattak et al., CVPR 2023, section 3.2).

    Returns:
        What `tuning.qmaple` learns: text prompts [J,n,D] and projections [J,V,D+1].

    Raises:
        CheckpointError: A tensor is missing, damaged, or its shape does not fit the others.
    """
    prefix = _prefix(state)
    deep = f"{prefix}compound_prompts_text."
    depth = 1 + sum(name.startswith(deep) for name in state.names)
    if depth > MAX_LAYERS:
        raise CheckpointError(f"it has prompts for {depth} layers, expected up to {MAX_LAYERS}")
    layers = range(depth - 1)
    text = [_shaped(state, f"{prefix}ctx", (2,))]
    text += [_shaped(state, f"{deep}{k}", (2,)) for k in layers]
    places = [f"{prefix}proj", *(f"{prefix}compound_prompt_projections.{k}" for k in layers)]
    weights = [_shaped(state, f"{place}.weight", (2,)) for place in places]
    biases = [_shaped(state, f"{place}.bias", (1,)) for place in places]
    for k, (prompt, weight, bias) in enumerate(zip(text, weights, biases, strict=True)):
        shapes = prompt.shape, weight.shape, bias.shape
        if shapes != (text[0].shape, (len(biases[0]), text[0].shape[1]), biases[0].shape):
            raise CheckpointError(
                f"the prompt, weight and bias of layer {k} have shapes {shapes}, which do not fit"
            )
    projections = np.concatenate([np.stack(weights), np.stack(biases)[..., None]], axis=2)
    return {qmaple.TEXT: np.stack(text), qmaple.PROJECTIONS: projections}


def _shaped(state: State, name: str, dimensions: tuple[int, ...]) -> Array:
    if name not in state.names:
        raise CheckpointError(f"it has no tensor {name}")
    values = state.load(name)
    if values.ndim not in dimensions:
        expected = " or ".join(map(str, dimensions))
        raise CheckpointError(f"{name} is of shape {values.shape}, expected {expected} dimensions")
    if not values.size:
        raise CheckpointError(f"{name} is of shape {values.shape}, expected one with weights")
    return values
