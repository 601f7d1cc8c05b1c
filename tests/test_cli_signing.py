"""keygen, sign, verify, revoke, and the policy on every command that loads a prompt."""

import json
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from bundles import write_bundle
from command_line import Result
from prompts import TINY
from signatures import write_public

from qprompt_edge.shipping.keys import read_key
from qprompt_edge.shipping.signing import public_of
from qprompt_edge.watching.prompts import Prompts
from qprompt_runtime.backbone import Backbone
from qprompt_runtime.bundle import DEFAULT_BACKBONE
from qprompt_runtime.cose_sign1 import SignedMessage, claims_in
from qprompt_runtime.errors import TrustError
from qprompt_runtime.files import write_atomic
from qprompt_runtime.policy import Policy
from qprompt_runtime.prompt_file import PromptFile
from qprompt_runtime.public_keys import read_public_key

Run = Callable[..., Result]


@pytest.fixture
def vendor(run: Run, tmp_path: Path) -> Path:
    """A key as keygen writes it."""
    assert run("keygen", "--out", tmp_path / "vendor.key").code == 0
    return tmp_path / "vendor.key"


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    path = tmp_path / "plain.qpt"
    path.write_bytes(TINY.to_bytes())
    return path


def sign(
    run: Run, file: Path, vendor: Path, out: Path, *more: object, sequence: int = 7, task: str = "belt"
) -> Path:
    done = run("sign", file, "--key", vendor, "--task", task, "--sequence", sequence, "--out", out, *more)
    assert done.code == 0, done.err
    return out


