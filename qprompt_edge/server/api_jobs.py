"""The interface to jobs, versions and answers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

from qprompt_edge.server.api_tasks import versions_of
from qprompt_edge.server.calls import Call, Reply, Stream
from qprompt_edge.server.jobs import ENDED, Job
from qprompt_edge.server.limits import STREAMS
from qprompt_edge.server.refusal import Refusal
from qprompt_edge.server.state import State

_LOOK_SECONDS = 0.1
_ALIVE_SECONDS = 15.0


def adapt(call: Call) -> dict[str, Any]:
    """Adapt to a task's photos, or go on with what was stopped."""
    state = call.state
    task = state.store.task(call.path["task"]).name
    options = call.body.get("options", {})

    def work(job: Job) -> dict[str, Any]:
        with state.store.locked(task) as folder:
            out = versions_of(call, task).next_path()
        job.order = state.engine.order("adapt", {"photos": str(folder), "out": str(out), "options": options})
        facts = job.order.result(job.tell)
        with state.store.locked(task):
            return {"n": versions_of(call, task).keep(out, {**facts, "kind": "adapt"})}

    return {"job": state.jobs.start(task, "adapt", work).id}


def job(call: Call) -> dict[str, Any]:
    """How far a job is."""
    return call.state.jobs.get(call.path["job"]).to_json()


def cancel(call: Call) -> dict[str, Any]:
    """Cancel a job."""
    found = call.state.jobs.get(call.path["job"])
    call.state.jobs.cancel(found)
    return found.to_json()


def events(call: Call) -> Stream:
    """A job's state whenever it changes, until it ends."""
    return Stream(_following(call.state, call.state.jobs.get(call.path["job"]), _entered(call.state)))


def _entered(state: State) -> object:
    """A place among the open streams."""
    if len(state.streams) >= STREAMS:
        raise Refusal(503, f"{STREAMS} streams are open already; close some", retry=5)
    place = object()
    state.streams.add(place)
    return place


async def _following(state: State, job: Job, place: object) -> AsyncIterator[Any]:
    seen, said = -1, time.monotonic()
    try:
        while not state.ending.is_set():
            if job.changes != seen:
                seen, said = job.changes, time.monotonic()
                yield job.to_json()
                if job.state in ENDED:
                    return
            elif time.monotonic() - said > _ALIVE_SECONDS:
                said = time.monotonic()
                yield None
            await asyncio.sleep(_LOOK_SECONDS)
    finally:
        state.streams.discard(place)


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


def predict(call: Call) -> dict[str, Any]:
    """What a photo shows."""
    assert call.upload is not None
    prompt = versions_of(call, call.path["task"]).in_use()
    order = {"prompt": str(prompt), "photo": str(call.upload), "accept": call.query.get("accept")}
    answer: dict[str, Any] = call.state.engine.ask("predict", order)
    return answer
