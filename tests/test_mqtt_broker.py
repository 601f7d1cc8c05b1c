"""Addresses of brokers, login files and certificates: what is taken, and what each refusal says."""

import socket
from pathlib import Path

import pytest

from qprompt_edge.watching.mqtt_broker import Broker, BrokerError, broker, encryption, read_login


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("mqtt://broker.lan/belt", Broker("broker.lan", 1883, False, "belt")),
        ("mqtts://broker.lan/belt", Broker("broker.lan", 8883, True, "belt")),
        ("mqtt://10.0.0.2:2883/line/belt/", Broker("10.0.0.2", 2883, False, "line/belt")),
        ("MQTT://[::1]:1883/f%C3%B6rder", Broker("::1", 1883, False, "förder")),
    ],
)
def test_addresses(address: str, expected: Broker) -> None:
    assert broker(address) == expected


def test_without_a_prefix_it_is_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "pi 4")
    assert broker("mqtt://broker.lan").prefix == "qprompt-edge/pi_4"


@pytest.mark.parametrize(
    "address",
    ["broker.lan", "http://broker.lan/x", "mqtt://", "mqtt:///belt", "mqtt://host:0/x", "mqtt://host/x?a=b", "mqtt://host/x#y"],
)  # fmt: skip
def test_no_address(address: str) -> None:
    with pytest.raises(
        ValueError, match=r"is no address of an MQTT broker; give it as mqtt://broker.lan:1883/belt"
    ):
        broker(address)


@pytest.mark.parametrize("address", ["mqtt://host:x/y", "mqtt://host:99999/y", "mqtt://[::1/y"])
def test_no_port_and_no_host(address: str) -> None:
    with pytest.raises(ValueError, match=r"is no address of an MQTT broker \("):
        broker(address)


@pytest.mark.parametrize(
    "address", ["mqtt://me:secret@host/x", "mqtt://secret@host/x", "mqtt://me:secret/x@host:x/x"]
)
def test_passwords_in_addresses_are_refused_and_not_repeated(address: str) -> None:
    with pytest.raises(ValueError, match="must not hold a user or a password") as error:
        broker(address)
    assert "secret" not in str(error.value)


def test_a_password_in_an_address_says_where_to_put_it() -> None:
    with pytest.raises(ValueError, match="--mqtt-login FILE"):
        broker("mqtt://me:secret@host/x")


@pytest.mark.parametrize("prefix", ["a//b", "a/+/b", "a/%23", "$SYS/x", "x" * 201, "a%0Ab", "a%00b"])
def test_prefixes_that_cannot_begin_a_topic(prefix: str) -> None:
    with pytest.raises(ValueError, match="cannot begin an MQTT topic"):
        broker(f"mqtt://host/{prefix}")


def test_hosts_that_are_none() -> None:
    with pytest.raises(ValueError, match="cannot be the name of a machine"):
        broker(f"mqtt://{'x' * 70}.lan/belt")


def test_a_login_is_two_lines(tmp_path: Path) -> None:
    login = tmp_path / "login"
    login.write_text("belt\np:ss wörd \n", encoding="utf-8")
    assert read_login(login) == ("belt", "p:ss wörd ")
    login.write_bytes(b"belt\r\nsecret")
    assert read_login(login) == ("belt", "secret")


@pytest.mark.parametrize(
    ("text", "lines"), [("", 0), ("belt:secret\n", 1), ("belt\nsecret\nmore\n", 3), ("\nsecret\n", 2)]
)
def test_other_logins_are_refused_and_not_repeated(tmp_path: Path, text: str, lines: int) -> None:
    login = tmp_path / "login"
    login.write_text(text, encoding="utf-8")
    with pytest.raises(
        BrokerError, match=f"has {lines} lines; expected two, the user and below it the password"
    ) as error:
        read_login(login)
    assert "secret" not in str(error.value)


def test_logins_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(BrokerError, match=r"cannot read the login .*: No such file"):
        read_login(tmp_path / "none")
    (tmp_path / "login").write_bytes(b"\xff\xfe")
    with pytest.raises(BrokerError, match="is not UTF-8 text"):
        read_login(tmp_path / "login")


def test_certificates_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(BrokerError, match=r"cannot read the certificate .*: No such file"):
        encryption(tmp_path / "none")
    (tmp_path / "ca.crt").write_text("no certificate", encoding="utf-8")
    with pytest.raises(BrokerError, match="holds no certificate in PEM"):
        encryption(tmp_path / "ca.crt")
    assert encryption(None).verify_mode
