"""fetch from a web server and from an MQTT broker: real ones, on the loopback address."""

import os
import shutil
import subprocess
from http.server import BaseHTTPRequestHandler

import pytest
from fetching import Web, expect, give, prompt_of
from fetching import device as device  # fixtures
from fetching import fetch as fetch
from fetching import web as web
from mosquitto import Listener, Mosquitto, free_port, needs_mosquitto, wait_until
from mosquitto import broker as broker

from qprompt_edge.fetching import mqtt
from qprompt_edge.fetching import web as web_module
from qprompt_edge.server.certificate import certificate

NGINX = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")


def test_a_server_that_asks_for_time_gets_it(fetch, web, device) -> None:
    web.answer = lambda it: give(it, b"", 503, Retry_After="7200")
    expect(fetch(web.url(), "--back-off"), 1, "answered 503")
    expect(fetch(web.url(), "--back-off"), 1, "is left alone until")
    assert len(web.asked) == 1


def test_redirections_are_followed_without_the_login_to_others(fetch, web, tmp_path) -> None:
    (tmp_path / "token").write_text("t0ken\n")
    other = Web()
    other.answer = lambda it: give(it, prompt_of(7))

    def answer(request: BaseHTTPRequestHandler) -> None:
        places = {"/a": "/b", "/b": other.url()}
        give(request, b"", 302, Location=places[request.path])

    web.answer = answer
    expect(fetch(web.url("/a"), "--token-file", tmp_path / "token"), 0, "sequence 7")
    assert [it.get("authorization") for it in web.asked] == ["Bearer t0ken"] * 2
    assert "authorization" not in other.asked[0]
    other.close()


@pytest.mark.parametrize("place", ["file:///etc/passwd", "ftp://127.0.0.1/x", "/again"])
def test_redirections_to_elsewhere_or_without_end_are_refused(place: str, fetch, web) -> None:
    web.answer = lambda it: give(it, b"", 302, Location=place)
    expect(fetch(web.url()), 1)
    assert len(web.asked) < 10


def test_what_is_too_large_cut_or_slow_is_refused(fetch, web, monkeypatch: pytest.MonkeyPatch) -> None:
    web.answer = lambda it: give(it, b"", length=2_000_000)
    expect(fetch(web.url()), 1, "more than 1000 kB")
    web.answer = lambda it: (it.send_response(200), it.end_headers(), it.wfile.write(bytes(1_000_001)))
    expect(fetch(web.url()), 1, "more than 1000 kB")
    web.answer = lambda it: give(it, prompt_of(7)[:100], length=200)
    expect(fetch(web.url()), 1, "too soon")
    web.answer = lambda it: give(it, b"", 404)
    expect(fetch(web.url("/belt.qpt?key=secret")), 1, "/belt.qpt answered 404")
    monkeypatch.setattr(web_module, "_STEP_SECONDS", 0.05)
    web.answer = lambda it: it.rfile.read(1)  # until the other side has gone
    expect(fetch(web.url()), 1, "timed out")
    expect(fetch(f"http://127.0.0.1:{free_port()}/belt.qpt"), 1, "Connection refused")


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
def test_a_server_must_have_a_certificate_and_does_not_lead_out_of_tls(fetch, web, tmp_path) -> None:
    certified = certificate(tmp_path / "tls", ["127.0.0.1"])
    secure, ca = Web(certified), ("--ca", certified[0])
    (tmp_path / "login").write_text("belt\nsecret\n")
    secure.answer = lambda it: give(it, prompt_of(7))
    expect(fetch(secure.url()), 1, "certificate", "check --ca")
    expect(fetch(secure.url(), *ca, "--login", tmp_path / "login"), 0, "sequence 7")
    assert secure.asked[-1]["authorization"] == "Basic YmVsdDpzZWNyZXQ="
    web.answer = lambda it: give(it, prompt_of(8))
    secure.answer = lambda it: give(it, b"", 302, Location=web.url())
    expect(fetch(secure.url(), *ca), 1, "not encrypted; it was not followed")
    assert web.asked == []
    web.answer = lambda it: give(it, b"", 302, Location=secure.url())
    secure.answer = lambda it: give(it, prompt_of(8))
    expect(fetch(web.url()), 1, "certificate")
    secure.close()


