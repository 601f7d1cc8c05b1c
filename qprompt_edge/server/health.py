"""Answers of the child process, counted where the server is asked for them."""

from __future__ import annotations

import time
from typing import Any

from qprompt_edge.watching.health import Health, Version


def count(health: Health, task: str, answer: dict[str, Any]) -> None:
    """Count an answer of a task's prompt; what only the count needs (`seen`) is taken out of it.

    Args:
        health: Counts.
        task: The task's name.
        answer: From `Answers.predict`.
    """
    seen = answer.pop("seen")
    version = Version(**{**seen["version"], "accept_scores": tuple(seen["version"]["accept_scores"])})
    health.take_up(task, version)
    best = answer["predictions"][0]["probability"]
    health.answered(task, time.time(), best, answer["none_of_these"], seen["score"])
