"""The whole way over the REST interface: a task, its classes and photos, adaptation, versions, answers."""

import hashlib
import io
import json
import threading
import zipfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from patience import PATIENCE
from PIL import Image
from scenes import CLASSES, write_photo, write_photos
from serving import Client, photo_in, served
from watching import ACCEPT_ALL, made_prompt

from qprompt_edge.server.work import LONG
from qprompt_runtime.prompt_file import PromptFile, read_prompt_file


def picture(seed: int = 0, kind: str = "PNG", size: tuple[int, int] = (80, 60)) -> bytes:
    """A photo's bytes."""
    noise = Image.effect_noise(size, 50 + seed % 50).convert("RGB")
    out = io.BytesIO()
    noise.save(out, kind)
    return out.getvalue()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with served(tmp_path_factory.mktemp("served") / "data") as server:
        yield server


@pytest.fixture
def task(server: Client, request: pytest.FixtureRequest) -> str:
    """A new task; its name."""
    name = request.node.name[:50].rstrip("_ ")
    assert server.post("/api/tasks", {"name": name}).status == 201
    return name


def classes(server: Client, task: str) -> dict[str, int]:
    return {it["label"]: it["photos"] for it in server.get(f"/api/tasks/{task}").json["classes"]}


def add(server: Client, task: str, label: str, data: bytes) -> str:
    """Add a photo; its id."""
    answer = server.post(f"/api/tasks/{task}/classes/{label}/photos", data)
    assert answer.status == 201, answer.body
    return answer.json["added"][0]["id"]


def test_tasks_are_made_renamed_deleted_and_brought_back(server):
    while server.post("/api/undo").status == 200:  # what other tests did
        pass
    assert server.post("/api/tasks", {"name": "belt"}).json == {"name": "belt"}
    again = server.post("/api/tasks", {"name": "belt"})
    assert again.status == 409
    assert "already" in again.error
    add(server, "belt", "cup", picture(1))
    assert server.ask("PATCH", "/api/tasks/belt", {"name": "conveyor ü"}).status == 200
    names = [it["name"] for it in server.get("/api/tasks").json["tasks"]]
    assert "conveyor ü" in names
    assert "belt" not in names
    assert server.ask("DELETE", "/api/tasks/conveyor%20%C3%BC").status == 200
    assert server.get("/api/tasks/conveyor%20%C3%BC").status == 404
    assert server.post("/api/undo").json == {"undone": "task conveyor ü deleted"}
    assert classes(server, "conveyor%20%C3%BC") == {"cup": 1}
    assert server.post("/api/undo").json == {"undone": "task belt renamed to conveyor ü"}
    assert classes(server, "belt") == {"cup": 1}
    nothing = server.post("/api/undo")
    assert nothing.status == 409
    assert "nothing to undo" in nothing.error


def test_classes_are_made_renamed_deleted_and_brought_back(server, task):
    api = f"/api/tasks/{task}"
    assert server.post(f"{api}/classes", {"label": "old cup"}).status == 201
    assert server.post(f"{api}/classes", {"label": "old cup"}).status == 409
    add(server, task, "old%20cup", picture(2))
    assert server.ask("PATCH", f"{api}/classes/old%20cup", {"label": "cup"}).json == {"label": "cup"}
    assert server.ask("DELETE", f"{api}/classes/cup").status == 200
    assert classes(server, task) == {}
    assert server.get(api).json["undo"] == "class cup deleted"
    for undone in (
        "class cup deleted",
        "class old cup renamed to cup",
        "1 photo added to old cup",
        "class old cup made",
    ):
        assert server.post(f"{api}/undo").json == {"undone": undone}
    assert classes(server, task) == {}
    assert server.get(api).json["undo"] is None


def test_photos_are_added_moved_deleted_and_brought_back(server, task):
    api = f"/api/tasks/{task}"
    first, second = (add(server, task, "cup", picture(n)) for n in (3, 4))
    moved = server.post(f"{api}/photos/move", {"ids": [first], "class": "bowl"}).json["moved"]
    assert moved == [{"from": first, "id": first.replace("cup/", "bowl/")}]
    assert classes(server, task) == {"bowl": 1, "cup": 1}
    assert server.post(f"{api}/photos/delete", {"ids": [moved[0]["id"], second]}).json == {"deleted": 2}
    assert classes(server, task) == {"bowl": 0, "cup": 0}
    assert server.post(f"{api}/undo").json == {"undone": "2 photos deleted"}
    assert server.post(f"{api}/undo").json == {"undone": "1 photo moved to bowl"}
    assert classes(server, task) == {"cup": 2}  # the class that was made for it goes too
    gone = server.post(f"{api}/photos/delete", {"ids": [first, "cup/none.jpg"]})
    assert gone.status == 404
    assert "cup/none.jpg" in gone.error
    assert classes(server, task) == {"cup": 2}