@pytest.mark.skipif(NGINX is None or os.geteuid() != 0, reason="needs nginx, and root to start it")
@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
def test_nginx_gives_a_prompt_over_tls_to_who_may_have_it(fetch, tmp_path) -> None:
    cert, key = certificate(tmp_path / "tls", ["127.0.0.1"])
    root, port = tmp_path / "www", free_port()
    root.mkdir()
    tmp_path.chmod(0o755)
    (root / "belt.qpt").write_bytes(prompt_of(7))
    (root / "users").write_text("belt:{PLAIN}secret\n")
    (tmp_path / "login").write_text("belt\nsecret\n")
    (tmp_path / "wrong").write_text("belt\nguess\n")
    (tmp_path / "nginx.conf").write_text(
        f"daemon off; user root; pid {tmp_path}/pid; error_log {tmp_path}/error.log; events {{}}\n"
        f"http {{ access_log {tmp_path}/access.log; server {{ listen 127.0.0.1:{port} ssl; root {root};\n"
        f"ssl_certificate {cert}; ssl_certificate_key {key}; auth_basic x; auth_basic_user_file {root}/users; }} }}\n"
    )
    server = subprocess.Popen([str(NGINX), "-c", tmp_path / "nginx.conf", "-e", tmp_path / "error.log"])
    try:
        address = f"https://127.0.0.1:{port}/belt.qpt"
        wait_until((tmp_path / "pid").exists, "nginx runs")
        login = ("--login", tmp_path / "login")
        expect(fetch(address, *login), 1, "certificate", "check --ca")
        expect(fetch(address, "--ca", cert), 1, "answered 401", "check --login")
        expect(fetch(address, "--ca", cert, "--login", tmp_path / "wrong"), 1, "answered 401")
        expect(fetch(address, "--ca", cert, *login), 0, "sequence 7")
        expect(fetch(address, "--ca", cert, *login), 0, "nothing new")
        (root / "belt.qpt").write_bytes(prompt_of(8))  # as large, in the same second: the same ETag
        expect(fetch(address, "--ca", cert, *login), 0, "sequence 8")
    finally:
        server.terminate()
        server.wait()
    # at its end nginx has written all lines; the last one comes after the answer
    said = [line.split('"')[2].split()[0] for line in (tmp_path / "access.log").read_text().splitlines()]
    assert said == ["401", "401", "200", "200", "200"]


@needs_mosquitto
def test_a_retained_message_is_installed(fetch, broker, monkeypatch: pytest.MonkeyPatch) -> None:
    address = f"mqtt://127.0.0.1:{broker.port}/prompts"
    with monkeypatch.context() as patch:
        patch.setattr(mqtt, "_STEP_SECONDS", 0.3)
        expect(fetch(f"{address}/belt"), 1, "no message is retained there")
    speaker = Listener(broker.port)
    for sequence in (7, 8):
        speaker.client.publish("prompts/belt", prompt_of(sequence), retain=True)
        speaker.wait("prompts/belt", prompt_of(sequence))
        expect(fetch(f"{address}/belt"), 0, f"sequence {sequence}")
    expect(fetch(f"{address}/belt"), 0, "nothing new")
    speaker.client.publish("prompts/large", bytes(1_000_001), retain=True)
    wait_until(lambda: "prompts/large" in speaker.newest, "the large message")
    expect(fetch(f"{address}/large"), 1, "more than 1000 kB")
    speaker.close()


@needs_mosquitto
def test_a_broker_that_is_gone_or_refuses_is_one_clear_line(fetch, tmp_path) -> None:
    expect(fetch(f"mqtt://127.0.0.1:{free_port()}/prompts/belt"), 1, "Connection refused")
    closed = Mosquitto(tmp_path, "allow_anonymous false")
    closed.start()
    expect(fetch(f"mqtt://127.0.0.1:{closed.port}/prompts/belt"), 1, "refuses the connection", "--login")
    closed.stop()
