"""`watch --mqtt`: what the options mean, and what a broker hears of a short run."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import Result, assert_refused
from mosquitto import PATIENCE, Listener, Mosquitto, broker, listener, needs_mosquitto, wait_until

__all__ = ["broker", "listener"]
Run = Callable[..., Result]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--mqtt", "broker.lan"], "no address of an MQTT broker"),
        (["--mqtt", "mqtt://me:secret@broker.lan/x"], "must not hold a user or a password"),
        (["--mqtt-login", "login"], "need --mqtt URL"),
        (["--mqtt-image"], "need --mqtt URL"),
        (["--mqtt", "mqtt://broker.lan/x", "--mqtt-ca", "ca.crt"], "mqtts://"),
    ],
)
def test_options_that_do_not_fit_together(run: Run, prompt: Path, options: list[str], words: str) -> None:
    result = run("watch", ".", "--prompt", prompt, *options)
    assert result.code == 2
    assert words in " ".join(result.err.split())
    assert "secret" not in result.err


def test_files_that_are_missing(run: Run, prompt: Path, tmp_path: Path) -> None:
    arguments = ("watch", tmp_path, "--prompt", prompt, "--json")
    login = run(*arguments, "--mqtt", "mqtt://127.0.0.1/x", "--mqtt-login", tmp_path / "none")
    assert_refused(login, "cannot read the login", "No such file")
    authority = run(*arguments, "--mqtt", "mqtts://127.0.0.1/x", "--mqtt-ca", tmp_path / "none")
    assert_refused(authority, "cannot read the certificate", "No such file")


@needs_mosquitto
def test_a_short_run_is_heard(
    run: Run,
    broker: Mosquitto,
    listener: Listener,
    photos: Path,
    prompt: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("qprompt_edge.watching.mqtt._FAREWELL", PATIENCE)
    folder = next(path for path in sorted(photos.iterdir()) if path.is_dir())
    result = run(
        "watch",
        folder,
        "--once",
        "--prompt",
        prompt,
        "--json",
        "--mqtt",
        f"mqtt://127.0.0.1:{broker.port}/line/belt",
    )
    assert result.code == 0, result.err
    last = [row["state"] for row in result.rows if row["state"] is not None][-1]
    listener.wait("line/belt/status", "offline")
    assert listener.newest["line/belt/made/frame/state"] == last.encode()
    health = json.loads(listener.newest["line/belt/made/health"])
    assert (health["answers"], health["drift"]) == (6, None)  # the file has no scores of known photos
    assert ("line/belt/status", b"online") in [message[:2] for message in listener.heard]
    wait_until(lambda: any("/device/" in topic for topic in listener.newest), "the discovery")


def test_a_broker_that_is_away_stops_nothing(run: Run, photos: Path, prompt: Path) -> None:
    folder = next(path for path in sorted(photos.iterdir()) if path.is_dir())
    result = run(
        "watch", folder, "--once", "--prompt", prompt, "--json", "--mqtt", "mqtt://127.0.0.1:1/line/belt"
    )
    assert result.code == 0, result.err
    assert len(result.rows) == 6
    assert "MQTT broker 127.0.0.1:1 cannot be reached: Connection refused" in result.err