def test_a_photo_is_kept_as_it_came_and_only_once(server, task):
    data = picture(5, "JPEG")
    photo = add(server, task, "cup", data)
    assert photo.startswith("cup/")
    assert photo.endswith(".jpg")
    assert (server.data / task / photo).read_bytes() == data
    again = server.post(f"/api/tasks/{task}/classes/cup/photos", data)
    assert (again.status, again.json["added"], again.json["repeated"]) == (201, [], 1)
    listed = server.get(f"/api/tasks/{task}/photos").json
    assert listed["total"] == 1
    assert listed["photos"][0] | {"modified": 0} == {
        "id": photo, "class": "cup", "name": photo.partition("/")[2], "bytes": len(data), "modified": 0,
    }  # fmt: skip


def test_photos_are_listed_in_parts(server, task):
    for number in range(5):
        add(server, task, "cup" if number % 2 else "bowl", picture(10 + number))
    api = f"/api/tasks/{task}/photos"
    whole = [it["id"] for it in server.get(api).json["photos"]]
    assert [it.partition("/")[0] for it in whole] == ["bowl"] * 3 + ["cup"] * 2
    part = server.get(f"{api}?offset=1&limit=2").json
    assert (part["total"], [it["id"] for it in part["photos"]]) == (5, whole[1:3])
    assert [it["id"] for it in server.get(f"{api}?class=cup").json["photos"]] == whole[3:]


def test_thumbnails_are_small_upright_and_not_sent_twice(server, task):
    upright = Image.new("RGB", (300, 200), (200, 30, 30))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn it by 90 degrees
    out = io.BytesIO()
    upright.save(out, "JPEG", exif=exif)
    place = photo_in(task, add(server, task, "cup", out.getvalue()))
    small = server.get(f"{place}/thumb?size=160")
    assert small.headers["content-type"] == "image/jpeg"
    assert Image.open(io.BytesIO(small.body)).size == (107, 160)
    assert Image.open(io.BytesIO(server.get(f"{place}/file").body)).size == (200, 300)
    known = server.get(f"{place}/thumb?size=160", headers={"If-None-Match": small.headers["etag"]})
    assert (known.status, known.body) == (304, b"")


def test_a_zip_brings_its_own_classes(server, task):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("photos/cup/1.png", picture(20))
        archive.writestr("photos/cup/2.png", picture(21))
        archive.writestr("photos/bowl/1.png", picture(22))
        archive.writestr("photos/bowl/notes.txt", b"not a photo, and passed over")
        archive.writestr("photos/bowl/broken.jpg", b"\xff\xd8\xff no photo")
        archive.writestr("__MACOSX/cup/._1.png", b"passed over")
    answer = server.post(f"/api/tasks/{task}/classes/-/photos", out.getvalue())
    assert answer.status == 201, answer.body
    assert len(answer.json["added"]) == 3
    assert [it["name"] for it in answer.json["skipped"]] == ["photos/bowl/broken.jpg"]
    assert classes(server, task) == {"bowl": 1, "cup": 2}
    assert server.post(f"/api/tasks/{task}/undo").json == {"undone": "3 photos added to 2 classes"}
    assert classes(server, task) == {}


def test_what_the_command_line_does_to_the_folder_is_seen(server, task):
    write_photo(server.data / task / "from outside" / "deeper" / "one.png", (10, 200, 10), 1)
    assert classes(server, task) == {"from outside": 1}
    photo = server.get(f"/api/tasks/{task}/photos").json["photos"][0]["id"]
    assert photo == "from outside/deeper/one.png"
    assert server.get(f"{photo_in(task, photo)}/thumb").status == 200
    (server.data / task / photo).unlink()
    assert server.get(f"{photo_in(task, photo)}/thumb").status == 404


