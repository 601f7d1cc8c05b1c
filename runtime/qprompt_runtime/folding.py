"""Folding: image prompts of a coupled prompt are computed once, on loading."""

from __future__ import annotations

from dataclasses import replace

from qprompt_runtime.arrays import Array
from qprompt_runtime.prompt_file import COUPLED, FOLDED, PromptFile
from qprompt_runtime.prompt_group import ROLES, PromptGroup


def fold(text: Array, projections: Array) -> Array:
    """Image prompts of text prompts: V_k = P_k W_k^T + b_k (Khattak et al., CVPR 2023, section 3.2).

    Args:
        text: float32 [J,n,D].
        projections: float32 [J,V,D+1]; the last column is the bias.

    Returns:
        float32 [J,n,V].
    """
    weights, biases = projections[..., :-1], projections[..., -1]
    prompts: Array = text @ weights.transpose(0, 2, 1) + biases[:, None]
    return prompts


def folded(prompt: PromptFile) -> PromptFile:
    """A coupled prompt with its image prompts projected, which is what runs; any other as it is."""
    if prompt.method != COUPLED:
        return prompt
    text, projections = (group.values() for group in prompt.groups)
    image = PromptGroup.plain(ROLES[1], fold(text, projections))
    return replace(prompt, method=FOLDED, groups=(prompt.groups[0], image))
