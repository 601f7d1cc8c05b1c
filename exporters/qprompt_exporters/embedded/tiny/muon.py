"""Muon: gradient descent with orthogonal steps, for matrices and convolution filters.

`torch.optim.Muon` takes matrices only and computes in bfloat16, which most processors have to imitate.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.optim import Optimizer

_QUINTIC = (3.4445, -4.775, 2.0315)
_ITERATIONS = 5
_ADAM_RMS = 0.2  # the root mean square of Adam's usual step, so that both take rates of the same size


class Muon(Optimizer):
    """Momentum, made orthogonal (Jordan et al. 2024, "Muon").

    Scaled by Liu et al. 2025, "Muon is scalable", Eq. 4.

    Args:
        parameters: tensors of at least two dimensions; all but the first are taken as one.
        lr: the rate; a step's root mean square is 0.2 times as large.
        momentum: share of the last direction that is kept, with Nesterov's look ahead.
        weight_decay: share of a weight that a step at rate 1 takes away.
    """

    def __init__(
        self, parameters: Iterable[torch.Tensor], lr: float, momentum: float = 0.9, weight_decay: float = 0.05
    ) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:
        """Takes one step from the gradients that stand in the parameters."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                momentum = self.state[parameter].setdefault("momentum", torch.zeros_like(parameter))
                momentum.mul_(group["momentum"]).add_(parameter.grad)
                ahead = parameter.grad.add(momentum, alpha=group["momentum"]).flatten(1)
                size = _ADAM_RMS * max(ahead.shape) ** 0.5
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(orthogonalise(ahead).view(parameter.shape), alpha=-group["lr"] * size)


def orthogonalise(matrix: torch.Tensor) -> torch.Tensor:
    """Brings all singular values of [rows, columns] close to 1 (between 0.7 and 1.2).

    Takes Newton-Schulz iterations.
    """
    wide = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    x = wide / (wide.norm() + 1e-7)
    a, b, c = _QUINTIC
    for _ in range(_ITERATIONS):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if matrix.shape[0] > matrix.shape[1] else x
