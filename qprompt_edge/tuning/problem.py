"""What a method provides to the training loop, which is the same for all methods."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from qprompt_edge.tuning.trainer import Objective, Reparameterization, TrainingState, codes_of
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
        stored: How a shipped array stands in a prompt file.
    """

    method: str
    weights: dict[str, Array]
    leading: str
    reparameterization: Reparameterization
    objective: Objective
    template: tuple[str, str]
    stored: Callable[[Array], Array] = lambda array: array

    def groups(self, state: TrainingState, bits: float) -> tuple[PromptGroup, ...]:
        """What a prompt file holds of the final state, at the bits a weight of the training."""
        codes, found = codes_of(state, self.reparameterization), []
        for role, array in self.reparameterization.forward(state.latent).items():
            weights = self.stored(array)
            if role in codes:
                code, indices = codes[role], codes[role].indices.reshape(weights.shape)
                found.append(PromptGroup.quantized(role, code.codebook, indices, bits, code.scales))
            elif role in self.reparameterization.plain:
                found.append(PromptGroup.plain(role, weights.astype(np.float16)))
            else:
                found.append(PromptGroup.plain(role, weights))
        return tuple(found)
