"""The interface to jobs: how far they are, followed as events, cancelled."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

from qprompt_edge.server.calls import Call, Stream
from qprompt_edge.server.jobs import ENDED, Job
from qprompt_edge.server.limits import STREAMS
from qprompt_edge.server.refusal import Refusal
from qprompt_edge.server.state import State

_LOOK_SECONDS = 0.1
_ALIVE_SECONDS = 15.0


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
    check_streams(call.state)
    return Stream(_following(call.state, call.state.jobs.get(call.path["job"])))


def check_streams(state: State) -> None:
    """Refuse one more stream of events where there are many; a stream counts once it has begun.

    Raises:
        Refusal: There are too many.
    """
    if len(state.streams) >= STREAMS:
        raise Refusal(503, f"{STREAMS} streams are open already; close some", retry=5)


async def _following(state: State, job: Job) -> AsyncIterator[Any]:
    seen, said, place = -1, time.monotonic(), object()
    state.streams.add(place)
    try:
        while not state.ending.is_set():
            if job.changes != seen:
                seen, said = job.changes, time.monotonic()
                told = job.to_json()
                yield told
                if told["state"] in ENDED:  # of what was told: the job may have ended since
                    return
            elif time.monotonic() - said > _ALIVE_SECONDS:
                said = time.monotonic()
                yield None
            await asyncio.sleep(_LOOK_SECONDS)
    finally:
        state.streams.discard(place)