def refused(result: Result, *words: str, code: int = 3) -> None:
    assert result.code == code, result.err
    lines = [line for line in result.err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, result.err
    assert "Traceback" not in result.err
    for word in words:
        assert word in lines[0], lines[0]


# ---------------------------------------------------------------------- keys


def test_keygen_writes_a_private_key_for_its_owner_only_and_a_public_one(run: Run, tmp_path: Path) -> None:
    done = run("keygen", "--out", tmp_path / "k", "--task", "belt", "--task", "door", "--revokes", "--json")
    assert done.code == 0, done.err
    assert stat.S_IMODE((tmp_path / "k").stat().st_mode) == 0o600
    public = read_public_key(tmp_path / "k.pub")
    assert public.tasks == {"belt", "door"}
    assert public.revokes
    private = read_key(tmp_path / "k", lambda: b"")
    assert public_of(private).raw == public.raw
    assert done.json == {
        "key": str(tmp_path / "k"),
        "public_key": str(tmp_path / "k.pub"),
        "key_id": public.key_id.hex(),
    }


def test_the_keys_are_what_openssl_reads(vendor: Path) -> None:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

    theirs = load_pem_public_key(Path(f"{vendor}.pub").read_bytes())
    assert theirs.public_bytes(Encoding.Raw, PublicFormat.Raw) == read_public_key(Path(f"{vendor}.pub")).raw


@pytest.mark.parametrize("there", ["k", "k.pub"])
def test_keygen_never_writes_over_a_key(there: str, run: Run, tmp_path: Path) -> None:
    (tmp_path / there).write_text("old")
    refused(run("keygen", "--out", tmp_path / "k"), "is there already", code=1)
    assert (tmp_path / there).read_text() == "old"


def test_a_passphrase_encrypts_the_key(
    run: Run, tmp_path: Path, plain: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QPE_PASSPHRASE", "correct horse")
    assert run("keygen", "--out", tmp_path / "k", "--passphrase").code == 0
    assert "ENCRYPTED" in (tmp_path / "k").read_text()
    sign(run, plain, tmp_path / "k", tmp_path / "a.qpt")
    arguments = (
        "sign",
        plain,
        "--key",
        tmp_path / "k",
        "--task",
        "belt",
        "--sequence",
        1,
        "--out",
        tmp_path / "b.qpt",
    )
    monkeypatch.setenv("QPE_PASSPHRASE", "wrong")
    refused(run(*arguments), "the passphrase is wrong")
    monkeypatch.delenv("QPE_PASSPHRASE")
    refused(run(*arguments), "has a passphrase", "QPE_PASSPHRASE")


def test_a_key_that_others_may_read_is_refused(run: Run, vendor: Path, plain: Path, tmp_path: Path) -> None:
    vendor.chmod(0o640)
    done = run("sign", plain, "--key", vendor, "--task", "belt", "--sequence", 1, "--out", tmp_path / "b.qpt")
    refused(done, "mode 640", "chmod 600")


@pytest.mark.parametrize("content", [b"", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"])
def test_a_file_that_is_no_key_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "k").write_bytes(content)
    (tmp_path / "k").chmod(0o600)
    with pytest.raises(TrustError, match="no private key in PEM"):
        read_key(tmp_path / "k", lambda: b"")


def test_a_key_of_another_kind_is_refused(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    pem = generate_private_key(SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "k").write_bytes(pem)
    (tmp_path / "k").chmod(0o600)
    with pytest.raises(TrustError, match="not of Ed25519"):
        read_key(tmp_path / "k", lambda: b"")


# ---------------------------------------------------------------------- sign, verify


def test_a_signed_prompt_is_verified(run: Run, vendor: Path, plain: Path, tmp_path: Path) -> None:
    signed = sign(run, plain, vendor, tmp_path / "signed.qpt", "--expires", "2090-12-31")
    for trust in (f"{vendor}.pub", tmp_path):  # a key, and the folder of it
        done = run("verify", signed, "--trust", trust, "--task", "belt")
        assert done.code == 0, done.err
        assert len(done.out.splitlines()) == 1
        assert "genuine" in done.out
        assert "for belt, sequence 7" in done.out
        assert "expires 2091-01-01 00:00:00 UTC" in done.out
    said = run("verify", signed, "--trust", f"{vendor}.pub", "--json").json
    assert (said["genuine"], said["task"], said["sequence"], said["expires"]) == (True, "belt", 7, 3818448000)


def test_verify_refuses_with_3(run: Run, vendor: Path, plain: Path, tmp_path: Path) -> None:
    signed, trust = sign(run, plain, vendor, tmp_path / "signed.qpt"), f"{vendor}.pub"
    foreign = write_public(tmp_path / "elsewhere" / "foreign.pub", 3)
    altered = tmp_path / "altered.qpt"
    altered.write_bytes(signed.read_bytes()[:-1] + bytes([signed.read_bytes()[-1] ^ 1]))
    old = sign(run, plain, vendor, tmp_path / "old.qpt", "--expires", "2020-01-01T00:00:00Z")
    refused(run("verify", plain, "--trust", trust), "plain.qpt: it is not signed")
    refused(run("verify", altered, "--trust", trust), "does not verify")
    refused(run("verify", signed, "--trust", foreign), "not trusted here")
    refused(run("verify", signed, "--trust", trust, "--task", "door"), "expected: door")
    refused(run("verify", old, "--trust", trust), "expired at 2020-01-01 00:00:00 UTC")
    refused(run("verify", tmp_path / "gone.qpt", "--trust", trust), "cannot be read")
    refused(run("verify", signed, "--trust", tmp_path / "gone.pub"), "gone.pub")


def test_verify_without_a_store_is_wrong_usage(run: Run, plain: Path) -> None:
    assert run("verify", plain).code == 2


@pytest.mark.parametrize("expires", ["soon", "2027-13-01", "1969-01-01", "2200-01-01"])
def test_a_date_that_is_none_is_wrong_usage(
    expires: str, run: Run, vendor: Path, plain: Path, tmp_path: Path
) -> None:
    out = tmp_path / "b.qpt"
    done = run(
        "sign", plain, "--key", vendor, "--task", "a", "--sequence", 1, "--expires", expires, "--out", out
    )
    assert done.code == 2
    assert not out.exists()


def test_what_is_no_prompt_is_not_signed(run: Run, vendor: Path, tmp_path: Path) -> None:
    (tmp_path / "x.qpt").write_bytes(b"<html>")
    done = run(
        "sign",
        tmp_path / "x.qpt",
        "--key",
        vendor,
        "--task",
        "a",
        "--sequence",
        1,
        "--out",
        tmp_path / "b.qpt",
    )
    refused(done, "x.qpt", "web page", code=1)
    assert not (tmp_path / "b.qpt").exists()


def test_a_signed_prompt_is_signed_anew(run: Run, vendor: Path, plain: Path, tmp_path: Path) -> None:
    once = sign(run, plain, vendor, tmp_path / "once.qpt")
    twice = SignedMessage.from_bytes(sign(run, once, vendor, tmp_path / "twice.qpt", sequence=8).read_bytes())
    assert twice.payload == plain.read_bytes()
    assert twice.claims.sequence == 8


# ---------------------------------------------------------------------- every command that loads a prompt


def test_inspect_shows_the_envelope(run: Run, vendor: Path, plain: Path, tmp_path: Path) -> None:
    signed = sign(run, plain, vendor, tmp_path / "signed.qpt")
    shown = run("inspect", signed)
    assert "not checked" in shown.out
    assert "sequence   7" in shown.out
    checked = run("inspect", signed, "--trust", f"{vendor}.pub", "--json").json["signed"]
    assert checked["verified"] is True
    assert (checked["task"], checked["sequence"], checked["bytes"]) == ("belt", 7, signed.stat().st_size)
    assert run("inspect", plain, "--json").json["signed"] is None


def test_every_command_that_loads_a_prompt_obeys(
    run: Run, vendor: Path, prompt: Path, photos: Path, tmp_path: Path
) -> None:
    photo = next(photos.rglob("*.jpg"), None) or next(path for path in photos.rglob("*") if path.is_file())
    signed = sign(run, prompt, vendor, tmp_path / "signed.qpt")
    commands = {
        "predict": lambda file: ("predict", photo, "--prompt", file),
        "eval": lambda file: ("eval", "--images", photos, "--prompt", file),
        "inspect": lambda file: ("inspect", file),
        "watch": lambda file: ("watch", photo.parent, "--prompt", file, "--once"),
        "convert": lambda file: ("convert", file, "--out", tmp_path / "out.safetensors", "--force"),
    }
    asked = ("--policy", "enforce", "--trust", f"{vendor}.pub", "--task", "belt")
    for name, command in commands.items():
        done = run(*command(signed), *asked)
        assert done.code == 0, (name, done.err)
        refused(run(*command(prompt), *asked), "not signed")
        warned = run(*command(prompt), "--policy", "warn", "--trust", f"{vendor}.pub")
        assert warned.code == 0, (name, warned.err)
        assert "warning: the prompt is not signed" in warned.err
        assert "TrustWarning" not in warned.err
    refused(run("update", prompt, "--remove", "x", *asked[:4]), "not signed")
    refused(run("adapt", photos, "--out", prompt, *asked[:4]), "not signed", code=1)


def test_predict_refuses_an_older_prompt_than_it_used(
    run: Run, vendor: Path, prompt: Path, photos: Path, tmp_path: Path
) -> None:
    photo = next(path for path in photos.rglob("*") if path.is_file())
    asked = ("--policy", "enforce", "--trust", f"{vendor}.pub")
    old = sign(run, prompt, vendor, tmp_path / "old.qpt", sequence=6)
    new = sign(run, prompt, vendor, tmp_path / "new.qpt", sequence=7)
    assert run("inspect", new, *asked).code == 0  # looked at, not used
    assert run("predict", photo, "--prompt", old, *asked).code == 0
    assert run("predict", photo, "--prompt", new, *asked).code == 0
    refused(run("predict", photo, "--prompt", old, *asked), "older than what was used here")
    refused(run("eval", "--images", photos, "--prompt", old, *asked), "older than what was used here")


def test_watch_takes_up_newer_signed_prompts_only(
    run: Run, vendor: Path, prompt: Path, tmp_path: Path
) -> None:
    runs = sign(run, prompt, vendor, tmp_path / "runs.qpt", sequence=6)
    newer = sign(run, prompt, vendor, tmp_path / "newer.qpt", sequence=7).read_bytes()
    older, notes = runs.read_bytes(), []
    rules = Policy.of("enforce", Path(f"{vendor}.pub"))
    prompts = Prompts([runs], Backbone.load(DEFAULT_BACKBONE), policy=rules)
    for content, taken in ((newer, True), (older, False), (prompt.read_bytes(), False)):
        write_atomic(runs, content)
        assert bool(prompts.refresh(notes.append)) is taken
    assert "is taken up" in notes[0]
    assert "older than what was used here" in notes[1]
    assert "not signed" in notes[2]
    assert all("the version before stays in force" in note for note in notes[1:])


def test_a_prompt_for_another_backbone_is_refused_and_does_not_block_the_one_in_use(
    run: Run, vendor: Path, prompt: Path, photos: Path, tmp_path: Path
) -> None:
    from dataclasses import replace

    photo = next(path for path in photos.rglob("*") if path.is_file())
    asked = ("--policy", "enforce", "--trust", f"{vendor}.pub")
    other = tmp_path / "other.qpt"
    other.write_bytes(replace(PromptFile.from_bytes(prompt.read_bytes()), fingerprint=bytes(16)).to_bytes())
    good = sign(run, prompt, vendor, tmp_path / "good.qpt", sequence=6)
    bad = sign(run, other, vendor, tmp_path / "bad.qpt", sequence=7)
    refused(run("predict", photo, "--prompt", bad, *asked), "tuned for backbone", code=1)
    assert run("predict", photo, "--prompt", good, *asked).code == 0


def test_what_a_device_makes_is_signed_by_its_own_key(
    run: Run, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("keygen", "--out", tmp_path / "device.key", "--task", "belt").code == 0
    said = {
        "policy": "enforce",
        "trust": "keys",
        "tasks": ["belt"],
        "device_key": str(tmp_path / "device.key"),
    }
    (tmp_path / "keys").mkdir()
    (tmp_path / "device.key.pub").rename(tmp_path / "keys" / "device.pub")
    (tmp_path / "policy.json").write_text(json.dumps(said), encoding="utf-8")
    monkeypatch.setenv("QPE_POLICY_FILE", str(tmp_path / "policy.json"))
    made, photo = tmp_path / "made.qpt", next(path for path in photos.rglob("*") if path.is_file())
    done = run("adapt", photos, "--out", made, "--epochs", 1)
    assert done.code == 0, done.err
    first = claims_in(made.read_bytes())
    assert first is not None
    assert (first.task, first.sequence) == ("belt", 1)
    assert run("predict", photo, "--prompt", made).code == 0
    kept = tmp_path / "kept.qpt"
    kept.write_bytes(made.read_bytes())
    labels = [name.label for name in PromptFile.from_bytes(made.read_bytes()).classes]
    assert run("update", made, "--remove", labels[-1]).code == 0
    second = claims_in(made.read_bytes())
    assert second is not None
    assert second.issued > first.issued
    assert run("predict", photo, "--prompt", made).code == 0
    refused(run("predict", photo, "--prompt", kept), "older than what was used here")


def test_a_task_without_a_key_is_refused_before_anything_is_tuned(
    run: Run, photos: Path, tmp_path: Path
) -> None:
    refused(run("adapt", photos, "--out", tmp_path / "a.qpt", "--task", "belt"), "give --key too")


# ---------------------------------------------------------------------- bundles, revocation


@pytest.mark.parametrize("form", ["folder", "zip"])
def test_backbones_add_checks_the_signature_beside_the_manifest(
    form: str, run: Run, vendor: Path, tmp_path: Path
) -> None:
    bundle = write_bundle(tmp_path / "somewhere" / "dummy")
    asked = ("--policy", "enforce", "--trust", f"{vendor}.pub")

    def given() -> Path:
        if form == "folder":
            return bundle
        with zipfile.ZipFile(tmp_path / "dummy.zip", "w") as archive:
            for path in bundle.iterdir():
                archive.write(path, f"dummy/{path.name}")
        return tmp_path / "dummy.zip"

    refused(run("backbones", "add", given(), *asked), "the bundle is not signed")
    manifest = bundle / "manifest.json"
    sign(run, manifest, vendor, bundle / "manifest.json.sig", task="backbone")
    assert run("verify", manifest, "--trust", f"{vendor}.pub").code == 0
    text = manifest.read_bytes()
    manifest.write_bytes(text + b"\n")
    refused(run("backbones", "add", given(), *asked), "does not verify")
    refused(run("verify", manifest, "--trust", f"{vendor}.pub"), "does not verify")
    manifest.write_bytes(text)
    done = run("backbones", "add", given(), *asked, "--json")
    assert done.code == 0, done.err
    assert (Path(done.json["path"]) / "manifest.json.sig").is_file()


def test_revoked_keys_do_not_count(run: Run, vendor: Path, plain: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.mkdir()
    assert run("keygen", "--out", tmp_path / "root.key", "--task", "none", "--revokes").code == 0
    signed = sign(run, plain, vendor, tmp_path / "signed.qpt")
    for name in ("vendor.key.pub", "root.key.pub"):
        (store / name).write_bytes((tmp_path / name).read_bytes())
    assert run("verify", signed, "--trust", store).code == 0
    listed = run(
        "revoke", f"{vendor}.pub", "--key", tmp_path / "root.key", "--out", store / "lost.revoked", "--json"
    )
    assert listed.json["revoked"] == [read_public_key(Path(f"{vendor}.pub")).key_id.hex()]
    refused(run("verify", signed, "--trust", store), "was revoked")
    refused(
        run("revoke", f"{vendor}.pub", "--key", vendor, "--out", tmp_path / "lost"),
        "ends in .revoked",
        code=1,
    )
