"""Where jobs run: in processes of this machine, or on a Ray cluster. A job's outcome is the same everywhere.

Each worker opens the backbone once and has the encoded data sets in memory; methods with deep prompts also
read photos, so the machines of a cluster need the data sets under the same paths.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import signal
import socket
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from qprompt_edge.memory import fit_activations
from qprompt_edge.reproduction.jobs import Job, Outcome
from qprompt_edge.reproduction.sets import EncodedSet
from qprompt_edge.reproduction.workbench import Workbench
from qprompt_runtime.backbone import Backbone
from qprompt_runtime.bundle import DEFAULT_BACKBONE
from qprompt_runtime.cores import startable_threads
from qprompt_runtime.deep_backbone import require_deep
from qprompt_runtime.errors import ProviderError, QPromptError
from qprompt_runtime.processor import FLOAT

Outcomes = Generator[Outcome, None, None]
"""Outcomes as they are done; closing it ends the workers."""

LOCAL_CLUSTER, RUNNING_CLUSTER = "local", "auto"
_ANSWER_SECONDS = 10.0


@dataclass(frozen=True)
class BackboneChoice:
    """A backbone that each worker opens for itself.

    Its image tower is the one in floating point on every processor, so that outcomes can be compared.

    Attributes:
        backbone: Name or folder.
        deep: Whether jobs tune deep prompts.
        provider: `auto`, or an execution provider's short name.
        threads: Threads within an operator; with one, outcomes do not depend on the machine's cores.
        max_memory: Most resident memory of a worker in MB of 10^6 bytes; None sets no limit.
    """

    backbone: str | Path = DEFAULT_BACKBONE
    deep: bool = False
    provider: str = "auto"
    threads: int = 1
    max_memory: float | None = None

    def open(self) -> Backbone:
        """Load it.

        Raises:
            QPromptError: It cannot be used, or needs too much memory.
        """
        backbone = Backbone.load(self.backbone, self.provider, self.threads, FLOAT)
        if self.deep:
            require_deep(backbone)
        fit_activations(backbone, self.max_memory, tuning=True, deep=self.deep)
        return backbone


@dataclass(frozen=True)
class WorkerSetup:
    """What a worker is given: see `Workbench`."""

    choice: BackboneChoice
    sets: Mapping[str, EncodedSet]
    training: Mapping[str, Any]

    def open(self) -> Workbench:
        """Load the backbone beside the sets."""
        return Workbench(self.choice.open(), self.sets, self.training)


_OWN_TASKS = 4
"""Threads and processes that a pool of workers needs beside them, at most."""


def possible_processes(wanted: int, note: Callable[[str], None]) -> int:
    """How many jobs can run side by side on this machine.

    As many as wanted, or one where the machine allows no workers.

    Args:
        wanted: At least 1.
        note: Told why it is one.
    """
    if wanted == 1:
        return 1
    try:
        multiprocessing.get_context(
            "spawn"
        ).Lock()  # needs a /dev/shm that can be written, and a process of its own
        reason = "too few processes or threads are allowed"
        if startable_threads(wanted + _OWN_TASKS) == wanted + _OWN_TASKS:
            return wanted
    except (OSError, ImportError) as error:  # ImportError: a Python without semaphores
        reason = getattr(error, "strerror", None) or str(error)
    note(f"jobs run one after the other: this machine starts no workers ({reason})")
    return 1


def run_here(setup: WorkerSetup, jobs: Sequence[Job], processes: int) -> Outcomes:
    """Run jobs on this machine; outcomes come as they are done.

    Args:
        setup: What workers are given.
        jobs: In the order in which they start.
        processes: How many run side by side, at least 1; one runs in this process.

    Raises:
        QPromptError: A job failed because of its input, or a worker was killed.
    """
    processes = min(processes, len(jobs))
    if processes < 2:
        bench = setup.open() if jobs else None
        for job in jobs:
            assert bench is not None
            yield bench.run(job)
        return
    context = multiprocessing.get_context("spawn")
    others = set(multiprocessing.active_children())  # of the caller
    with ProcessPoolExecutor(processes, context, _open_worker, (setup,)) as pool:
        try:
            before = signal.pthread_sigmask(signal.SIG_BLOCK, _INTERRUPT)  # for workers, see _open_worker
            try:
                futures = [pool.submit(_run_in_worker, job) for job in jobs]
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
            for future in as_completed(futures):
                yield future.result()
        except BrokenProcessPool as error:
            raise QPromptError(
                "a worker ended without an answer, perhaps because memory ran out; run the same command "
                "again with fewer --jobs: finished jobs are kept"
            ) from error
        except BaseException:
            for worker in set(multiprocessing.active_children()) - others:
                worker.terminate()  # the pool sees it, ends, and waits for them on leaving
            raise


_INTERRUPT = {signal.SIGINT}
_bench: Workbench | None = None  # of a worker process, which serves one experiment


def _open_worker(setup: WorkerSetup) -> None:
    global _bench
    # the parent tells the user; blocked until now, because a Python that starts would print where it was
    if (
        signal.getsignal(signal.SIGINT) != signal.SIG_IGN
    ):  # as under nohup: then the parent goes on, and so do we
        signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _INTERRUPT)
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    _bench = setup.open()


def _leave_with_parent() -> None:
    """End this worker when its parent was killed, because no process would take its outcomes."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)


