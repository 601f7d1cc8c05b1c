"""`qprompt-edge fetch`: install what a folder, a web server or a broker has, if it is new."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from qprompt_edge.cli.installing import tell_installed
from qprompt_edge.cli.output import emit, progress_reporter, reported, say
from qprompt_edge.cli.parameters import (
    INPUT,
    CanaryOption,
    InstallFolderOption,
    JsonOption,
    MaxMemoryOption,
    OwnBackboneOption,
    PolicyOption,
    TaskOption,
    TrustOption,
    argument,
    option,
)
from qprompt_edge.fetching.fetch import fetch
from qprompt_edge.fetching.sources import EXPECTED, Access, find_source
from qprompt_runtime.policy import Policy


@reported
def command(
    source: Annotated[str, argument("SOURCE", f"Where the prompt comes from: {EXPECTED}.")],
    to: InstallFolderOption,
    login: Annotated[
        Path | None,
        option(
            INPUT,
            "File with the user on its first line and the password on its second, for https:// or a broker.",
            metavar="FILE",
        ),
    ] = None,
    token_file: Annotated[
        Path | None, option(INPUT, "File with a bearer token, for https://.", metavar="FILE")
    ] = None,
    ca: Annotated[
        Path | None,
        option(
            INPUT,
            "Certificate (PEM) of the authority that signed the server's; by default the system's authorities.",
            metavar="FILE",
        ),
    ] = None,
    canary: CanaryOption = None,
    backbone: OwnBackboneOption = None,
    back_off: Annotated[
        bool,
        option(
            INPUT,
            "For timers: leave a source that does not answer alone for 1, 2, 4, ... minutes, up to 6 hours.",
            "--back-off",
        ),
    ] = False,
    as_json: JsonOption = False,
    policy: PolicyOption = None,
    trust: TrustOption = None,
    task: TaskOption = None,
    max_memory: MaxMemoryOption = None,
) -> None:
    """Install what a folder, a web server or an MQTT broker has, if it is new.

    Of a folder, that is the *.qpt of the highest sequence; of an MQTT topic, the retained message. Exits
    with 0 if it was installed or there is nothing new, with 1 if the source does not answer, with 3 to 6 as
    install does. What is not signed is installed unless the policy forbids it.

    Example: qprompt-edge fetch https://prompts.example/belt.qpt --to /var/lib/belt --trust vendor.key.pub
    """
    asked = Policy.of(policy, trust, task)
    try:
        found = find_source(source, Access(login, token_file, ca), asked)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    with progress_reporter() as reporter:
        done = fetch(
            found,
            to,
            back_off=back_off,
            canary=canary,
            backbone=backbone,
            policy=asked,
            max_memory=max_memory,
            reporter=reporter,
        )
    if done.installed is None:
        say(f"nothing new: {done.reason}")
    else:
        tell_installed(done.installed)
        if done.installed.claims is None:
            say(
                "warning: it is not signed: whoever can write to the source decides what runs here (docs/signing.md)"
            )
    if as_json:
        emit(
            {
                "new": done.installed is not None,
                "installed": None if done.installed is None else done.installed.to_json(),
            }
        )
