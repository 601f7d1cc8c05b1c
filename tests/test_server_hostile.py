"""Hostile requests: refused in one line, nothing outside the folder is touched, and others are served."""

import io
import shutil
import socket
import struct
import threading
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from patience import wait_until
from PIL import Image
from scenes import write_photo, write_photos
from serving import Client, served
from test_server_rest import add, classes, picture

SECRET = b"outside of the task"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    folder = tmp_path_factory.mktemp("hostile")
    (folder / "secret.jpg").write_bytes(SECRET)
    with served(folder / "data") as server:
        assert server.post("/api/tasks", {"name": "belt"}).status == 201
        write_photo(server.data / "belt" / "cup" / "1.png", (10, 200, 10), 1)
        yield server


@pytest.fixture(autouse=True)
def whole(server: Client, capsys: pytest.CaptureFixture[str]) -> Iterator[None]:
    """After every test: no defect was met, and nothing is left of what was refused."""
    yield
    assert "Traceback" not in capsys.readouterr().err
    assert list((server.data / ".qprompt" / "incoming").iterdir()) == []
    assert (server.data.parent / "secret.jpg").read_bytes() == SECRET
    assert sorted(path.name for path in server.data.parent.iterdir()) == ["data", "secret.jpg"]


TRICKS = (
    "../../secret.jpg",
    "cup/../../../secret.jpg",
    "cup/../../../../../../../../etc/passwd",
    "/etc/passwd",
    "cup//etc/passwd",
    "cup/..",
    "cup/.",
    ".qprompt/undo.json",
    "cup/\0.png",
    "cup/\n",
    "cup\\..\\..\\secret.jpg",
    "cup/" + "x" * 300,
    "x" * 5000,
    "a/" * 400 + "b",
    "cup",
    "",
)


@pytest.mark.parametrize("photo", TRICKS)
def test_no_photo_is_outside_of_its_task(server, photo):
    for encode in (lambda it: it.encode().hex(), lambda it: "".join(f"%{byte:02x}" for byte in it.encode())):
        place = f"/api/tasks/belt/photos/{encode(photo)}"
        for what in ("thumb", "file"):
            assert server.get(f"{place}/{what}").status == 404
    for act in ({"ids": [photo], "class": "bowl"}, {"ids": [photo]}):
        answer = server.post(f"/api/tasks/belt/photos/{'move' if 'class' in act else 'delete'}", act)
        assert answer.status in (404, 422)
        assert answer.error
    assert classes(server, "belt") == {"cup": 1}


@pytest.mark.parametrize(
    "name",
    [
        "..",
        ".",
        "",
        "a/b",
        "a\\b",
        "/tmp/x",
        "belt.qpt",
        ".hidden",
        " a",
        "a ",
        "x" * 61,
        "a\0b",
        "a\nb",
        "\ud800",
    ],
)
def test_no_task_is_outside_of_the_folder(server, name):
    answer = server.post("/api/tasks", {"name": name})
    assert answer.status == 422
    assert answer.error
    assert server.ask("PATCH", "/api/tasks/belt", {"name": name}).status == 422


@pytest.mark.parametrize(
    "label",
    [
        "..",
        ".",
        "",
        "a/b",
        ".x",
        "-",
        "a\0",
        "a\n",
        " a",
        "__MACOSX",
        "@eaDir",
        "x" * 201,
        "é" * 150,
        "\udcff",
    ],
)
def test_no_class_is_outside_of_its_task(server, label):
    assert server.post("/api/tasks/belt/classes", {"label": label}).status == 422
    assert server.ask("PATCH", "/api/tasks/belt/classes/cup", {"label": label}).status == 422
    photo = server.get("/api/tasks/belt/photos").json["photos"][0]["id"]
    assert server.post("/api/tasks/belt/photos/move", {"ids": [photo], "class": label}).status == 422
    assert classes(server, "belt") == {"cup": 1}


def test_links_lead_nowhere(server):
    outside = server.data.parent
    links = (("link.jpg", outside / "secret.jpg"), ("all", outside), ("cup", outside))
    (server.data / "linked").symlink_to(outside)
    folder = server.data / "belt"
    for name, target in links[:2]:
        (folder / "cup" / name).symlink_to(target)
    (folder / "elsewhere").symlink_to(outside)
    try:
        assert "linked" not in [it["name"] for it in server.get("/api/tasks").json["tasks"]]
        assert server.get("/api/tasks/linked").status == 404
        assert classes(server, "belt") == {"cup": 1}
        for photo in ("cup/link.jpg", "cup/all/secret.jpg", "elsewhere/secret.jpg"):
            assert server.get(f"/api/tasks/belt/photos/{photo}/file").status == 404
            assert server.post("/api/tasks/belt/photos/delete", {"ids": [photo]}).status == 404
        assert server.post("/api/tasks/belt/classes/elsewhere/photos", picture(1)).status == 409
        assert server.post("/api/tasks/belt/classes", {"label": "elsewhere"}).status == 409
    finally:
        for path in (
            server.data / "linked",
            folder / "elsewhere",
            *(folder / "cup" / name for name, _ in links[:2]),
        ):
            path.unlink(missing_ok=True)


