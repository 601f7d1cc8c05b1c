"""How tests wait: for a condition, and so long that no machine that works is too slow."""

import time
from collections.abc import Callable

PATIENCE = 240.0
"""Seconds until what was expected counts as missing."""


def wait_until(done: Callable[[], object], what: str = "it") -> None:
    """Wait until something is true.

    Args:
        done: What is asked again and again.
        what: What it means, for the error.
    """
    end = time.monotonic() + PATIENCE
    while not done():
        assert time.monotonic() < end, f"not within {PATIENCE:.0f} s: {what}"
        time.sleep(0.01)
