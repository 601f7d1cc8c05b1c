"""`qprompt-edge install`: a new prompt in the place of the one that runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from qprompt_edge.cli.installing import tell_installed
from qprompt_edge.cli.output import emit, progress_reporter, reported
from qprompt_edge.cli.parameters import (
    CanaryOption,
    InstallFolderOption,
    JsonOption,
    MaxMemoryOption,
    OwnBackboneOption,
    PolicyOption,
    TaskOption,
    TrustOption,
    argument,
)
from qprompt_edge.shipping.install import install
from qprompt_runtime.policy import Policy


@reported
def command(
    file: Annotated[Path, argument("FILE", "Prompt file to install.")],
    to: InstallFolderOption,
    canary: CanaryOption = None,
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
    tell_installed(done)
    if as_json:
        emit(done.to_json())
