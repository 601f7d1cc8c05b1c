"""fetch: what is new in a folder is installed, refusals keep install's codes, failures are not repeated."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from fetching import content, expect, prompt_of
from fetching import device as device  # fixtures
from fetching import fetch as fetch
from signatures import ISSUED, write_public

from qprompt_edge.fetching.fetch import LEAST_WAIT, MEMORY, MOST_WAIT
from qprompt_edge.shipping import install as installing
from qprompt_edge.shipping.installed import WorseError


@pytest.fixture
def outbox(tmp_path: Path) -> Path:
    (tmp_path / "outbox").mkdir()
    return tmp_path / "outbox"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """`clock(60)`: a minute passes."""
    now = [float(ISSUED + 1000)]
    monkeypatch.setattr(time, "time", lambda: now[0])

    def passes(seconds: float) -> None:
        now[0] += seconds

    return passes


def test_the_newest_of_a_folder_is_installed_once(fetch, device, outbox) -> None:
    (outbox / "a.qpt").write_bytes(prompt_of(9))
    (outbox / "b.qpt").write_bytes(prompt_of(10))
    (outbox / "half copied.qpt").write_bytes(prompt_of(12)[:50])
    (outbox / "notes.txt").write_text("no prompt")
    done = fetch(outbox, "--json")
    expect(done, 0, "installed", "task belt, sequence 10")
    assert done.json["new"] is True
    assert done.json["installed"]["signed"]["sequence"] == 10
    assert (device / "prompt.qpt").read_bytes() == prompt_of(10)
    again = fetch(outbox, "--json")
    expect(again, 0, "nothing new", "has what runs already")
    assert again.json == {"new": False, "installed": None}
    assert not (device / MEMORY).exists()  # where nothing went wrong, nothing is written
    (outbox / "c.qpt").write_bytes(prompt_of(11))
    expect(fetch(outbox / "c.qpt"), 0, "sequence 11")


def test_a_foreign_prompt_does_not_hide_the_newest_that_passes(fetch, device, outbox) -> None:
    (outbox / "foreign.qpt").write_bytes(prompt_of(4_000_000_000, number=3))
    (outbox / "door.qpt").write_bytes(prompt_of(50, task="door"))
    (outbox / "expired.qpt").write_bytes(prompt_of(40, expires=ISSUED + 1))
    (outbox / "good.qpt").write_bytes(prompt_of(8))
    expect(fetch(outbox), 0, "sequence 8")


def test_what_was_rolled_back_is_not_fetched_again(fetch, run, device, outbox) -> None:
    for sequence in (7, 8):
        (outbox / f"{sequence}.qpt").write_bytes(prompt_of(sequence))
        expect(fetch(outbox), 0, f"sequence {sequence}")
    assert run("rollback", device).code == 0
    expect(fetch(outbox), 0, "nothing new", "was installed here before")
    assert (device / "prompt.qpt").read_bytes() == prompt_of(7)
    (outbox / "9.qpt").write_bytes(prompt_of(9))
    expect(fetch(outbox), 0, "sequence 9")


def test_refusals_have_the_codes_of_install_and_change_nothing(fetch, device, outbox) -> None:
    file = outbox / "belt.qpt"
    file.write_bytes(prompt_of(5))
    expect(fetch(file), 0)
    for bad, code, words in (
        (prompt_of(6)[:-1] + bytes([prompt_of(6)[-1] ^ 1]), 3, "does not verify"),
        (content("plain"), 3, "not signed"),
        (prompt_of(6, number=3), 3, "not trusted"),
        (prompt_of(4), 4, "older than what was used here"),
        (prompt_of(6, task="door"), 5, "for the task 'door'"),
        (b"<html>", 3, "not signed"),
    ):
        file.write_bytes(bad)
        for _ in range(2):  # the same at every try
            expect(fetch(file, "--back-off"), code, words)
        assert (device / "prompt.qpt").read_bytes() == prompt_of(5)


def test_a_key_that_is_trusted_later_is_enough(fetch, device, outbox, tmp_path) -> None:
    (outbox / "belt.qpt").write_bytes(prompt_of(5, number=3))
    expect(fetch(outbox, "--back-off"), 3, "not trusted")
    write_public(tmp_path / "etc" / "keys" / "second.pub", 3)
    expect(fetch(outbox, "--back-off"), 0, "sequence 5")


def test_a_worse_prompt_is_not_tried_again_until_there_is_another(
    fetch, device, outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []

    def worse(*_: object) -> object:
        tried.append(1)
        raise WorseError("the prompt is worse than what runs")

    (outbox / "5.qpt").write_bytes(prompt_of(5))
    expect(fetch(outbox), 0)
    monkeypatch.setattr(installing, "_try", worse)
    (outbox / "6.qpt").write_bytes(prompt_of(6))
    expect(fetch(outbox, "--canary", outbox, "--back-off"), 6, "worse than what runs")
    expect(fetch(outbox, "--canary", outbox, "--back-off"), 6, "has had no other since")
    assert len(tried) == 1
    expect(fetch(outbox, "--canary", outbox), 6, "worse than what runs")  # by hand: tried
    assert len(tried) == 2
    (outbox / "7.qpt").write_bytes(prompt_of(7))
    expect(fetch(outbox, "--canary", outbox, "--back-off"), 6)
    assert len(tried) == 3


def test_a_source_that_does_not_answer_is_left_alone_for_longer_and_longer(
    fetch, device, outbox, clock
) -> None:
    missing, waits = outbox / "missing.qpt", []
    for _ in range(10):
        expect(fetch(missing, "--back-off"), 1, "cannot be read")
        memory = json.loads((device / MEMORY).read_text())
        waits.append(memory["again"] - int(time.time()))
        clock(waits[-1] - 1)
        expect(fetch(missing, "--back-off"), 1, "is left alone until", f"{memory['failures']} time")
        clock(1)
    assert waits[:4] == [LEAST_WAIT, 2 * LEAST_WAIT, 4 * LEAST_WAIT, 8 * LEAST_WAIT]
    assert waits[-1] == MOST_WAIT
    expect(fetch(missing), 1, "cannot be read")  # by hand: tried at once
    missing.write_bytes(prompt_of(5))
    expect(fetch(missing), 0, "sequence 5")
    memory = json.loads((device / MEMORY).read_text())
    assert (memory["failures"], memory["again"]) == (0, 0)


def test_a_clock_that_was_set_back_does_not_stop_it(fetch, outbox, clock) -> None:
    expect(fetch(outbox / "missing.qpt", "--back-off"), 1, "cannot be read")
    clock(-30 * 86_400)
    expect(fetch(outbox / "missing.qpt", "--back-off"), 1, "cannot be read")


@pytest.mark.parametrize("damage", [b"", b"[", b"[]", b'{"source": 1}', b'{"source": "x", "again": "soon"}'])
def test_a_damaged_memory_is_none(damage: bytes, fetch, device, outbox) -> None:
    device.mkdir()
    (device / MEMORY).write_bytes(damage)
    (outbox / "belt.qpt").write_bytes(prompt_of(5))
    expect(fetch(outbox, "--back-off"), 0, "sequence 5")


def test_without_a_policy_the_latest_file_is_installed_with_a_warning(
    fetch, outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("QPE_POLICY_FILE")
    for age, name in enumerate("abc"):
        (outbox / f"{name}.qpt").write_bytes(content(name))
        os.utime(outbox / f"{name}.qpt", (ISSUED - age, ISSUED - age))
    expect(fetch(outbox), 0, "warning: it is not signed")
    expect(fetch(outbox), 0, "nothing new")


def test_bad_sources_are_one_clear_line(fetch, outbox) -> None:
    expect(fetch(outbox), 1, "holds no prompt (*.qpt)")
    (outbox / "large.qpt").write_bytes(bytes(1_000_001))
    expect(fetch(outbox / "large.qpt"), 1, "more than 1000 kB")
    expect(fetch(outbox), 1, "holds no prompt (*.qpt)")
    for words in (
        ("ftp://127.0.0.1/belt.qpt",),
        ("",),
        ("http://user:secret@127.0.0.1/belt.qpt",),
        ("http://[::1/belt.qpt",),
        ("http://192.0.2.1/belt.qpt", "--login", outbox / "login"),
        ("http://127.0.0.1/belt.qpt", "--ca", outbox / "ca.pem"),
        ("mqtt://127.0.0.1",),
        ("mqtt://127.0.0.1/a/+",),
        ("mqtt://127.0.0.1/a", "--token-file", outbox / "token"),
        (outbox, "--login", outbox / "login"),
    ):
        (outbox / "login").write_text("user\nsecret\n")
        (outbox / "token").write_text("secret\n")
        refused = fetch(*words)
        assert refused.code == 2, refused.err
        assert "secret" not in refused.err
