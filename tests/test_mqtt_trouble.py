"""Brokers that are away, silent, locked or encrypted: nothing is lost, and one line says what is wrong."""

import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest
from mosquitto import FRAME, Listener, Make, Mosquitto, answer, needs_mosquitto, notes, sink, wait_until

from qprompt_edge.watching.mqtt_broker import encryption, read_login

__all__ = ["notes", "sink"]
pytestmark = needs_mosquitto


def test_a_broker_that_comes_later_and_restarts_has_everything_again(
    tmp_path: Path, sink: Make, notes: list[str]
) -> None:
    broker = Mosquitto(tmp_path)
    found = sink(broker.port)
    wait_until(lambda: notes, "a note that there is no broker")
    for number in range(1000):
        found.answer(answer(f"state {number}"), FRAME)
    try:
        for state in ("stone", "coal", "stone"):
            broker.start()
            listener = Listener(broker.port)
            wait_until(lambda: listener.newest.get("line/belt/status") == b"online", "online")  # noqa: B023
            found.answer(answer(state), FRAME)
            listener.wait("line/belt/belt/frame/state", state)
            assert any("/device/" in topic for topic in listener.newest)
            listener.close()
            broker.stop()
            found.answer(answer("while the broker was gone"), FRAME)
        broker.start()
        listener = Listener(broker.port)
        listener.wait("line/belt/belt/frame/state", "while the broker was gone")
        listener.close()
    finally:
        broker.stop()
    assert (
        f"MQTT broker 127.0.0.1:{broker.port} cannot be reached: Connection refused. Trying again; answers go on"
        in notes
    )
    assert f"MQTT broker 127.0.0.1:{broker.port}: connected" in notes


def test_nothing_hangs_on_a_broker_that_never_answers(sink: Make) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        found = sink(silent.getsockname()[1])
        for number in range(1000):
            found.answer(answer(f"state {number}"), FRAME)
        found.close()


def test_a_wrong_password_is_one_clear_line(tmp_path: Path, sink: Make, notes: list[str]) -> None:
    passwords = tmp_path / "passwords"
    tool = shutil.which("mosquitto_passwd")
    if tool is None:
        pytest.skip("needs mosquitto_passwd, from Debian's package")
    subprocess.run([tool, "-b", "-c", str(passwords), "belt", "right"], check=True, capture_output=True)
    broker = Mosquitto(tmp_path, "allow_anonymous false", f"password_file {passwords}")
    broker.start()
    try:
        login = tmp_path / "login"
        login.write_text("belt\nwrong\n", encoding="utf-8")
        sink(broker.port, login=read_login(login))
        wait_until(lambda: notes, "a note")
        time.sleep(1.5)  # another attempt says nothing new
        assert len(notes) == 1
        assert notes[0].startswith(f"MQTT broker 127.0.0.1:{broker.port} refuses the connection: ")
        assert "--mqtt-login" in notes[0]
        assert "wrong" not in notes[0]
        login.write_text("belt\nright\n", encoding="utf-8")
        sink(broker.port, login=read_login(login))
        listener = Listener(broker.port, lambda client: client.username_pw_set("belt", "right"))
        listener.wait("line/belt/status", "online")
        listener.close()
    finally:
        broker.stop()


@pytest.fixture
def certificates(tmp_path: Path) -> Path:
    """A folder with an authority of our own, and a server's certificate that it signed."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs openssl")

    def run(*arguments: str) -> None:
        subprocess.run([openssl, *arguments], cwd=tmp_path, check=True, capture_output=True)

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    for name in ("ca", "other"):
        run(
            "req", "-x509", *key, "-keyout", f"{name}.key", "-out", f"{name}.crt", "-days", "2", "-subj", f"/CN=test {name}",
            "-addext", "keyUsage=critical,keyCertSign,cRLSign",
        )  # fmt: skip
    run("req", *key, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=127.0.0.1")
    (tmp_path / "names").write_text(
        "subjectAltName=IP:127.0.0.1\nauthorityKeyIdentifier=keyid\n", encoding="utf-8"
    )
    run(
        "x509", "-req", "-in", "server.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-out", "server.crt",
        "-days", "2", "-extfile", "names",
    )  # fmt: skip
    return tmp_path


def test_tls_with_an_authority_of_ones_own(certificates: Path, sink: Make, notes: list[str]) -> None:
    broker = Mosquitto(
        certificates,
        "allow_anonymous true",
        f"certfile {certificates / 'server.crt'}",
        f"keyfile {certificates / 'server.key'}",
    )
    broker.start()
    try:
        sink(broker.port, tls=True, context=encryption(certificates / "other.crt"))
        wait_until(lambda: notes, "a note")
        assert "has a certificate that is not trusted" in notes[0]
        assert "--mqtt-ca" in notes[0]
        sink(broker.port, tls=True, context=encryption(certificates / "ca.crt"))
        listener = Listener(broker.port, lambda client: client.tls_set(str(certificates / "ca.crt")))
        listener.wait("line/belt/status", "online")
        listener.close()
    finally:
        broker.stop()
