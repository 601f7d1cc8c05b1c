"""Checkpoints of training runs: written whole or not at all, taken up with a run's own learning rates."""

import os
from pathlib import Path
from typing import Any

import torch


def save_checkpoint(state: dict[str, Any], path: Path) -> None:
    """Writes a checkpoint; a kill at any moment leaves the old one or the new one."""
    partial = path.with_suffix(".part")
    with partial.open("wb") as file:
        torch.save(state, file)
        os.fsync(file.fileno())
    partial.replace(path)


def load_optimizer(optimizer: torch.optim.Optimizer, saved: dict[str, Any]) -> None:
    """Takes up an optimizer's state; the peak rates of its groups stay this run's own."""
    peaks = [group["peak"] for group in optimizer.param_groups]
    optimizer.load_state_dict(saved)
    for group, peak in zip(optimizer.param_groups, peaks, strict=True):
        group["peak"] = peak
