"""Versions over the interface: check, update, comparison, reports, the review queue, and cameras."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from patience import wait_until
from serving import Client, photo_in, served
from test_server_rest import classes, picture

from qprompt_edge.watching.review import ReviewFrame, list_frames, new_id, write_frame
from qprompt_runtime.prompt_file import PromptFile

EXAMPLES = Path(__file__).parent.parent / "examples" / "photos"
LABELS = ("bolt", "leaf", "tomato")
SHOTS = 12


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A server with a task of three classes that was adapted to once; version 1 is published."""
    folder = tmp_path_factory.mktemp("versions")
    (folder / "camera").mkdir()
    for label in LABELS:
        copy(folder / "data" / "belt", label, 0, SHOTS)
    with served(folder / "data", "--camera", str(folder / "camera")) as server:
        last = server.follow(server.post("/api/tasks/belt/adapt").json["job"])[-1]
        assert last["result"] == {"n": 1}, last
        assert server.post("/api/tasks/belt/versions/1/publish").status == 200
        yield server


def copy(task: Path, label: str, first: int, end: int) -> None:
    """Example photos of a class into a task's folder."""
    (task / label).mkdir(parents=True, exist_ok=True)
    for path in sorted((EXAMPLES / label).iterdir())[first:end]:
        shutil.copy(path, task / label / f"{label}-{path.name}")


def test_a_version_says_what_it_got_wrong_and_how_sure_that_is(server):
    facts = server.get("/api/tasks/belt/versions/1").json
    assert (facts["n"], facts["kind"], facts["published"]) == (1, "adapt", True)
    assert facts["classes"] == list(LABELS)
    holdout = facts["holdout"]
    assert holdout["n"] == 6
    low, high = facts["interval"]
    assert low <= facts["difference"] <= high
    wrong = sum(row[j] for i, row in enumerate(facts["confusion"]["counts"]) for j in range(3) if i != j)
    assert len(facts["mistakes"]) == wrong == round((1 - holdout["adapted"]["top1"]) * 6)
    for mistake in facts["mistakes"]:
        assert server.get(photo_in("belt", mistake["id"]) + "/thumb").status == 200


def test_a_version_has_a_report_that_needs_nothing_else(server):
    answer = server.get("/api/tasks/belt/versions/1/report")
    assert answer.headers["content-type"].startswith("text/html")
    assert answer.body.lower().startswith(b"<!doctype html")
    assert b"<script" not in answer.body
    policy = answer.headers["content-security-policy"]
    assert "script-src" not in policy
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'; img-src data:")
    file = server.get("/api/tasks/belt/versions/1/file").body
    other = replace(PromptFile.from_bytes(file), metadata={"from": "elsewhere"}).to_bytes()
    sent = server.post("/api/tasks/belt/versions", other).json["n"]
    assert server.get(f"/api/tasks/belt/versions/{sent}/report").body.lower().startswith(b"<!doctype html")


def test_the_photos_are_checked(server):
    assert server.get("/api/tasks/belt/check").status == 404
    folder = server.data / "belt"
    twin = folder / "leaf" / "twin of a bolt.jpg"
    shutil.copy(folder / "bolt" / "bolt-00.jpg", twin)
    (folder / "leaf" / "broken.jpg").write_bytes(b"no photo")
    try:
        last = server.follow(server.post("/api/tasks/belt/check").json["job"])[-1]
        assert last["state"] == "done", last
        found = server.get("/api/tasks/belt/check").json
        assert found["changed"] is False
        assert found["classes"] == {"bolt": SHOTS, "leaf": SHOTS + 1, "tomato": SHOTS}
        assert [it["path"] for it in found["unreadable"]] == ["leaf/broken.jpg"]
        twins = [it for it in found["duplicates"] if it["across_classes"]]
        assert sorted(twins[0]["paths"]) == ["bolt/bolt-00.jpg", "leaf/twin of a bolt.jpg"]
    finally:
        twin.unlink()
        (folder / "leaf" / "broken.jpg").unlink()
    assert server.get("/api/tasks/belt/check").json["changed"] is True


def test_an_update_does_not_train_on_what_it_is_judged_by(server):
    folder = server.data / "updated"  # a copy, with its version: other tests count the photos of `belt`
    shutil.copytree(server.data / "belt", folder)
    shutil.copy(server.data / "belt.qpt", server.data / "updated.qpt")
    kept = server.get("/api/tasks/updated/versions/1").json["holdout"]["n"]
    copy(folder, "potato", 0, SHOTS)
    copy(folder, "bolt", SHOTS, SHOTS + 4)
    last = server.follow(server.post("/api/tasks/updated/update").json["job"])[-1]
    assert last["state"] == "done", last
    facts = server.get(f"/api/tasks/updated/versions/{last['result']['n']}").json
    assert facts["kind"] == "update"
    assert facts["classes"] == [*LABELS, "potato"]
    assert facts["photos"] == 3 * SHOTS - kept + SHOTS + 4
    assert facts["holdout"]["n"] == kept
    assert facts["holdout"]["missing"] == ["potato"]
    assert facts["estimates"]["potato"]["judged"] > 0
    assert facts["published"] is False
    compared = server.get("/api/tasks/updated/versions/compare").json
    assert compared["photos"] == kept  # the photos that none was tuned on
    assert {it["n"] for it in compared["versions"]} >= {1, facts["n"]}
    assert all(0 <= it["top1"] <= 1 for it in compared["versions"])
    assert server.post(f"/api/tasks/updated/versions/{facts['n']}/publish").status == 200
    nothing = server.follow(server.post("/api/tasks/updated/update").json["job"])[-1]
    assert nothing["state"] == "failed"
    assert "nothing is new" in nothing["error"]
    shutil.rmtree(folder / "tomato")  # a class that is gone is taken out
    again = server.follow(server.post("/api/tasks/updated/update").json["job"])[-1]
    assert again["state"] == "done", again
    assert "tomato" not in server.get(f"/api/tasks/updated/versions/{again['result']['n']}").json["classes"]


