"""How the weights that are shipped follow from those that are learned."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from qprompt_runtime.arrays import Array


@dataclass(frozen=True)
class Coupling:
    """How the weights that are shipped follow from those that are learned; by default they are the same.

    Attributes:
        forward: From learned weights to shipped ones, by group name.
        backward: From learned weights, and the gradient at the shipped ones, to the gradient at the learned ones.
    """

    forward: Callable[[Mapping[str, Array]], dict[str, Array]] = dict
    backward: Callable[[Mapping[str, Array], Mapping[str, Array]], dict[str, Array]] = (
        lambda _weights, gradients: dict(gradients)
    )


UNCOUPLED = Coupling()
"""For methods that ship what they learn."""