BROKEN = {
    "not an image": b"hello",
    "a page": b"<html><script>alert(1)</script></html>",
    "a picture that draws itself": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "the start of a JPEG": b"\xff\xd8\xff\xe0\x00\x10JFIF",
    "a cut JPEG": picture(9, "JPEG", (600, 400))[:-3000],
    "a cut PNG": picture(9, "PNG", (600, 400))[:-3000],
    "an empty zip": b"PK\x05\x06" + bytes(18),
    "half a zip": b"PK\x03\x04" + bytes(40),
}


@pytest.mark.parametrize("what", BROKEN)
def test_broken_uploads_are_refused(server, what):
    answer = server.post("/api/tasks/belt/classes/cup/photos", BROKEN[what])
    assert answer.status in (415, 422)
    assert answer.error
    assert server.post("/api/tasks/belt/predict", BROKEN[what]).status in (409, 415, 422)
    assert classes(server, "belt") == {"cup": 1}


def test_a_photo_bomb_is_refused(server):
    ihdr = struct.pack(">II5B", 60_000, 60_000, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in ((b"IHDR", ihdr), (b"IDAT", b"x" * 100), (b"IEND", b""))
    )
    answer = server.post("/api/tasks/belt/classes/cup/photos", bomb)
    assert answer.status == 415
    assert "million pixels" in answer.error


def test_zip_bombs_and_tricks_are_refused(server):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("../../../evil/1.png", picture(1))
        archive.writestr("/etc/passwd/2.png", picture(2))
        archive.writestr("..\\..\\windows\\3.png", picture(3))
        archive.writestr("bomb/1.jpg", b"\xff\xd8\xff" + bytes(100 * 2**20))
        archive.writestr("no folder.png", picture(4))
    answer = server.post("/api/tasks/belt/classes/-/photos", out.getvalue())
    assert answer.status == 201, answer.body
    reasons = {it["name"]: it["reason"] for it in answer.json["skipped"]}
    assert "larger than" in reasons["bomb/1.jpg"]
    assert "no class" in reasons["no folder.png"]
    assert classes(server, "belt") == {"cup": 1, "passwd": 1}
    assert server.post("/api/tasks/belt/undo").status == 200
    many = io.BytesIO()
    with zipfile.ZipFile(many, "w") as archive:
        for number in range(10_001):
            archive.writestr(f"a/{number}", b"")
    answer = server.post("/api/tasks/belt/classes/-/photos", many.getvalue())
    assert answer.status == 413
    assert "too many files" in answer.error


@pytest.mark.parametrize(
    ("path", "limit"),
    [
        ("/api/tasks", 2**20),
        ("/api/tasks/belt/classes/cup/photos", 2**30),
        ("/api/tasks/belt/predict", 64 * 2**20),
        ("/api/tasks/belt/versions", 16 * 2**20),
    ],
)
def test_too_large_bodies_are_refused_before_they_are_read(server, path, limit):
    headers = {"Content-Length": str(limit + 1), "Content-Type": "application/json"}
    answer = server.ask("POST", path, headers=headers)
    assert answer.status in (413, 503)  # or the disk has no room for the announced
    assert answer.error


def test_a_body_that_says_nothing_of_its_length_is_counted(server):
    connection = server.connect()
    connection.putrequest("POST", "/api/tasks")
    connection.putheader("Content-Type", "application/json")
    connection.putheader("Transfer-Encoding", "chunked")
    connection.endheaders()
    block = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    for _ in range(17):
        try:
            connection.send(block)
        except OSError:  # refused and closed
            break
    response = connection.getresponse()
    assert response.status == 413
    connection.close()


@pytest.mark.parametrize(
    ("body", "media", "status"),
    [
        (b"{", "application/json", 400),
        (b'{"name": NaN}', "application/json", 400),
        (b"[" * 100_000, "application/json", 400),
        (b"\xff\xfe", "application/json", 400),
        (b"[]", "application/json", 422),
        (b"{}", "application/json", 422),
        (b'{"name": 1}', "application/json", 422),
        (b'{"name": "a", "more": 1}', "application/json", 422),
        (b'{"name": "a"}', "text/plain", 415),
        (b"name=a", "application/x-www-form-urlencoded", 415),
    ],
)
def test_bodies_that_are_not_what_is_expected(server, body, media, status):
    answer = server.post("/api/tasks", body, headers={"Content-Type": media})
    assert answer.status == status
    assert answer.error


