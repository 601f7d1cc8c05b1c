"""Another library checks our signed messages and signs its own: `python make_vectors.py pycose` (or `cwt`).

Run it where that library is installed (pycose 1.1 or cwt 3.3, with cbor2 below 6; their needs exclude ours,
so each has an environment of its own, and neither needs this project). It reads `ours.json`, which
`tests/test_cose_oracles.py` compares with what we write, fails if the library does not verify one of them or
verifies an altered one, and writes what the library signs to its own file.
"""

import json
import sys
from importlib.metadata import version
from pathlib import Path

import cbor2

HERE = Path(__file__).parent
OURS = json.loads((HERE / "ours.json").read_text(encoding="utf-8"))
SECRET, PUBLIC = bytes.fromhex(OURS["secret"]), bytes.fromhex(OURS["public"])
KEY_ID = bytes.fromhex(OURS["key_id"])
SEQUENCE = -65537


def header(case: dict) -> dict:
    """The protected header of a case; the order is the format's."""
    claims = {2: case["task"], 4: case["expires"], 6: case["issued"], SEQUENCE: case["sequence"]}
    return {1: -8, 4: KEY_ID, 15: {key: value for key, value in claims.items() if value is not None}}


def pycose_verifies(message: bytes, aad: bytes, detached: bytes | None) -> bool:
    from pycose.keys import OKPKey
    from pycose.messages import Sign1Message

    decoded = Sign1Message.decode(message)
    decoded.external_aad = aad
    decoded.key = OKPKey(crv="ED25519", x=PUBLIC)
    return decoded.verify_signature(detached_payload=detached)


def pycose_signs(case: dict, aad: bytes, payload: bytes) -> bytes:
    from pycose.algorithms import EdDSA
    from pycose.headers import KID, Algorithm
    from pycose.keys import OKPKey
    from pycose.messages import Sign1Message

    said = header(case)
    headers = {Algorithm: EdDSA, KID: KEY_ID, 15: said[15]}
    detached = case["detached"]
    message = Sign1Message(phdr=headers, payload=None if detached else payload, external_aad=aad)
    message.key = OKPKey(crv="ED25519", x=PUBLIC, d=SECRET)
    return message.encode(detached_payload=payload if detached else None)


def cwt_verifies(message: bytes, aad: bytes, detached: bytes | None) -> bool:
    from cwt import COSE, COSEKey, VerifyError

    key = COSEKey.new({1: 1, 2: KEY_ID, 3: -8, -1: 6, -2: PUBLIC})
    try:
        found = COSE.new().decode(
            message, key, external_aad=aad, **({} if detached is None else {"detached_payload": detached})
        )
    except VerifyError:
        return False
    return found == (detached if detached is not None else cbor2.loads(message).value[2])


def cwt_signs(case: dict, aad: bytes, payload: bytes) -> bytes:
    from cwt import COSE, COSEKey

    key = COSEKey.new({1: 1, 2: KEY_ID, 3: -8, -1: 6, -2: PUBLIC, -4: SECRET})
    message = COSE.new().encode_and_sign(
        payload, key, protected=header(case), unprotected={}, external_aad=aad
    )
    if case["detached"]:
        parts = cbor2.loads(message).value
        message = cbor2.dumps(cbor2.CBORTag(18, [parts[0], parts[1], None, parts[3]]))
    return message


def main(library: str) -> None:
    verifies, signs = globals()[f"{library}_verifies"], globals()[f"{library}_signs"]
    made = []
    for case in OURS["cases"]:
        aad, payload, message = (bytes.fromhex(case[name]) for name in ("aad", "payload", "message"))
        detached = payload if case["detached"] else None
        assert verifies(message, aad, detached), case["name"]
        assert not verifies(message[:-1] + bytes([message[-1] ^ 1]), aad, detached), case["name"]
        theirs = signs(case, aad, payload)
        assert verifies(theirs, aad, detached), case["name"]
        made.append({"name": case["name"], "message": theirs.hex()})
    written = {"library": f"{library} {version(library)}", "verified": len(made), "cases": made}
    (HERE / f"{library}.json").write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(f"{written['library']}: verified {len(made)} of ours, signed {len(made)}\n")


if __name__ == "__main__":
    main(sys.argv[1])