def test_adapt_then_predict_publish_and_restore(server, task):
    write_photos(server.data / task, count=8)
    api = f"/api/tasks/{task}"
    assert server.post(f"{api}/predict", picture(1)).status == 409  # no prompt yet
    states = server.follow(server.post(f"{api}/adapt", {"options": {"seed": 2}}).json["job"])
    assert states[-1]["state"] == "done", states[-1]
    assert states[-1]["result"]["n"] == 1
    assert {it["state"] for it in states} <= {"queued", "running", "done"}
    second = server.follow(server.post(f"{api}/adapt").json["job"])[-1]
    assert second["result"]["n"] == 2
    listed = server.get(f"{api}/versions").json
    assert [(it["n"], it["kind"], it["published"]) for it in listed] == [
        (1, "adapt", False),
        (2, "adapt", False),
    ]
    facts = server.get(f"{api}/versions/2").json
    assert facts["confusion"]["labels"] == list(CLASSES)
    assert facts["holdout"]["n"] == sum(map(sum, facts["confusion"]["counts"]))
    report = server.get(f"{api}/versions/2/report").body.decode()
    assert all(part in report for part in facts["parts"].values())  # the page shows what the report shows
    photo = (server.data / task / "red brick" / "00.png").read_bytes()
    answer = server.post(f"{api}/predict?accept=0.95", photo).json
    assert answer["predictions"][0]["label"] == "red brick"
    assert answer["none_of_these"] is None  # too few photos, too alike, to tell
    file = server.get(f"{api}/versions/1/file").body
    for number in (2, 1):
        assert server.post(f"{api}/versions/{number}/publish").json == {"published": number}
        assert server.get(api).json["published"] == number
    published = server.data / f"{task}.qpt"
    assert published.read_bytes() == file
    assert [it.label for it in read_prompt_file(published).classes] == list(CLASSES)
    assert server.post(f"{api}/versions", file).json == {"n": 1}  # there already
    other = replace(PromptFile.from_bytes(file), metadata={"from": "elsewhere"}).to_bytes()
    assert server.post(f"{api}/versions", other).json == {"n": 3}
    assert server.get(f"{api}/versions/3").json["kind"] == "upload"
    refused = server.post(f"{api}/versions", b"no prompt")
    assert refused.status == 415
    published.write_bytes(b"another program's")
    assert server.get(api).json["published"] is None


def test_each_stage_of_a_job_is_told(server, task, monkeypatch):
    seen = threading.Event()

    def work(_order, reporter):
        reporter.stage("encoding photos", 1, 3)
        assert seen.wait(PATIENCE)
        reporter.note("a line for people")
        return {}

    monkeypatch.setitem(LONG, "check", work)
    write_photos(server.data / task, count=4)
    job = server.post(f"/api/tasks/{task}/check").json["job"]
    with closing(server.connect()) as connection:
        connection.request("GET", f"/api/jobs/{job}/events")
        events = (
            json.loads(line.removeprefix(b"data: "))
            for line in connection.getresponse()
            if line.startswith(b"data: ")
        )
        running = next(it for it in events if it["stage"] is not None)
        assert (running["state"], running["stage"], running["done"], running["total"]) == (
            "running",
            "encoding photos",
            1,
            3,
        )
        seen.set()
        assert list(events)[-1]["notes"] == ["a line for people"]


def test_answers_are_counted_for_prometheus(server, task, tiny):
    api = f"/api/tasks/{task}"
    prompt = made_prompt(tiny, calibration=ACCEPT_ALL).to_bytes()
    assert server.post(f"{api}/versions", prompt).status == 201
    assert server.post(f"{api}/versions/1/publish").status == 200
    answers = [server.post(f"{api}/predict{more}", picture(1)).json for more in ("", "?accept=0.8")]
    assert not [it for it in answers if "error" in it]
    assert [set(it) for it in answers] == [{"predictions", "none_of_these", "seconds"}] * 2
    assert [it["none_of_these"] for it in answers] == [None, True]
    told = server.get("/metrics")
    assert told.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    labels = f'source="serve",prompt="{task}"'
    lines = told.body.decode().splitlines()
    for line in (
        f"qprompt_answers_total{{{labels}}} 2",
        f"qprompt_none_of_these_total{{{labels}}} 1",
        f"qprompt_day_none_of_these_ratio{{{labels}}} 1",
        f'qprompt_day_score_reached_ratio{{{labels},share="0.8"}} 0',
    ):
        assert line in lines
    assert any(hashlib.sha256(prompt).hexdigest() in line for line in lines)
    assert server.ask("DELETE", api).status == 200
    assert task not in server.get("/metrics").body.decode()


def test_a_job_that_cannot_be_done_says_why(server, task):
    add(server, task, "cup", picture(40))
    job = server.post(f"/api/tasks/{task}/adapt").json["job"]
    last = server.follow(job)[-1]
    assert last["state"] == "failed"
    assert "at least 2 classes are needed" in last["error"]
    assert server.get(f"/api/jobs/{job}").json == last
    assert server.get(f"/api/tasks/{task}").json["job"] is None


def test_a_job_is_cancelled(server, task):
    write_photos(server.data / task, count=4)
    job = server.post(f"/api/tasks/{task}/adapt", {"options": {"epochs": 100_000, "method": "qcoop"}}).json[
        "job"
    ]
    other = server.post(f"/api/tasks/{task}/adapt").json["job"]
    assert other == job  # the same is under way
    assert server.ask("DELETE", f"/api/tasks/{task}").status == 409
    assert server.ask("DELETE", f"/api/jobs/{job}").status == 200
    assert server.follow(job)[-1]["state"] == "cancelled"
    assert Path(server.data / task).is_dir()
