"""The server under a policy: what it takes, publishes and makes is signed."""

import json
import os
import time
from pathlib import Path

import pytest
from signatures import PROMPT_BYTES, key, signed, write_public

from qprompt_edge.cli.serve import _tighten
from qprompt_edge.reporter import Reporter
from qprompt_edge.server.refusal import Refusal
from qprompt_edge.server.versions import Versions
from qprompt_edge.server.work import adapted
from qprompt_runtime.bundle import DEFAULT_BACKBONE
from qprompt_runtime.cose_sign1 import claims_in
from qprompt_runtime.errors import TrustError
from qprompt_runtime.policy import POLICY, TRUST, in_force
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


@pytest.fixture
def versions(said: Path, tmp_path: Path) -> Versions:
    """Those of a task that has none yet."""
    return Versions(tmp_path / "belt", tmp_path / "belt.qpt")


def test_only_signed_prompts_are_taken_and_what_was_never_published_is_not_restored(
    versions: Versions, tmp_path: Path
) -> None:
    with pytest.raises(Refusal, match="not signed"):
        versions.add(PROMPT_BYTES)
    old = versions.add(signed(expires=None, sequence=6))
    new = versions.add(signed(expires=None, sequence=7))
    versions.publish(new)
    with pytest.raises(Refusal, match=r"cannot be published: it is older .* was never published here"):
        versions.publish(old)
    assert (tmp_path / "belt.qpt").read_bytes() == signed(expires=None, sequence=7)
    (tmp_path / "belt" / ".qprompt" / "versions" / f"{old}.json").unlink()
    assert versions.listed()[0]["bytes"] is None  # it is not read any more


def test_what_was_published_is_restored_as_rollback_does(versions: Versions, tmp_path: Path) -> None:
    files = [signed(expires=None, sequence=sequence) for sequence in (5, 6, 7)]
    first, second, third = [versions.add(file) for file in files]
    for number in (first, second, third):
        versions.publish(number)
    versions.publish(second)
    assert (tmp_path / "belt.qpt").read_bytes() == files[1]
    assert PromptFile.from_bytes(files[1])
    with pytest.raises(TrustError, match="older"):
        PromptFile.from_bytes(files[0])  # only what was put back is excepted
    versions.publish(first)
    assert PromptFile.from_bytes(files[0])
    versions.publish(third)
    with pytest.raises(TrustError, match="older"):
        PromptFile.from_bytes(files[0])  # the exception has ended
    assert versions.published() == third


def test_what_expired_since_it_was_published_is_not_restored(
    versions: Versions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = signed(expires=4_000_000_000, sequence=6), signed(expires=None, sequence=7)
    numbers = [versions.add(old), versions.add(new)]
    for number in numbers:
        versions.publish(number)
    monkeypatch.setattr(time, "time", lambda: 4_000_000_001.0)
    with pytest.raises(Refusal, match="expired"):
        versions.publish(numbers[0])
    assert (tmp_path / "belt.qpt").read_bytes() == new
    assert PromptFile.from_bytes(new)


def test_options_of_serve_tighten_what_the_variables_say(said: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (POLICY, TRUST):  # so that they are put back after the test
        monkeypatch.setenv(name, "")
    foreign = write_public(said / "foreign.pub", 3)
    _tighten("warn", None)
    assert in_force().level == "enforce"  # as the policy file says
    assert PromptFile.from_bytes(signed(expires=None))
    monkeypatch.setenv(TRUST, str(said / "keys"))
    _tighten(None, foreign)
    assert os.environ[TRUST] == f"{said / 'keys'}:{foreign}"
    with pytest.raises(TrustError, match="not trusted"):
        PromptFile.from_bytes(signed(expires=None))


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
