"""`qprompt-edge revoke`: a signed list of keys that do not count any more."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from qprompt_edge.cli.output import emit, reported, say
from qprompt_edge.cli.parameters import OUTPUT, SIGNATURES, JsonOption, argument, option
from qprompt_edge.cli.sealing import passphrase
from qprompt_edge.shipping.keys import read_key
from qprompt_edge.shipping.signing import sign_revocations
from qprompt_runtime.accepted import clock
from qprompt_runtime.cose_sign1 import Claims
from qprompt_runtime.errors import OutputError
from qprompt_runtime.files import write_atomic
from qprompt_runtime.public_keys import read_public_key
from qprompt_runtime.text import counted
from qprompt_runtime.trust_store import REVOCATION_TASK, REVOKED_SUFFIX


@reported
def command(
    keys: Annotated[list[Path], argument("KEYS", "Public keys that shall not count any more.")],
    key: Annotated[
        Path,
        option(
            SIGNATURES,
            "Private key whose public one has the line `revokes: yes` in the trust store.",
            metavar="FILE",
        ),
    ],
    out: Annotated[
        Path,
        option(
            OUTPUT,
            f"List to write, for the trust store's folder; its name ends in {REVOKED_SUFFIX}.",
            "--out",
            "-o",
            metavar="FILE",
        ),
    ],
    as_json: JsonOption = False,
) -> None:
    """Make a signed list of keys that do not count any more.

    Put the list into the folder that is the trust store of the devices, beside the others: all lists count
    together. A device that has seen it keeps refusing the keys when the list is gone.

    Example: qprompt-edge revoke stolen.key.pub --key root.key --out stolen.revoked
    """
    if out.suffix != REVOKED_SUFFIX:
        raise OutputError(
            f"--out {out}: expected a name that ends in {REVOKED_SUFFIX}, as trust stores read no others"
        )
    ids = sorted({read_public_key(path).key_id for path in keys})
    claims = Claims(REVOCATION_TASK, 1, clock())
    write_atomic(out, sign_revocations(ids, read_key(key, passphrase), claims))
    say(f"wrote {out}: {counted(len(ids), 'key')} revoked")
    if as_json:
        emit({"out": str(out), "revoked": [it.hex() for it in ids]})
