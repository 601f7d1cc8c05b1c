"""What a method gives to the loop that is the same for all methods."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from qprompt_edge.tuning.trainer import Objective, Reparameterization, TrainingState
from qprompt_runtime.arrays import Array
from qprompt_runtime.prompt_group import PromptGroup


@dataclass(frozen=True)
class Tuning:
    """A method on a task.

    Attributes:
        method: Its name in a prompt file.
        weights: What is learned, at its start; float32 by group name.
        leading: The group whose spread the default learning rate follows.
        reparameterization: How shipped weights follow from learned ones.
        objective: What is minimised.
        template: What stands between context and class name, and behind it.
        groups: From the final state and the bits a weight to the groups of a prompt file.
    """

    method: str
    weights: dict[str, Array]
    leading: str
    reparameterization: Reparameterization
    objective: Objective
    template: tuple[str, str]
    groups: Callable[[TrainingState, int], tuple[PromptGroup, ...]]