def frame(server: Client, number: int, task: str = "belt") -> str:
    """Put a frame into a task's queue, as `watch` does; its id."""
    name = new_id(1_700_000_000 + number, f"{number:08x}")
    described = ReviewFrame(
        name, 1_700_000_000 + number, "camera", None, task, (("bolt", 0.5), ("leaf", 0.4))
    )
    write_frame(server.data / f"{task}.review", described, picture(number, "JPEG"))
    return name


def test_frames_are_labelled_and_brought_back(server):
    shutil.rmtree(server.data / "belt.review", ignore_errors=True)  # what another test left
    first, second, third = (frame(server, number) for number in (1, 2, 3))
    assert server.get("/api/tasks/belt").json["review"] == 3
    listed = server.get("/api/tasks/belt/review?limit=2").json
    assert listed["total"] == 3
    assert len(listed["items"]) == 2
    assert listed["items"][0].keys() >= {"id", "time", "source", "predictions", "none_of_these", "reason"}
    assert server.get(f"/api/tasks/belt/review/{first}/thumb").headers["content-type"] == "image/jpeg"
    assert server.get(f"/api/tasks/belt/review/{first}/file").status == 200
    before = classes(server, "belt")["leaf"]
    answer = server.post(f"/api/tasks/belt/review/{first}", {"class": "leaf"})
    assert answer.json == {"id": f"leaf/{first}.jpg"}
    assert classes(server, "belt")["leaf"] == before + 1
    assert server.post(f"/api/tasks/belt/review/{first}", {"class": "leaf"}).status == 404
    assert server.post(f"/api/tasks/belt/review/{second}", {"discard": True}).json == {"id": None}
    assert [it.id for it in list_frames(server.data / "belt.review")] == [third]
    assert server.post("/api/tasks/belt/undo").json == {"undone": "frame discarded"}
    assert server.post("/api/tasks/belt/undo").json == {"undone": "frame labelled leaf"}
    assert [it.id for it in list_frames(server.data / "belt.review")] == [first, second, third]
    assert classes(server, "belt")["leaf"] == before


@pytest.mark.parametrize("body", [{}, {"class": "leaf", "discard": True}, {"class": "../x"}, {"discard": 1}])
def test_decisions_that_are_none(server, body):
    name = frame(server, 9)
    assert server.post(f"/api/tasks/belt/review/{name}", body).status == 422
    for trick in ("..%2Fbelt%2Fbolt", "x", "%00", name[:-1]):
        assert server.post(f"/api/tasks/belt/review/{trick}", {"discard": True}).status == 404
        assert server.get(f"/api/tasks/belt/review/{trick}/file").status == 404


def test_a_queue_is_no_link(server, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    assert server.post("/api/tasks", {"name": "linked"}).status == 201
    (server.data / "linked.review").symlink_to(tmp_path / "elsewhere")
    answer = server.get("/api/tasks/linked/review")
    assert answer.status == 409
    assert "link" in answer.error
    assert server.get("/api/tasks").status == 200


def test_a_source_of_the_device_is_answered_live(server):
    camera = server.data.parent / "camera"
    assert server.get("/api/status").json["cameras"] == [str(camera)]
    refused = server.get("/api/tasks/belt/live?source=/etc")
    assert refused.status == 404
    assert "no camera" in refused.error
    connection = server.connect()
    connection.request("GET", f"/api/tasks/belt/live?source={camera}")
    stream = connection.getresponse()
    assert stream.getheader("content-type").startswith("text/event-stream")
    shutil.copy(EXAMPLES / "bolt" / "20.jpg", camera / "frame.jpg")
    line = next(line for line in stream if line.startswith(b"data:"))
    answer = json.loads(line.removeprefix(b"data: "))
    assert answer["predictions"][0]["label"] in LABELS
    assert set(answer) == {"predictions", "none_of_these", "seconds"}
    assert b'qprompt_answers_total{source="serve",prompt="belt"}' in server.get("/metrics").body
    assert server.get(f"/api/tasks/belt/live/frame?source={camera}").headers["content-type"] == "image/jpeg"
    connection.close()
    # the source is closed when nobody looks
    wait_until(lambda: server.get(f"/api/tasks/belt/live/frame?source={camera}").status == 404)
