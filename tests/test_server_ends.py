"""How the server ends: in time, with nothing half written; and what happens when its processes die."""

import io
import os
import signal
import socket
import zipfile
from pathlib import Path

from patience import PATIENCE, wait_until
from PIL import Image
from scenes import write_photos
from serving import serve_process, served
from test_server_rest import picture


def test_sigterm_ends_it_in_time_with_a_stream_open_and_a_job_running(tmp_path: Path) -> None:
    write_photos(tmp_path / "data" / "belt")
    with serve_process(tmp_path / "data") as server:
        body = {"options": {"epochs": 100_000, "method": "qcoop"}}
        job = server.post("/api/tasks/belt/adapt", body).json["job"]
        connection = server.connect()
        connection.request("GET", f"/api/jobs/{job}/events")
        stream = connection.getresponse()
        assert any(b"tuning" in line for line in stream)
        server.end()
        assert b"Traceback" not in server.log.encode()
        connection.close()


def test_sigterm_ends_it_in_time_while_an_archive_is_unpacked(tmp_path: Path) -> None:
    photo, out = io.BytesIO(), io.BytesIO()
    Image.new("RGB", (4000, 3000), "red").save(photo, "PNG")  # small, and slow to decode
    with zipfile.ZipFile(out, "w") as archive:
        for number in range(300):
            archive.writestr(f"cup/{number}.png", photo.getvalue())
    with serve_process(tmp_path / "data") as server:
        assert server.post("/api/tasks", {"name": "belt"}).status == 201
        with socket.create_connection((server.host, server.port)) as sock:
            head = f"POST /api/tasks/belt/classes/-/photos HTTP/1.1\r\nHost: localhost\r\nContent-Length: {out.tell()}\r\n\r\n"
            sock.sendall(head.encode() + out.getvalue())
            wait_until(lambda: list((server.data / ".qprompt" / "incoming").glob("*/*")))
            server.end()
    with served(tmp_path / "data") as server:
        assert server.get("/api/tasks/belt").json["classes"] == []


def test_ctrl_c_ends_it_with_130(tmp_path: Path) -> None:
    with serve_process(tmp_path / "data") as server:
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(PATIENCE) == 130
        assert "Traceback" not in server.log


def test_a_kill_during_an_upload_leaves_no_half_photo(tmp_path: Path) -> None:
    data = picture(1, "PNG", (1200, 900))
    with serve_process(tmp_path / "data") as server:
        assert server.post("/api/tasks", {"name": "belt"}).status == 201
        with socket.create_connection((server.host, server.port)) as sock:
            head = f"POST /api/tasks/belt/classes/cup/photos HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data)}\r\n\r\n"
            sock.sendall(head.encode() + data[: len(data) // 2])
            incoming = server.data / ".qprompt" / "incoming"
            wait_until(lambda: any(path.stat().st_size for path in incoming.iterdir()))
            os.kill(server.process.pid, signal.SIGKILL)
            server.process.wait()
    with served(tmp_path / "data") as server:
        assert server.get("/api/tasks/belt").json["classes"] == []
        assert list((server.data / ".qprompt" / "incoming").iterdir()) == []
        assert server.post("/api/tasks/belt/classes/cup/photos", data).status == 201


def test_a_folder_is_served_once(tmp_path: Path, run) -> None:
    with served(tmp_path / "data"):
        result = run("serve", "--port", "0", "--data", tmp_path / "data")
        assert result.code == 1
        assert "is served already" in result.err


def test_the_models_process_may_die(tmp_path: Path) -> None:
    write_photos(tmp_path / "data" / "belt")
    with serve_process(tmp_path / "data") as server:
        job = server.post("/api/tasks/belt/adapt", {"options": {"epochs": 100_000, "method": "qcoop"}}).json[
            "job"
        ]
        wait_until(lambda: server.get(f"/api/jobs/{job}").json["stage"] is not None)
        threads = Path(f"/proc/{server.process.pid}/task").iterdir()
        children = [child for thread in threads for child in (thread / "children").read_text().split()]
        os.kill(int(*children), signal.SIGKILL)
        last = server.follow(job)[-1]
        assert last["state"] == "failed"
        assert "memory" in last["error"]
        again = server.follow(server.post("/api/tasks/belt/adapt").json["job"])[-1]
        assert again["state"] == "done"