def _run_in_worker(job: Job) -> Outcome:
    assert _bench is not None
    return _bench.run(job)


def run_on_ray(setup: WorkerSetup, jobs: Sequence[Job], address: str) -> Outcomes:
    """Run jobs on a Ray cluster, one worker for each of its cores; outcomes come as they are done.

    Args:
        setup: What workers are given.
        jobs: In the order in which they start.
        address: Of the cluster's head, `auto` for the one that runs here, or `local` for a new one on this
            machine.

    Raises:
        ProviderError: Ray is not installed, or the cluster cannot be reached.
        QPromptError: A job failed because of its input, or a worker was killed.
    """
    if not jobs:
        return
    check_ray(address)
    import ray
    from ray.util import ActorPool

    own = {"include_dashboard": False} if address == LOCAL_CLUSTER else {}  # another has one or not
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR", **own)
    except (OSError, ValueError, RuntimeError) as error:
        raise _no_answer(address, error) from error
    try:
        cores = int(ray.cluster_resources().get("CPU", 1))
        if cores < 1:
            raise ProviderError(f"the Ray cluster at {address!r} has no core; start a worker node")
        shared = ray.put(setup)
        worker = ray.remote(num_cpus=1)(_RayWorker)
        pool = ActorPool([worker.remote(shared) for _ in range(min(cores, len(jobs)))])
        yield from pool.map_unordered(lambda actor, job: actor.run.remote(job), jobs)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, QPromptError):
            raise error.cause from error
        raise
    except (ray.exceptions.RayActorError, ray.exceptions.OutOfMemoryError) as error:
        raise QPromptError(
            "a worker of the cluster ended without an answer, perhaps because memory ran out; run the same "
            "command again: finished jobs are kept"
        ) from error
    finally:
        ray.shutdown()


def check_ray(address: str) -> None:
    """Find out early whether jobs can run on a cluster.

    Connects to HOST:PORT itself, because Ray would try for minutes.

    Args:
        address: As for `run_on_ray`.

    Raises:
        ProviderError: Ray is not installed, or no cluster answers.
    """
    try:
        import ray  # noqa: F401
        from ray.util import ActorPool  # noqa: F401
    except ImportError as error:
        raise ProviderError(
            "--ray needs Ray, which is not installed; pip install 'qprompt-edge[cluster]'"
        ) from error
    if address in (LOCAL_CLUSTER, RUNNING_CLUSTER):
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        if not (host and port.isdigit()):
            raise ValueError(f"expected {RUNNING_CLUSTER}, {LOCAL_CLUSTER} or HOST:PORT")
        socket.create_connection((host.strip("[]"), int(port)), _ANSWER_SECONDS).close()
    except (OSError, ValueError, OverflowError) as error:
        raise _no_answer(address, error) from error


def _no_answer(address: str, error: Exception) -> ProviderError:
    return ProviderError(f"no Ray cluster answers at {address!r} ({error}); see `ray status`")


class _RayWorker:
    """An actor on a cluster.

    Its first job opens the backbone, so that a fault of the backbone is that job's error.
    """

    def __init__(self, setup: WorkerSetup) -> None:
        self._setup = setup

    @cached_property
    def _bench(self) -> Workbench:
        return self._setup.open()

    def run(self, job: Job) -> Outcome:
        return self._bench.run(job)
