"""Long work in a queue: one job at a time, others wait; each can be looked at, followed and cancelled."""

from __future__ import annotations

import contextlib
import secrets
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from queue import SimpleQueue
from threading import Lock, Thread
from typing import Any

from qprompt_edge.server.engine import Cancelled, Lost, Order
from qprompt_edge.server.limits import WAITING_JOBS
from qprompt_edge.server.refusal import Refusal
from qprompt_runtime.errors import QPromptError
from qprompt_runtime.text import printable

QUEUED, RUNNING, DONE, FAILED, CANCELLED = STATES = ("queued", "running", "done", "failed", "cancelled")
ENDED = (DONE, FAILED, CANCELLED)
_KEPT = 100


@dataclass(eq=False)
class Job:
    """One piece of long work.

    Attributes:
        id: Names it.
        task: The task that it is for.
        kind: What it does, for instance `adapt`.
        state: One of `STATES`.
        stage: What is under way, in words.
        done: Steps of the stage that are done.
        total: Its steps; 0 before the first.
        seconds_left: An estimate for the stage; None where there is none yet.
        error: Why it failed.
        result: What came of it.
        notes: Lines for people.
        changes: Counts up with every change.
        order: What the child does for it now.
        cancelled: Whether somebody wants it to stop.
        began: When the stage began, on the monotonic clock.
        first: Its steps that were done by then.
    """

    id: str
    task: str
    kind: str
    state: str = QUEUED
    stage: str | None = None
    done: int = 0
    total: int = 0
    seconds_left: float | None = None
    error: str | None = None
    result: Any = None
    notes: list[str] = field(default_factory=list)
    changes: int = 0
    order: Order | None = None
    cancelled: bool = False
    began: float = 0.0
    first: int = 0

    def to_json(self) -> dict[str, Any]:
        """As the interface gives it."""
        names = (
            "id",
            "task",
            "kind",
            "state",
            "stage",
            "done",
            "total",
            "seconds_left",
            "error",
            "result",
            "notes",
        )
        return {name: getattr(self, name) for name in names}

    def carry_out(self, order: Order) -> Any:
        """Wait for what the child does for this job; its result.

        Raises:
            Refusal: It failed.
            Cancelled: The job was cancelled.
            Lost: The child ended.
        """
        self.order = order
        if self.cancelled:  # before there was an order to cancel
            order.cancel()
        return order.result(self.tell)

    def tell(self, message: dict[str, Any]) -> None:
        """Take a message of the child's: a stage or a note."""
        if "note" in message:
            self.notes.append(message["note"])
        elif "stage" in message:
            now, done, total = time.monotonic(), int(message["done"]), int(message["total"])
            if message["stage"] != self.stage:
                self.stage, self.began, self.first = message["stage"], now, done
            each = (now - self.began) / (done - self.first) if done > self.first else None
            self.done, self.total = done, total
            self.seconds_left = None if each is None else round(each * (total - done), 1)
        self.changes += 1


Work = Callable[[Job], Any]
"""What a job does, in a thread of ours; it gives back the result."""


class Jobs:
    """The queue, and the jobs that ended last."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._jobs: dict[str, Job] = {}
        self._queue: SimpleQueue[tuple[Job, Work]] = SimpleQueue()
        Thread(target=self._run, daemon=True).start()

    def start(self, task: str, kind: str, work: Work) -> Job:
        """Queue a job; where the same is under way for the task, that one.

        Raises:
            Refusal: Another job of the task is under way, or too many wait.
        """
        with self._lock:
            mine = self._of(task)
            if mine is not None and mine.kind == kind:
                return mine
            if mine is not None:
                raise Refusal(
                    409, f"{mine.kind} is under way for this task; wait for it, or cancel it", retry=5
                )
            if sum(job.state not in ENDED for job in self._jobs.values()) >= WAITING_JOBS:
                raise Refusal(429, f"{WAITING_JOBS} jobs are waiting already; try again later", retry=30)
            job = Job(secrets.token_hex(8), task, kind)
            self._jobs[job.id] = job
            ended = [it.id for it in self._jobs.values() if it.state in ENDED]
            for old in ended[: max(0, len(ended) - _KEPT)]:
                del self._jobs[old]
            self._queue.put((job, work))
        return job

    def get(self, job: str) -> Job:
        """A job.

        Raises:
            Refusal: There is none of that id.
        """
        found = self._jobs.get(job)
        if found is None:
            raise Refusal(404, f"there is no job {printable(job)[:80]!r}; jobs end with the server")
        return found

    def of(self, task: str) -> str | None:
        """The id of the job that is under way or waits for a task."""
        with self._lock:
            job = self._of(task)
        return None if job is None else job.id

    def cancel(self, job: Job) -> None:
        """Cancel a job that has not ended; it stops a little later."""
        with self._lock:
            if job.state == QUEUED:
                job.state = CANCELLED
                job.changes += 1
            job.cancelled = True
        if job.order is not None:
            job.order.cancel()

    def _of(self, task: str) -> Job | None:
        return next((job for job in self._jobs.values() if job.task == task and job.state not in ENDED), None)

    def _run(self) -> None:
        while True:
            job, work = self._queue.get()
            with self._lock:
                if job.state != QUEUED:
                    continue
                job.state = RUNNING
                job.changes += 1
            state, error = FAILED, None
            try:
                job.result = work(job)
                state = DONE
            except Cancelled:
                state = CANCELLED
            except (Lost, QPromptError) as failure:
                error = printable(str(failure))
            except OSError as failure:
                error = f"the system refuses: {printable(failure.strerror or str(failure))}"
            except Exception:  # a defect of ours: its trace is for the log
                with contextlib.suppress(OSError):
                    traceback.print_exc(file=sys.stderr)
                error = "an internal error; the server's log says more"
            with self._lock:
                job.state, job.error, job.order, job.seconds_left = state, error, None, None
                job.changes += 1