def test_unknown_paths_methods_and_queries(server):
    assert server.get("/api/nothing").status == 404
    assert server.get("/static/../serve.py").status == 404
    assert server.get("/static/..%2fserve.py").status == 404
    answer = server.ask("PUT", "/api/tasks")
    assert (answer.status, answer.headers["allow"]) == (405, "GET, POST")
    for query in ("limit=0", "limit=x", "offset=-1", "limit=" + "9" * 5000, "class="):
        assert server.get(f"/api/tasks/belt/photos?{query}").status in (404, 422)
    for number in ("0", "-1", "x", "9" * 5000, "1.5"):
        assert server.get(f"/api/tasks/belt/versions/{number}").status == 404


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "", ":80", "[evil]"]
)
def test_a_foreign_host_is_refused(server, host):
    answer = server.get("/api/tasks", headers={"Host": host})
    assert answer.status == 403
    assert "--allow-host" in answer.error


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1", "[::1]:80", "192.168.1.7:8423"])
def test_own_hosts_are_answered(server, host):
    answer = server.get("/healthz", headers={"Host": host})
    assert answer.status == 200
    assert ("cross-origin-opener-policy" in answer.headers) == (
        "192" not in host
    )  # browsers heed it there only


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://127.0.0.1:1", "http://localhost", "file://"]
)
def test_a_foreign_origin_changes_nothing(server, origin):
    for method, path in (
        ("POST", "/api/tasks"),
        ("DELETE", "/api/tasks/belt"),
        ("POST", "/api/tasks/belt/undo"),
    ):
        answer = server.ask(method, path, {"name": "forged"}, {"Origin": origin})
        assert answer.status == 403
        assert answer.error
    assert server.get("/api/tasks/forged").status == 404


def test_our_own_origin_is_answered(server):
    own = {"Origin": server.url.rstrip("/"), "Sec-Fetch-Site": "same-origin"}
    assert server.post("/api/tasks", {"name": "own"}, headers=own).status == 201
    assert server.get("/api/tasks", headers={"Sec-Fetch-Site": "cross-site"}).status == 403
    assert server.post("/api/tasks", {"name": "own"}, headers={"Sec-Fetch-Site": "same-site"}).status == 403


def test_every_answer_has_the_headers_that_bind_browsers(server):
    for path in ("/", "/healthz", "/api/tasks", "/api/nothing", "/openapi.json"):
        headers = server.get(path).headers
        assert headers["content-security-policy"].startswith("default-src 'none'; script-src 'self';")
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "same-origin"
        assert "server" not in headers


def test_slow_clients_and_200_connections_starve_nobody(server):
    with ExitStack() as stack:
        for number in range(200):
            sock = stack.enter_context(socket.create_connection((server.host, server.port)))
            head = b"POST /api/tasks/belt/classes/cup/photos HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n"
            sock.sendall(b"GET /api/ta" if number % 2 else head + b"\xff\xd8\xff")
        for _ in range(5):
            assert server.get("/api/tasks").status == 200
        assert server.post("/api/tasks/belt/undo").status in (200, 409)
    wait_until(lambda: not list((server.data / ".qprompt" / "incoming").iterdir()))


def test_two_writers_lose_nothing(server):
    assert server.post("/api/tasks", {"name": "shared"}).status == 201
    errors: list[str] = []

    def write(first: int) -> None:
        for number in range(first, first + 12):
            try:
                photo = add(
                    server, "shared", "cup" if number % 2 else "bowl", picture(number, size=(60 + number, 40))
                )
                if number % 3 == 0:
                    answer = server.post("/api/tasks/shared/photos/move", {"ids": [photo], "class": "third"})
                    assert answer.status == 200, answer.body
            except AssertionError as error:
                errors.append(str(error))

    writers = [threading.Thread(target=write, args=(first,)) for first in (100, 200, 300)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert errors == []
    assert sum(classes(server, "shared").values()) == 36
    undone = 0
    while server.post("/api/tasks/shared/undo").status == 200:
        undone += 1
    assert undone == 48
    assert classes(server, "shared") == {}


def test_what_the_system_refuses_is_one_line(server):
    write_photos(server.data / "odd", count=4)
    hidden = server.data / "odd" / ".qprompt"
    hidden.mkdir()
    (hidden / "undo.json").mkdir()  # cannot be written
    (hidden / "versions").write_text("no folder")
    assert server.get("/api/tasks/odd").json["versions"] == 0
    answer = server.post("/api/tasks/odd/classes", {"label": "cup"})
    assert answer.status == 503
    assert "cannot write" in answer.error
    last = server.follow(server.post("/api/tasks/odd/adapt").json["job"])[-1]
    assert last["state"] == "failed"
    assert "the system refuses" in last["error"]
    shutil.rmtree(server.data / "odd")


def test_pictures_of_16_bits_and_alpha_are_photos_too(server):
    out = io.BytesIO()
    Image.new("RGBA", (40, 40), (1, 2, 3, 0)).save(out, "PNG")
    photo = add(server, "belt", "alpha", out.getvalue())
    assert server.get(f"/api/tasks/belt/photos/{photo}/thumb?size=320").status == 200
    assert server.post("/api/tasks/belt/undo").status == 200
