"""Who decides what may be loaded, and what is remembered of what was."""

import json
import os
from pathlib import Path

import pytest
from signatures import EXPIRES, ISSUED, PROMPT_BYTES, key, public, signed, write_public

from qprompt_edge.shipping.signing import sign_revocations
from qprompt_runtime import accepted, policy
from qprompt_runtime.admission import admitted, used
from qprompt_runtime.cose_sign1 import Claims
from qprompt_runtime.errors import TrustError, TrustWarning, WrongTaskError
from qprompt_runtime.policy import Policy

DAY = 86_400


class Clock:
    """The time that the program sees."""

    now = float(ISSUED + DAY)

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(accepted, "time", clock)
    return clock


@pytest.fixture
def store(tmp_path: Path) -> Path:
    write_public(tmp_path / "keys" / "vendor.pub", 0, {"belt", "door"})
    return tmp_path / "keys"


@pytest.fixture
def enforce(store: Path, clock: Clock) -> Policy:
    return Policy.of("enforce", store)


def say(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, **said: object) -> Path:
    """The device's policy file."""
    path = tmp_path / "etc" / "policy.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(said), encoding="utf-8")
    monkeypatch.setattr(policy, "SYSTEM_POLICY", path)
    return path


# ---------------------------------------------------------------------- who decides


def test_without_a_policy_signed_and_unsigned_prompts_are_loaded() -> None:
    assert admitted(PROMPT_BYTES) == admitted(signed(9)) == PROMPT_BYTES


def test_without_a_policy_a_signed_prompt_in_another_form_is_refused_all_the_same() -> None:
    with pytest.raises(TrustError, match="one encoding"):
        admitted(signed() + b"\x00")


def test_the_policy_file_holds_whoever_loads(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, store: Path, clock: Clock
) -> None:
    say(monkeypatch, tmp_path, policy="enforce", trust=str(store))
    assert admitted(signed()) == PROMPT_BYTES
    with pytest.raises(TrustError, match="not signed"):
        admitted(PROMPT_BYTES)


@pytest.mark.parametrize("way", ["option", "environment", "a second file"])
@pytest.mark.parametrize("level", ["off", "warn"])
def test_nothing_loosens_the_policy_file(
    way: str, level: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, store: Path, clock: Clock
) -> None:
    say(monkeypatch, tmp_path, policy="enforce", trust=str(store))
    foreign = write_public(tmp_path / "foreign.pub", 1)
    asked = Policy.of(level, foreign) if way == "option" else None
    if way == "environment":
        monkeypatch.setenv("QPE_POLICY", level)
        monkeypatch.setenv("QPE_TRUST", str(foreign))
    elif way == "a second file":
        second = tmp_path / "second.json"
        second.write_text(json.dumps({"policy": level, "trust": str(foreign)}), encoding="utf-8")
        monkeypatch.setenv("QPE_POLICY_FILE", str(second))
    for name in ("HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_DATA_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "elsewhere"))
    for data in (PROMPT_BYTES, signed(1), signed()):  # no key is in both stores
        with pytest.raises(TrustError):
            admitted(data, asked)


@pytest.mark.parametrize("way", ["option", "environment", "a second file"])
def test_each_tightens_it(
    way: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, store: Path, clock: Clock
) -> None:
    say(monkeypatch, tmp_path, policy="off")
    asked = None
    if way == "option":
        asked = Policy.of("enforce", store)
    elif way == "environment":
        monkeypatch.setenv("QPE_POLICY", "enforce")
        monkeypatch.setenv("QPE_TRUST", str(store))
    else:
        say(monkeypatch, tmp_path, policy="enforce", trust=str(store)).rename(tmp_path / "second.json")
        monkeypatch.setenv("QPE_POLICY_FILE", str(tmp_path / "second.json"))
    assert admitted(signed(), asked) == PROMPT_BYTES
    with pytest.raises(TrustError):
        admitted(PROMPT_BYTES, asked)


def test_a_store_or_a_task_named_alone_asks_for_enforcement(store: Path, clock: Clock) -> None:
    with pytest.raises(TrustError, match="not signed"):
        admitted(PROMPT_BYTES, Policy.of(trust=store))
    with pytest.raises(TrustError, match="no key is trusted"):
        admitted(signed(), Policy.of(task="belt"))


def test_tasks_of_options_and_of_the_policy_file_must_both_hold(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, store: Path, clock: Clock
) -> None:
    say(monkeypatch, tmp_path, policy="enforce", trust=str(store), tasks=["belt"])
    assert admitted(signed(), Policy.of(task="belt")) == PROMPT_BYTES
    with pytest.raises(WrongTaskError, match="expected: belt"):
        admitted(signed(task="door"))
    with pytest.raises(WrongTaskError, match="name different ones"):
        admitted(signed(task="door"), Policy.of(task="door"))


def test_a_key_signs_only_the_tasks_that_every_store_gives_it(
    tmp_path: Path, store: Path, clock: Clock
) -> None:
    narrow = write_public(tmp_path / "narrow.pub", 0, {"door"})
    both = Policy.of("enforce", [store, narrow])
    assert admitted(signed(task="door"), both) == PROMPT_BYTES
    with pytest.raises(TrustError, match="only for: door"):
        admitted(signed(), both)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "is not JSON"),
        ("[]", "no JSON object"),
        ('{"polcy": "enforce"}', "unknown key 'polcy'"),
        ('{"policy": "strict"}', "expected one of off, warn, enforce"),
        ('{"policy": 1}', "`policy` is no text"),
        ('{"tasks": "belt"}', "no list"),
        ('{"trust": ["a"]}', "`trust` is no text"),
        ("\xff", "not JSON"),
    ],
)
def test_a_policy_file_that_is_not_understood_stops_every_load(
    content: str, words: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    say(monkeypatch, tmp_path).write_text(content, encoding="latin-1")
    with pytest.raises(TrustError, match=words):
        admitted(PROMPT_BYTES)


def test_a_policy_file_that_is_named_and_not_there_stops_every_load(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("QPE_POLICY_FILE", str(tmp_path / "gone.json"))
    with pytest.raises(TrustError, match="there is no policy file"):
        admitted(PROMPT_BYTES)


def test_under_warn_a_forgery_is_loaded_with_a_warning(store: Path, clock: Clock) -> None:
    with pytest.warns(TrustWarning, match="not trusted here"):
        assert admitted(signed(1), Policy.of("warn", store)) == PROMPT_BYTES


# ---------------------------------------------------------------------- the store


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "expected one public key"),
        ("-----BEGIN PRIVATE KEY-----\n", "is a private key"),
        ("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "not of Ed25519"),
        ("-----BEGIN PUBLIC KEY-----\n!\n-----END PUBLIC KEY-----\n", "not base64"),
        ("may: everything\n{pem}", "is not known"),
        ("tasks: belt\ntasks: door\n{pem}", "'tasks: door' is not known"),
        ("tasks: belt,,\n{pem}", "the task is ''"),
        ("{pem}{pem}", "expected one public key"),
    ],
)
def test_a_store_with_a_key_that_is_none_is_not_used(
    content: str, words: str, store: Path, enforce: Policy
) -> None:
    pem = (store / "vendor.pub").read_text().partition("\n")[2]
    (store / "bad.pub").write_text(content.replace("{pem}", pem), encoding="utf-8")
    with pytest.raises(TrustError, match=words):
        admitted(signed(), enforce)


