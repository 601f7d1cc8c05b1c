"""The queue of long work: one after the other, few at a time, and a failure is one line."""

from collections.abc import Callable, Iterator
from threading import Event

import pytest
from patience import PATIENCE, wait_until

from qprompt_edge.server.jobs import CANCELLED, DONE, ENDED, FAILED, Job, Jobs
from qprompt_edge.server.limits import WAITING_JOBS
from qprompt_edge.server.refusal import Refusal


@pytest.fixture
def gate() -> Iterator[Event]:
    """What work waits for."""
    gate = Event()
    yield gate
    gate.set()


def ended(job: Job) -> str:
    wait_until(lambda: job.state in ENDED)
    return job.state


def test_a_task_has_one_job_at_a_time(gate: Event) -> None:
    jobs = Jobs()
    first = jobs.start("belt", "adapt", lambda _job: gate.wait(PATIENCE))
    assert jobs.start("belt", "adapt", lambda _job: None) is first
    with pytest.raises(Refusal, match="adapt is under way for this task") as caught:
        jobs.start("belt", "check", lambda _job: None)
    assert (caught.value.status, caught.value.retry) == (409, 5)
    assert jobs.of("belt") == first.id
    gate.set()
    assert ended(first) == DONE
    assert jobs.of("belt") is None
    assert ended(jobs.start("belt", "check", lambda _job: 7)) == DONE


def test_few_jobs_wait_and_a_waiting_one_is_cancelled_at_once(gate: Event) -> None:
    jobs = Jobs()
    first = jobs.start("0", "adapt", lambda _job: gate.wait(PATIENCE))
    waiting = [jobs.start(str(n), "adapt", lambda _job: None) for n in range(1, WAITING_JOBS)]
    with pytest.raises(Refusal, match="20 jobs are waiting already") as caught:
        jobs.start("one more", "adapt", lambda _job: None)
    assert (caught.value.status, caught.value.retry) == (429, 30)
    jobs.cancel(waiting[0])
    assert waiting[0].state == CANCELLED
    more = jobs.start("one more", "adapt", lambda _job: None)
    gate.set()
    assert [ended(job) for job in (first, *waiting[1:], more)] == [DONE] * WAITING_JOBS
    assert waiting[0].result is None
    assert waiting[0].state == CANCELLED


def test_jobs_that_ended_long_ago_are_forgotten() -> None:
    jobs = Jobs()
    found = []
    for number in range(105):
        found.append(jobs.start(str(number), "adapt", lambda _job: None))
        ended(found[-1])
    assert jobs.get(found[-1].id) is found[-1]
    with pytest.raises(Refusal, match=r"there is no job .*jobs end with the server"):
        jobs.get(found[0].id)


def raises(error: Exception) -> Callable[[Job], None]:
    def work(_job: Job) -> None:
        raise error

    return work


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (Refusal(422, "no photos\n"), r"no photos\n"),
        (OSError(28, "No space left on device"), "the system refuses: No space left on device"),
        (ZeroDivisionError("ours"), "an internal error; the server's log says more"),
    ],
)
def test_a_failure_is_one_line(error: Exception, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    job = Jobs().start("belt", "adapt", raises(error))
    assert ended(job) == FAILED
    assert job.error == words
    assert ("ZeroDivisionError: ours" in capsys.readouterr().err) == isinstance(error, ZeroDivisionError)
