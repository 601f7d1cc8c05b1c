"""Weighted averaging of weights over time.

This is PromptSRC's Gaussian aggregation (Khattak et al., ICCV 2023, eq. 7). Early weights know little yet,
and late ones have fitted the photos most closely; those in between generalise best. The latent weights are
averaged, and the average is quantized as the last step would have been. So it costs no byte.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from qprompt_edge.tuning.config import TrainingConfig
from qprompt_edge.tuning.trainer import (
    AS_LEARNED,
    Objective,
    Progress,
    Reparameterization,
    TrainingState,
    run,
)
from qprompt_runtime.arrays import Array

MEAN, DEVIATION = 0.75, 0.05
"""Of the Gaussian, as shares of the schedule."""


def run_averaged(
    state: TrainingState,
    objective: Objective,
    labels: NDArray[np.int64],
    config: TrainingConfig,
    after_step: Callable[[Progress], None] = lambda _progress: None,
    reparameterization: Reparameterization = AS_LEARNED,
) -> TrainingState:
    """Run `trainer.run`, and average the latent weights over the steps.

    The final latent weights are sum_k g_k W_k / sum_k g_k over the states W_k after step k.

    g_k = exp(-((k / K - MEAN) / DEVIATION)^2 / 2) for K steps. The sum is no part of a checkpoint, so a run
    cannot go on from one.

    Raises:
        ValueError: The state is not that of a start.
    """
    if state.step:
        raise ValueError(f"the state has done {state.step} steps, expected 0: an average needs all of them")
    sums: dict[str, Array] = {name: np.zeros_like(array) for name, array in state.latent.items()}
    total = 0.0

    def add(progress: Progress) -> None:
        nonlocal total
        share = math.exp(-(((progress.state.step / progress.steps - MEAN) / DEVIATION) ** 2) / 2)
        total += share
        for name, array in progress.state.latent.items():
            sums[name] += np.float32(share) * array
        after_step(progress)

    final = run(state, objective, labels, config, add, reparameterization)
    return replace(final, latent={name: array / np.float32(total) for name, array in sums.items()})