def test_a_key_of_another_kind_is_refused(store: Path, enforce: Policy) -> None:
    from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    pem = (
        Ed448PrivateKey.generate().public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    (store / "other.pub").write_bytes(pem)
    with pytest.raises(TrustError, match="not of Ed25519"):
        admitted(signed(), enforce)


def test_an_empty_store_trusts_nobody(tmp_path: Path, clock: Clock) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(TrustError, match="holds no public key"):
        admitted(signed(), Policy.of("enforce", tmp_path / "empty"))


def test_a_key_that_was_revoked_stays_so_when_the_list_is_gone(store: Path, enforce: Policy) -> None:
    write_public(store / "root.pub", 1, {"nothing"}, revokes=True)
    assert admitted(signed(), enforce) == PROMPT_BYTES
    listed = store / "stolen.revoked"
    listed.write_bytes(sign_revocations([public().key_id], key(1), Claims("revocation", 1, ISSUED)))
    with pytest.raises(TrustError, match="was revoked"):
        admitted(signed(), enforce)
    listed.unlink()
    with pytest.raises(TrustError, match="was revoked"):
        admitted(signed(), enforce)


@pytest.mark.parametrize("signer", [0, 2])
def test_a_revocation_list_by_a_key_that_may_not_makes_the_store_unusable(
    signer: int, store: Path, enforce: Policy
) -> None:
    write_public(store / "root.pub", 1, {"nothing"}, revokes=True)
    (store / "x.revoked").write_bytes(
        sign_revocations([public(1).key_id], key(signer), Claims("revocation", 1, ISSUED))
    )
    with pytest.raises(TrustError, match="does not count"):
        admitted(signed(), enforce)


def test_a_signed_prompt_is_no_revocation_list(store: Path, enforce: Policy) -> None:
    write_public(store / "root.pub", 1, None, revokes=True)
    (store / "x.revoked").write_bytes(signed(1, task="revocation"))
    with pytest.raises(TrustError, match="does not count"):
        admitted(signed(), enforce)


# ---------------------------------------------------------------------- what is remembered


def test_what_is_used_sets_the_floor_and_what_is_looked_at_does_not(enforce: Policy) -> None:
    admitted(signed(sequence=9), enforce)
    used(signed(sequence=7), enforce)
    assert admitted(signed(sequence=7), enforce) == PROMPT_BYTES
    with pytest.raises(TrustError, match="older than what was used here"):
        admitted(signed(sequence=6), enforce)
    used(signed(sequence=9), enforce)
    for older in (signed(sequence=7), signed(sequence=9, issued=ISSUED - 1)):
        with pytest.raises(TrustError, match="older than what was used here"):
            admitted(older, enforce)
        with pytest.raises(TrustError, match="older than what was used here"):
            used(older, enforce)
    assert admitted(signed(sequence=1, task="door"), enforce) == PROMPT_BYTES  # each task has its own


def test_another_key_of_the_task_does_not_lower_the_floor(store: Path, enforce: Policy) -> None:
    write_public(store / "second.pub", 1, {"belt"})
    used(signed(sequence=9), enforce)
    with pytest.raises(TrustError, match="older"):
        admitted(signed(1, sequence=8), enforce)


def test_a_clock_set_back_does_not_revive_what_expired(enforce: Policy, clock: Clock) -> None:
    assert admitted(signed(), enforce) == PROMPT_BYTES
    clock.now = float(EXPIRES)
    with pytest.raises(TrustError, match="expired at 2027-01-01 00:00:00 UTC"):
        admitted(signed(), enforce)
    for now in (ISSUED + DAY, 0, EXPIRES - 1):
        clock.now = float(now)
        with pytest.raises(TrustError, match="expired"):
            admitted(signed(), enforce)


def test_time_seen_with_another_prompt_counts_too(enforce: Policy, clock: Clock) -> None:
    clock.now = float(EXPIRES + 3600)
    assert admitted(signed(expires=None), enforce) == PROMPT_BYTES
    clock.now = float(ISSUED)
    with pytest.raises(TrustError, match="expired"):
        admitted(signed(), enforce)


def test_a_state_that_cannot_be_read_or_written_stops_the_load(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, store: Path, clock: Clock
) -> None:
    state = tmp_path / "etc" / "accepted.json"
    say(monkeypatch, tmp_path, policy="enforce", trust=str(store))
    assert admitted(signed()) == PROMPT_BYTES
    for damaged in (
        "",
        "{}",
        '{"last_seen": -1, "tasks": {}, "revoked": []}',
        '{"last_seen": 0, "tasks": [], "revoked": []}',
    ):
        state.write_text(damaged, encoding="utf-8")
        with pytest.raises(TrustError, match="is damaged, so nothing is loaded"):
            admitted(signed())
    state.unlink()
    state.mkdir()
    with pytest.raises(TrustError, match="cannot be read"):
        admitted(signed())
    state.rmdir()
    say(monkeypatch, tmp_path, policy="enforce", trust=str(store), state="/dev/null/state.json")
    with pytest.raises(TrustError, match="cannot be remembered"):
        admitted(signed())


def test_the_environment_does_not_move_the_memory_of_a_policy_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, store: Path, clock: Clock
) -> None:
    say(monkeypatch, tmp_path, policy="enforce", trust=str(store), state="memory/seen.json")
    used(signed(sequence=9))
    for name in ("HOME", "XDG_STATE_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "elsewhere"))
    with pytest.raises(TrustError, match="older"):
        admitted(signed())
    assert (tmp_path / "etc" / "memory" / "seen.json").is_file()


def test_the_memory_is_not_written_at_every_load(enforce: Policy, clock: Clock) -> None:
    place = Path(os.environ["XDG_STATE_HOME"]) / "qprompt-edge" / "accepted.json"
    used(signed(), enforce)
    before = place.stat().st_ino
    clock.now += 59
    used(signed(), enforce)
    assert place.stat().st_ino == before
    clock.now += 1
    used(signed(), enforce)
    assert place.stat().st_ino != before


def test_unsigned_prompts_are_read_without_the_library(tmp_path: Path) -> None:
    import subprocess
    import sys

    (tmp_path / "plain.qpt").write_bytes(PROMPT_BYTES)
    (tmp_path / "signed.qpt").write_bytes(signed())
    code = """
import sys
sys.modules["cryptography"] = None  # as if it were not installed
from pathlib import Path
from qprompt_runtime.prompt_file import read_prompt_file
from qprompt_runtime.policy import Policy
assert read_prompt_file(Path("plain.qpt")).to_bytes() == read_prompt_file(Path("signed.qpt")).to_bytes()
try:
    read_prompt_file(Path("signed.qpt"), Policy.of("enforce", "vendor.pub"))
except Exception as error:
    print(type(error).__name__, error)
"""
    write_public(tmp_path / "vendor.pub")
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("TrustError signed.qpt: signatures need the library")
    assert "qprompt-edge[sign]" in done.stdout
