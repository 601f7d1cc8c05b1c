"""`qprompt-edge verify`: whether a signature is genuine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from qprompt_edge.cli.output import emit, reported, show
from qprompt_edge.cli.parameters import JsonOption, TaskOption, TrustOption, argument
from qprompt_runtime.bundle import MANIFEST, SIGNATURE, read_beside
from qprompt_runtime.errors import PromptFileError, TrustError
from qprompt_runtime.policy import in_force
from qprompt_runtime.prompt_file import check_content, read_content
from qprompt_runtime.text import printable
from qprompt_runtime.trust_checks import check_detached_signature, check_signature, shown_time
from qprompt_runtime.trust_store import read_store


@reported
def command(
    file: Annotated[
        Path, argument("FILE", f"Signed prompt, or a bundle's manifest.json with {SIGNATURE} beside it.")
    ],
    trust: TrustOption = None,
    task: TaskOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check the signature of a prompt, or of a backbone's manifest.

    Prints one line and exits with 0 if the signature is that of a trusted key, for its tasks, and has not
    expired; with 3 otherwise. It does not matter what was used on this device before.

    Example: qprompt-edge verify belt-7.qpt --trust vendor.key.pub --task belt
    """
    places = (*in_force().trust, *(() if trust is None else (trust,)))
    if not places:
        raise typer.BadParameter("--trust is missing: a public key, or a folder of them")
    store = read_store(places)
    try:
        content = read_content(file)
        if file.name == MANIFEST:
            signed = check_detached_signature(content, read_beside(file), store, task)
        else:
            signed = check_signature(content, store, task)
            check_content(content, file)
    except TrustError as error:
        raise TrustError(f"{printable(file)}: {error}") from error
    except PromptFileError as error:  # also what cannot be read: it is not genuine either way
        raise TrustError(str(error)) from error
    signer, claims = signed.key_id.hex(), signed.claims
    until = "" if claims.expires is None else f", expires {shown_time(claims.expires)}"
    show(
        f"{printable(file)}: genuine, signed with the key {signer} for {claims.task}, sequence {claims.sequence}, "
        f"issued {shown_time(claims.issued)}{until}",
        aside=as_json,
    )
    if as_json:
        emit({"genuine": True, "key_id": signer, **claims.to_json()})
