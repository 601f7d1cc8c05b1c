"""The queue of long work, without a server."""

from threading import Event
from typing import Any

import pytest

pytest.importorskip("starlette")

from qprompt_edge.server.engine import Cancelled
from qprompt_edge.server.jobs import Job, Jobs


class StoppableOrder:
    """An order that is done only if nobody cancels it."""

    cancelled = False

    def cancel(self) -> None:
        self.cancelled = True

    def result(self, _tell: Any) -> str:
        if self.cancelled:
            raise Cancelled
        return "done"


def test_a_job_that_is_cancelled_before_it_has_an_order_cancels_that() -> None:
    jobs, order, running, go_on, told = Jobs(), StoppableOrder(), Event(), Event(), Event()

    def work(job: Job) -> str:
        running.set()
        assert go_on.wait(60)
        try:
            return job.wait(order)  # type: ignore[arg-type]
        finally:
            told.set()

    job = jobs.start("belt", "adapt", work)
    assert running.wait(60)
    jobs.cancel(job)
    go_on.set()
    assert told.wait(60)
    assert order.cancelled
    last = jobs.start("other", "adapt", lambda _job: None)  # it runs when the first has ended
    while last.state != "done":
        told.wait(0.01)
    assert job.state == "cancelled"
