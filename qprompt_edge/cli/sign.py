"""`qprompt-edge sign`: a signature around a prompt, or beside a backbone's manifest."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Annotated

import typer

from qprompt_edge.cli.output import emit, reported, say
from qprompt_edge.cli.parameters import OUTPUT, SIGNATURES, JsonOption, argument, number, option
from qprompt_edge.cli.sealing import passphrase
from qprompt_edge.shipping.keys import read_key
from qprompt_edge.shipping.signing import sign_manifest, sign_prompt
from qprompt_runtime.accepted import clock
from qprompt_runtime.bundle import MANIFEST
from qprompt_runtime.cose_sign1 import MOST, Claims, SignedMessage
from qprompt_runtime.files import write_atomic
from qprompt_runtime.prompt_file import check_content, read_content
from qprompt_runtime.trust_checks import BACKBONE_TASK, shown_time

_DAY = timedelta(days=1)


@reported
def command(
    file: Annotated[Path, argument("FILE", "Prompt file to sign, or a bundle's manifest.json.")],
    key: Annotated[Path, option(SIGNATURES, "Private key, as keygen writes it.", metavar="FILE")],
    task: Annotated[
        str,
        option(SIGNATURES, f"What it is for, such as belt; of a manifest: {BACKBONE_TASK}.", metavar="NAME"),
    ],
    sequence: Annotated[
        int,
        number(
            SIGNATURES,
            "Number of this prompt among those of the task; greater than that of the last.",
            1,
            max=MOST,
        ),
    ],
    out: Annotated[
        Path,
        option(
            OUTPUT,
            "Signed prompt to write; of a manifest: manifest.json.sig beside it.",
            "--out",
            "-o",
            metavar="FILE",
        ),
    ],
    expires: Annotated[
        str | None,
        option(
            SIGNATURES,
            "Last day of use (2027-12-31, to its end), or a time (2027-12-31T12:00:00Z); UTC. By default it does not expire.",
            metavar="DATE",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Sign a prompt, so that devices can tell who made it.

    The signed prompt takes about 120 bytes more, and every command reads it. A prompt that is signed already
    is signed anew. QPE_PASSPHRASE is the passphrase of a key that has one.

    Example: qprompt-edge sign belt.qpt --key vendor.key --task belt --sequence 7 --out belt-7.qpt
    """
    claims = Claims(task, sequence, clock(), None if expires is None else read_time(expires))
    content = read_content(file)
    private = read_key(key, passphrase)
    if file.name == MANIFEST:
        if task != BACKBONE_TASK:
            raise typer.BadParameter(f"a manifest is signed for --task {BACKBONE_TASK}")
        signed = sign_manifest(content, private, claims)
    else:
        signed = sign_prompt(content, private, claims)
        check_content(signed, file)
    write_atomic(out, signed)
    key_id = SignedMessage.from_bytes(signed).key_id.hex()
    until = "does not expire" if claims.expires is None else f"expires {shown_time(claims.expires)}"
    say(
        f"wrote {out}: {len(signed)} bytes, signed with the key {key_id} for {task}, sequence {sequence}, {until}"
    )
    if claims.expires is not None and claims.expires <= claims.issued:
        say("it has expired already")
    if as_json:
        emit(
            {
                "out": str(out),
                "bytes": len(signed),
                "key_id": key_id,
                "task": task,
                "sequence": sequence,
                "issued": claims.issued,
                "expires": claims.expires,
            }
        )


def read_time(text: str) -> int:
    """A date, which means its end, or a time, in seconds since 1970; without a zone it is UTC.

    Raises:
        typer.BadParameter: It is neither, or out of range.
    """
    try:
        moment = datetime.fromisoformat(text.strip().removesuffix("Z"))
    except ValueError as error:
        raise typer.BadParameter(
            f"--expires {text!r}: expected a date such as 2027-12-31 or a time such as 2027-12-31T12:00:00Z"
        ) from error
    if len(text.strip()) <= len("2027-12-31"):
        moment += _DAY
    seconds = int((moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp())
    if not 0 <= seconds <= MOST:
        raise typer.BadParameter(f"--expires {text!r}: expected a time from 1970 to 2106")
    return seconds
