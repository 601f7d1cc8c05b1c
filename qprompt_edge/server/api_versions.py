"""The interface to adaptation, its versions, the check of the photos, and answers to single photos."""

from __future__ import annotations

import contextlib
import json
from typing import Any

from qprompt_edge.server.api_tasks import versions_of
from qprompt_edge.server.calls import Call, Reply
from qprompt_edge.server.health import count
from qprompt_edge.server.jobs import Job
from qprompt_edge.server.photos import photos_of
from qprompt_edge.server.refusal import Refusal
from qprompt_edge.server.versions import findings_file, look, marked
from qprompt_runtime.files import write_atomic
from qprompt_runtime.prompt_file import RESIDUAL

_REPORT_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'; sandbox"
)


def adapt(call: Call) -> dict[str, Any]:
    """Adapt to a task's photos, or go on with what was stopped."""
    options = call.body.get("options", {})
    method = options.get("method", RESIDUAL)
    if "accept" in options and method != RESIDUAL:
        raise Refusal(
            422,
            f"accept is for the method {RESIDUAL}, got {method}; the others do not calibrate their scores",
        )
    return _tuning(call, "adapt", {"options": options})


def update(call: Call) -> dict[str, Any]:
    """Teach the prompt in use what is new, without forgetting what it is judged by."""
    store, task = call.state.store, call.path["task"]
    folder = store.task(task)
    versions = versions_of(call, task)
    prompt = versions.in_use()
    base = versions.published() or max(versions.numbers(), default=0)
    held = versions.marks(base)["held"]
    ids = [photo.id for photo in photos_of(folder) if marked(photo) in held]
    return _tuning(call, "update", {"prompt": str(prompt), "held": ids})


def _tuning(call: Call, kind: str, order: dict[str, Any]) -> dict[str, Any]:
    """Queue a job that makes a version."""
    state, task = call.state, call.state.store.task(call.path["task"]).name

    def work(job: Job) -> dict[str, Any]:
        with state.store.locked(task) as folder:
            out = versions_of(call, task).next_path()
            seen = look(photos_of(folder))
        given = {"photos": str(folder), "out": str(out), "name": f"{task} {out.stem}", **order}
        facts = job.carry_out(state.engine.order(kind, given))
        marks = {photo.id: marked(photo) for photo in photos_of(folder)}
        sides = {
            side: sorted(marks[photo] for photo in facts.pop(side) if photo in marks)
            for side in ("trained", "held")
        }
        sides["seen"] = seen
        with state.store.locked(task):
            return {"n": versions_of(call, task).keep(out, {**facts, "kind": kind}, sides)}

    return {"job": state.jobs.start(task, kind, work).id}


def check(call: Call) -> dict[str, Any]:
    """Look for what is wrong with a task's photos."""
    state, task = call.state, call.state.store.task(call.path["task"]).name

    def work(job: Job) -> dict[str, Any]:
        folder = state.store.task(task)
        seen = look(photos_of(folder))
        found = job.carry_out(state.engine.order("check", {"photos": str(folder)}))
        write_atomic(findings_file(folder), json.dumps({"seen": seen, "found": found}).encode())
        return {}

    return {"job": state.jobs.start(task, "check", work).id}


def findings(call: Call) -> dict[str, Any]:
    """What the last check found, and whether the photos are others now."""
    folder = call.state.store.task(call.path["task"])
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        kept = json.loads(findings_file(folder).read_bytes())
        return {**kept["found"], "changed": kept["seen"] != look(photos_of(folder))}
    raise Refusal(404, "the photos were not checked yet")


def versions(call: Call) -> list[dict[str, Any]]:
    """All versions of a task's prompt, the newest last."""
    return versions_of(call, call.path["task"]).listed()


def version(call: Call) -> dict[str, Any]:
    """All that is known of a version."""
    return versions_of(call, call.path["task"]).facts(call.path["n"])


def version_file(call: Call) -> Reply:
    """A version's prompt file."""
    number = call.path["n"]
    path = versions_of(call, call.path["task"]).path(number)
    headers = {"content-disposition": f'attachment; filename="version-{number}.qpt"'}
    return Reply(path.read_bytes(), media="application/octet-stream", headers=headers)


def version_report(call: Call) -> Reply:
    """A version's report, a page that needs nothing else; made now if it has none yet."""
    number, task = call.path["n"], call.path["task"]
    found = versions_of(call, task)
    path = found.path(number)
    page = path.with_suffix(".html")
    if not page.is_file():
        folder = call.state.store.task(task)
        held = found.marks(number)["held"]
        judged = [photo.id for photo in photos_of(folder) if marked(photo) in held]
        order = {"photos": str(folder), "prompt": str(path), "name": f"{task} {number}", "judged": judged}
        call.state.engine.ask("report", order)
    headers = {"content-security-policy": _REPORT_POLICY}
    return Reply(page.read_bytes(), media="text/html; charset=utf-8", headers=headers)


def add_version(call: Call) -> dict[str, Any]:
    """Take a prompt file as a new version."""
    assert call.upload is not None
    with call.state.store.locked(call.path["task"]):
        return {"n": versions_of(call, call.path["task"]).add(call.upload.read_bytes())}


def publish(call: Call) -> dict[str, Any]:
    """Publish a version."""
    with call.state.store.locked(call.path["task"]):
        versions_of(call, call.path["task"]).publish(call.path["n"])
    return {"published": call.path["n"]}


def compare(call: Call) -> dict[str, Any]:
    """All versions on the photos that none of them was tuned on."""
    store, task = call.state.store, call.path["task"]
    folder, found = store.task(task), versions_of(call, task)
    numbers = found.numbers()
    if not numbers:
        raise Refusal(409, "there is no version yet; adapt first")
    trained = set().union(*(found.marks(number)["trained"] for number in numbers))
    photos = [(photo.id, photo.label) for photo in photos_of(folder) if marked(photo) not in trained]
    prompts = [str(found.path(number)) for number in numbers]
    scores = call.state.engine.ask("compare", {"folder": str(folder), "photos": photos, "prompts": prompts})
    each = zip(numbers, scores["top1"], strict=True)
    return {"photos": scores["photos"], "versions": [{"n": n, "top1": top1} for n, top1 in each]}


def predict(call: Call) -> dict[str, Any]:
    """What a photo shows."""
    assert call.upload is not None
    task = call.path["task"]
    prompt = versions_of(call, task).in_use()
    order = {"prompt": str(prompt), "photo": str(call.upload), "accept": call.query.get("accept")}
    answer: dict[str, Any] = call.state.engine.ask("predict", order)
    count(call.state.health, task, answer)
    return answer
