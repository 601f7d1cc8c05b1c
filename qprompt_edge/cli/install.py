"""`qprompt-edge install`: a new prompt in the place of the one that runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from qprompt_edge.cli.output import emit, progress_reporter, reported, say
from qprompt_edge.cli.parameters import (
    INPUT,
    OUTPUT,
    JsonOption,
    MaxMemoryOption,
    OwnBackboneOption,
    PolicyOption,
    TaskOption,
    TrustOption,
    argument,
    option,
)
from qprompt_edge.shipping.install import Installed, install
from qprompt_runtime.policy import Policy
from qprompt_runtime.text import counted


@reported
def command(
    file: Annotated[Path, argument("FILE", "Prompt file to install.")],
    to: Annotated[Path, option(OUTPUT, "Folder that the prompt runs from, as prompt.qpt.", metavar="FOLDER")],
    canary: Annotated[
        Path | None,
        option(
            INPUT,
            "Folder with one sub-folder of this device's photos per class; a prompt that is worse on them is refused.",
            metavar="FOLDER",
        ),
    ] = None,
    backbone: OwnBackboneOption = None,
    as_json: JsonOption = False,
    policy: PolicyOption = None,
    trust: TrustOption = None,
    task: TaskOption = None,
    max_memory: MaxMemoryOption = None,
) -> None:
    """Install a prompt: check it, and put it in the place of the one that runs.

    Exits with 3 if its signature or the policy forbids it, with 4 if it is not newer than what was installed,
    with 5 if it is for another backbone or task, with 6 if it is worse on the canary photos than what runs,
    beyond noise. The prompts that ran before are kept; an interruption leaves the old prompt or the new one.

    Example: qprompt-edge install belt-8.qpt --to /var/lib/belt --canary ./known-photos
    """
    with progress_reporter() as reporter:
        done = install(
            file,
            to,
            canary=canary,
            backbone=backbone,
            policy=Policy.of(policy, trust, task),
            max_memory=max_memory,
            reporter=reporter,
        )
    change = done.comparison
    if change is not None:
        low, high = (100 * bound for bound in change.interval)
        say(
            f"on {counted(done.canaries, 'canary photo')}: {100 * change.difference:+.1f} points against what ran "
            f"(95% interval {low:+.1f} to {high:+.1f}; p {change.p:.2g})"
        )
    number = "" if done.claims is None else f", task {done.claims.task}, sequence {done.claims.sequence}"
    say(f"installed {done.path}{number}")
    if as_json:
        emit(as_dict(done))


def as_dict(done: Installed) -> dict[str, Any]:
    """The result as `--json` prints it."""
    change = done.comparison
    return {
        "path": str(done.path),
        "sha256": done.digest,
        "signed": None if done.claims is None else done.claims.to_json(),
        "before": done.before,
        "canaries": None
        if change is None
        else {
            "photos": done.canaries,
            "difference": change.difference,
            "interval": change.interval,
            "p": change.p,
        },
    }
