"""The server under a policy: what it takes, publishes and makes is signed."""

import json
from pathlib import Path

import pytest
from signatures import PROMPT_BYTES, key, signed, write_public

from qprompt_edge.reporter import Reporter
from qprompt_edge.server.refusal import Refusal
from qprompt_edge.server.versions import Versions
from qprompt_edge.server.work import adapted
from qprompt_runtime.bundle import DEFAULT_BACKBONE
from qprompt_runtime.cose_sign1 import claims_in
from qprompt_runtime.prompt_file import PromptFile


@pytest.fixture
def said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The device's policy file: enforce, one vendor, and a key of its own."""
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    etc = tmp_path / "etc"
    write_public(etc / "keys" / "vendor.pub", 0)
    write_public(etc / "keys" / "device.pub", 1, {"photos"})
    (etc / "device.key").write_bytes(key(1).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    (etc / "device.key").chmod(0o600)
    (etc / "policy.json").write_text(
        json.dumps({"policy": "enforce", "trust": "keys", "device_key": "device.key"})
    )
    monkeypatch.setenv("QPE_POLICY_FILE", str(etc / "policy.json"))
    return etc


def test_only_signed_prompts_are_taken_and_older_ones_are_not_published(said: Path, tmp_path: Path) -> None:
    versions = Versions(tmp_path / "belt", tmp_path / "belt.qpt")
    with pytest.raises(Refusal, match="not signed"):
        versions.add(PROMPT_BYTES)
    old = versions.add(signed(expires=None, sequence=6))
    new = versions.add(signed(expires=None, sequence=7))
    versions.publish(old)
    versions.publish(new)
    with pytest.raises(Refusal, match="cannot be published: it is older"):
        versions.publish(old)
    assert (tmp_path / "belt.qpt").read_bytes() == signed(expires=None, sequence=7)
    (tmp_path / "belt" / ".qprompt" / "versions" / f"{old}.json").unlink()
    assert versions.listed()[0]["bytes"] is None  # it is not read any more


def test_what_is_made_is_signed_with_the_key_of_the_device(said: Path, photos: Path, tmp_path: Path) -> None:
    order = {
        "photos": str(photos),
        "out": str(tmp_path / "1.qpt"),
        "name": "photos 1",
        "options": {"epochs": 1},
        "backbone": DEFAULT_BACKBONE,
        "provider": "auto",
        "threads": 0,
    }
    adapted(order, Reporter())
    content = (tmp_path / "1.qpt").read_bytes()
    claims = claims_in(content)
    assert claims is not None
    assert claims.task == "photos"
    assert PromptFile.from_bytes(content)
