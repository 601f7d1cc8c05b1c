"""What commands say of a prompt that they installed."""

from __future__ import annotations

from qprompt_edge.cli.output import say
from qprompt_edge.shipping.installed import Installed
from qprompt_runtime.text import counted


def tell_installed(done: Installed) -> None:
    """Say what was installed, and what it changes on the canary photos."""
    change = done.comparison
    if change is not None:
        low, high = (100 * bound for bound in change.interval)
        say(
            f"on {counted(done.canaries, 'canary photo')}: {100 * change.difference:+.1f} points against what ran "
            f"(95% interval {low:+.1f} to {high:+.1f}; p {change.p:.2g})"
        )
    number = "" if done.claims is None else f", task {done.claims.task}, sequence {done.claims.sequence}"
    say(f"installed {done.path}{number}")
