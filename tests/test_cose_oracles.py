"""Two other libraries verify and sign the same bytes as we do (`cose/make_vectors.py` asked them)."""

import json
from pathlib import Path

import pytest
from signatures import SECRET, key, public

from qprompt_edge.shipping.signing import sign_manifest, sign_prompt
from qprompt_runtime.cose_sign1 import MANIFEST, PROMPT, REVOCATIONS, Claims, SignedMessage, to_be_signed

FOLDER = Path(__file__).parent / "cose"
OURS = json.loads((FOLDER / "ours.json").read_text(encoding="utf-8"))
CASES = {case["name"]: case for case in OURS["cases"]}


def claims_of(case: dict) -> Claims:
    return Claims(case["task"], case["sequence"], case["issued"], case["expires"])


def test_the_recorded_key_is_ours() -> None:
    assert (OURS["secret"], OURS["public"], OURS["key_id"]) == (
        SECRET.hex(),
        public().raw.hex(),
        public().key_id.hex(),
    )


@pytest.mark.parametrize("name", CASES)
def test_we_write_the_bytes_that_the_libraries_verified(name: str) -> None:
    case = CASES[name]
    payload, claims, purpose = bytes.fromhex(case["payload"]), claims_of(case), bytes.fromhex(case["aad"])
    if purpose == PROMPT:
        assert sign_prompt(payload, key(), claims).hex() == case["message"]
    elif purpose == MANIFEST:
        assert sign_manifest(payload, key(), claims).hex() == case["message"]
    else:
        assert purpose == REVOCATIONS
        message = SignedMessage.from_bytes(bytes.fromhex(case["message"]))
        assert message.signature == key().sign(to_be_signed(public().key_id, claims, payload, purpose))


@pytest.mark.parametrize("library", ["pycose", "cwt"])
def test_we_verify_what_another_library_signed(library: str) -> None:
    recorded = json.loads((FOLDER / f"{library}.json").read_text(encoding="utf-8"))
    assert recorded["verified"] == len(CASES)
    assert [case["name"] for case in recorded["cases"]] == list(CASES)
    for made in recorded["cases"]:
        case, message = CASES[made["name"]], SignedMessage.from_bytes(bytes.fromhex(made["message"]))
        assert message.claims == claims_of(case)
        payload, purpose = bytes.fromhex(case["payload"]), bytes.fromhex(case["aad"])
        assert public().signed(message, payload, purpose), made["name"]
        assert not public().signed(message, payload + b"x", purpose), made["name"]
        assert not public(1).signed(message, payload, purpose), made["name"]
