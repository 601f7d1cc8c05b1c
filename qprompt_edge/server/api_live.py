"""The interface to cameras of the device: answers as events, and the frame that the last one is about."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

from starlette.concurrency import run_in_threadpool

from qprompt_edge.server.api_jobs import check_streams
from qprompt_edge.server.api_tasks import versions_of
from qprompt_edge.server.calls import Call, Reply, Stream
from qprompt_edge.server.refusal import Refusal
from qprompt_edge.server.state import State

_LOOK_SECONDS = 0.05
_ALIVE_SECONDS = 15.0


def live(call: Call) -> Stream:
    """Answers on a camera of the device, until nobody looks."""
    source = _source(call)
    task = call.state.store.task(call.path["task"]).name
    prompt = versions_of(call, task).in_use()
    check_streams(call.state)
    order = {"source": source, "prompt": str(prompt), "accept": call.query.get("accept")}
    return Stream(_answers(call.state, task, source, order))


def frame(call: Call) -> Reply:
    """The frame of the last answer."""
    task = call.state.store.task(call.path["task"]).name
    return Reply(call.state.lives.frame(task, _source(call)), media="image/jpeg")


def _source(call: Call) -> str:
    """A source that the server was started with; a request cannot open any other."""
    cameras = call.state.cameras
    source = call.query.get("source", cameras[0] if cameras else "")
    if source not in cameras:
        named = ", ".join(cameras) or "none; start serve with --camera SOURCE"
        raise Refusal(404, f"that is no camera of this device; there are: {named}")
    return str(source)


async def _answers(state: State, task: str, source: str, order: dict[str, Any]) -> AsyncIterator[Any]:
    look = await run_in_threadpool(state.lives.enter, task, source, order)
    place, seen, said = object(), 0, time.monotonic()
    state.streams.add(place)
    try:
        while not state.ending.is_set():
            if look.count != seen:
                seen, said = look.count, time.monotonic()
                yield look.answer
            elif look.ended:
                return
            elif time.monotonic() - said > _ALIVE_SECONDS:
                said = time.monotonic()
                yield None
            await asyncio.sleep(_LOOK_SECONDS)
    finally:
        state.streams.discard(place)
        state.lives.leave(task, source, look)
