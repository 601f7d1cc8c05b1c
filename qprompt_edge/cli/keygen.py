"""`qprompt-edge keygen`: a key that signs prompts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from qprompt_edge.cli.output import emit, reported, say
from qprompt_edge.cli.parameters import OUTPUT, SIGNATURES, JsonOption, option
from qprompt_edge.cli.sealing import new_passphrase
from qprompt_edge.shipping.keys import PUBLIC_ENDING, make_key
from qprompt_runtime.cose_sign1 import check_task


@reported
def command(
    out: Annotated[
        Path,
        option(
            OUTPUT,
            "Private key to write; the public key is written beside it, with .pub.",
            "--out",
            "-o",
            metavar="FILE",
        ),
    ],
    task: Annotated[
        list[str] | None,
        option(
            SIGNATURES,
            "Task that the key may sign, noted in the public key; may be given several times; by default any.",
            metavar="NAME",
        ),
    ] = None,
    revokes: Annotated[
        bool, option(SIGNATURES, "Note in the public key that it may sign revocation lists.", "--revokes")
    ] = False,
    with_passphrase: Annotated[
        bool,
        option(
            SIGNATURES,
            "Encrypt the private key: with QPE_PASSPHRASE, or asked for on the terminal.",
            "--passphrase",
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Make a key that signs prompts.

    Writes the private key, which only its owner may read, and the public key, which devices need to check
    signatures.

    Example: qprompt-edge keygen --out vendor.key
    """
    tasks = frozenset(check_task(name) for name in task) if task else None
    public = make_key(out, new_passphrase() if with_passphrase else None, tasks, revokes=revokes)
    shown = f"{out}{PUBLIC_ENDING}"
    say(f"wrote {out} (private: keep it) and {shown} (public: for the devices); key id {public.key_id.hex()}")
    if as_json:
        emit({"key": str(out), "public_key": shown, "key_id": public.key_id.hex()})
