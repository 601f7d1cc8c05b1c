"""Who may come in: tokens, links, cookies, and TLS."""

import hashlib
import http.client
import shutil
import ssl

import pytest
from patience import PATIENCE
from serving import Client, serve_process, served

from qprompt_edge.server.access import Access
from qprompt_edge.server.refusal import Refusal


def cookie_of(headers: dict[str, str]) -> tuple[str, list[str]]:
    """A cookie's name and value, and its attributes."""
    pair, *attributes = headers["set-cookie"].split("; ")
    return pair, attributes


def test_without_a_token_nothing_but_the_login_is_answered(tmp_path):
    with served(tmp_path / "data", "--token") as server:
        assert len(server.token) >= 20
        assert server.get("/healthz").json == {}
        for path in ("/api/status", "/api/tasks", "/openapi.json", "/metrics", "/api/jobs/x", "/nothing"):
            answer = server.get(path)
            assert answer.status == 401, path
            assert "token" in answer.error
        assert server.post("/api/tasks", {"name": "belt"}).status == 401
        for headers in (
            {"Authorization": "Bearer wrong"},
            {"Authorization": "Basic x"},
            {"Cookie": "qprompt-1=x; \0"},
        ):
            assert server.get("/api/tasks", headers=headers).status in (400, 401)
        assert server.get("/api/tasks", headers={"Authorization": f"Bearer {server.token}"}).status == 200


def test_the_link_becomes_a_cookie_that_scripts_cannot_read(tmp_path):
    with served(tmp_path / "data", "--token") as server:
        answer = server.get(f"/?token={server.token}")
        assert (answer.status, answer.headers["location"]) == (303, "/")
        pair, attributes = cookie_of(answer.headers)
        assert server.token not in pair
        assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(attributes)
        assert server.get("/api/tasks", headers={"Cookie": pair}).status == 200
        assert server.get("/api/tasks", headers={"Cookie": pair[:-1] + "x"}).status == 401
        typed = server.post("/api/login", {"token": server.token})
        assert server.get("/api/tasks", headers={"Cookie": cookie_of(typed.headers)[0]}).status == 200
        for file in (tmp_path / "data" / ".qprompt").rglob("*.json"):  # only hashes are kept
            assert server.token not in file.read_text()
            assert pair.partition("=")[2] not in file.read_text()


def test_the_token_is_shown_once_and_sessions_outlast_the_server(tmp_path, capsys):
    with served(tmp_path / "data", "--token") as server:
        token = server.token
        assert token in capsys.readouterr().err
        session = cookie_of(server.get(f"/?token={token}").headers)[0].partition("=")[2]
    with served(tmp_path / "data", "--token") as server:
        assert server.token is None
        assert token not in "".join(capsys.readouterr())
        assert server.get("/api/tasks", headers={"Cookie": f"qprompt-{server.port}={session}"}).status == 200
        assert server.get("/api/tasks", headers={"Authorization": f"Bearer {token}"}).status == 200
    with served(tmp_path / "data", "--new-token") as server:
        assert server.token not in (None, token)
        assert server.get("/api/tasks", headers={"Cookie": f"qprompt-{server.port}={session}"}).status == 401
        assert server.get("/api/tasks", headers={"Authorization": f"Bearer {token}"}).status == 401


def test_a_token_from_a_file_is_printed_nowhere(tmp_path, capsys):
    file, token = tmp_path / "token", "0123456789abcdef"
    file.write_text(token + "\n")
    with served(tmp_path / "data", "--token-file", str(file)) as server:
        assert server.token is None
        assert token not in "".join(capsys.readouterr())
        assert server.get("/api/tasks").status == 401
        assert server.get("/api/tasks", headers={"Authorization": f"Bearer {token}"}).status == 200


def test_wrong_tokens_are_limited(tmp_path, monkeypatch):
    monkeypatch.setattr("qprompt_edge.server.access.LOGIN_SECONDS", PATIENCE)
    with served(tmp_path / "data", "--token") as server:
        statuses = [server.post("/api/login", {"token": "wrong"}).status for _ in range(12)]
        assert statuses == [401] * 10 + [429] * 2
        limited = server.post("/api/login", {"token": server.token})
        assert limited.status == 429
        assert int(limited.headers["retry-after"]) > 0
        assert server.get("/api/tasks", headers={"Authorization": f"Bearer {server.token}"}).status == 200


def test_another_address_demands_a_token(tmp_path):
    with serve_process(tmp_path / "data", "--host", "0.0.0.0", "--allow-host", "Kitchen.example") as server:
        assert server.token
        assert server.token in server.log  # for people, as a link
        local = Client(f"http://127.0.0.1:{server.port}/", None, server.data)
        assert local.get("/api/tasks").status == 401
        bearer = {"Authorization": f"Bearer {server.token}"}
        assert local.get("/api/tasks", headers={**bearer, "Host": "kitchen.example:8423"}).status == 200
        assert local.get("/api/tasks", headers={**bearer, "Host": "kitchen.example.evil"}).status == 403


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate, and is not here")
def test_tls_keeps_its_certificate(tmp_path, capsys):
    with served(tmp_path / "data", "--tls", "--token") as server:
        assert server.url.startswith("https://")
        answer = server.get(f"/?token={server.token}")
        assert "Secure" in cookie_of(answer.headers)[1]
        assert answer.headers["cross-origin-opener-policy"] == "same-origin"
        first = ssl.get_server_certificate((server.host, server.port))
        digest = capsys.readouterr().err.partition("SHA-256: ")[2].splitlines()[0].replace(":", "").lower()
        assert digest == hashlib.sha256(ssl.PEM_cert_to_DER_cert(first)).hexdigest()
        plain = Client(f"http://127.0.0.1:{server.port}/", None, server.data)
        with pytest.raises((http.client.HTTPException, OSError)):
            plain.get("/healthz")
        key = tmp_path / "data" / ".qprompt" / "tls" / "key.pem"
        assert key.stat().st_mode & 0o077 == 0
    with served(tmp_path / "data", "--tls", "--token") as server:
        assert ssl.get_server_certificate((server.host, server.port)) == first


@pytest.mark.parametrize(
    ("content", "words"),
    [("short", "at least 16"), ("with a space in it", "no spaces"), (None, "cannot read")],
)
def test_a_token_file_that_is_no_good(tmp_path, run, content, words):
    file = tmp_path / "token"
    if content is not None:
        file.write_text(content)
    result = run("serve", "--port", "0", "--data", tmp_path / "data", "--token-file", file)
    assert result.code == 1
    assert words in result.err


def test_a_port_that_is_taken(tmp_path, run):
    with served(tmp_path / "data") as server:
        result = run("serve", "--port", server.port, "--data", tmp_path / "other")
        assert result.code == 1
        assert "choose another --port" in result.err


def test_what_is_kept_is_the_owners_alone(tmp_path):
    Access(tmp_path / "access.json", needed=True).make_token()
    assert (tmp_path / "access.json").stat().st_mode & 0o777 == 0o600


def test_what_is_kept_may_be_damaged(tmp_path):
    for content in (b"{", b"[]", b'{"token": 1, "sessions": 2}', b'{"token": "x", "sessions": {"a": "b"}}'):
        (tmp_path / "access.json").write_bytes(content)
        access = Access(tmp_path / "access.json", needed=True)
        with pytest.raises(Refusal):
            access.login("anything", "127.0.0.1")
        assert access.is_session(access.login(access.make_token(), "127.0.0.1"))
