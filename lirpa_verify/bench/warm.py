"""Runs a task in a fresh process forked from one that has everything imported.

The process is thrown away after its task: no instance sees what another one left behind, and one that
crashes, hangs or eats the memory takes nothing with it. What makes it warm is the fork server, whose
imports it shares, and the cache of recorded networks, which is filled before the clock starts, as the
competition's `prepare_instance.sh` does.
"""

from __future__ import annotations

import multiprocessing
import resource
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

from lirpa_verify.bench.effort import Effort
from lirpa_verify.bench.row import Row
from lirpa_verify.bench.task import Task
from lirpa_verify.files import missing_file
from lirpa_verify.memory import budget_bytes
from lirpa_verify.messages import Answer, BadInput, Failure, Job, Log, News, Outcome
from lirpa_verify.results import answer_text
from lirpa_verify.supervisor import Limits, Work, supervise, time_limits

PREPARE_TIMEOUT = 300.0  # seconds, as `prepare_instance.sh`
_ERROR_LEVEL = 40  # of logging: nobody reads the log of a worker here


def work(job: Job, connection: Connection, memory: int | None) -> None:
    """What a warm worker does: the verifier's own work, under a limit that the kernel keeps.

    The supervisor looks at the memory ten times a second; `RLIMIT_DATA` stops what is faster.
    """
    from lirpa_verify import worker
    from lirpa_verify.bench.preload import SERVER

    if memory is not None:
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        resource.setrlimit(resource.RLIMIT_DATA, (memory, hard))
    worker.work(job, connection, SERVER)


@dataclass
class WarmWorkers:
    """A fork server and what it has prepared; safe to use from several threads."""

    effort: Effort
    context: Any
    work: Callable[..., None]  # of (job, connection, memory)
    prepared: dict[str, float] = field(default_factory=dict)  # model -> seconds it took
    locks: dict[str, threading.Lock] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, task: Task) -> Row:
        """Prepare the model if it is new, then run the task."""
        missing = missing_file(task.model, task.property)
        if missing is not None:
            return Row("error", 0.0, detail=missing.message)
        prepare_seconds = self._prepare(task)
        start = time.monotonic()
        done_by, kill_at = time_limits(start, task.timeout, start)
        job = Job(
            task="verify",
            models={"": task.model},
            property=task.property,
            deadline=done_by,
            method=self.effort.method,
            device=self.effort.device,
            seed=self.effort.seed,
            log_level=_ERROR_LEVEL,
        )
        outcome = self._supervised(job, kill_at)
        return row_of(outcome, time.monotonic() - start, task.timeout, prepare_seconds)

    def _prepare(self, task: Task) -> float:
        """Seconds spent on filling the cache with the task's model: all of them for its first task, then none."""
        with self.lock:
            lock = self.locks.setdefault(task.model, threading.Lock())
        with lock:
            if task.model in self.prepared:
                return 0.0
            start = time.monotonic()
            done_by, kill_at = time_limits(start, PREPARE_TIMEOUT, start)
            job = Job(task="prepare", models={"": task.model}, property="", deadline=done_by, log_level=_ERROR_LEVEL)
            self._supervised(job, kill_at)  # a model that cannot be prepared is the run's to report
            self.prepared[task.model] = time.monotonic() - start
            return self.prepared[task.model]

    def _supervised(self, job: Job, kill_at: float) -> Outcome:
        memory = budget_bytes() if self.effort.memory is None else self.effort.memory
        work: Work = partial(self.work, memory=self.effort.memory)
        return supervise(job, work, Limits(kill_at, memory), _listen, self.context)


def warm_workers(effort: Effort, work: Callable[..., None] = work) -> WarmWorkers:
    """Start the server. To be called from the main thread, whose end is the server's end.

    The environment that workers see is that of this moment.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["lirpa_verify.bench.preload"])
    first = context.Process(target=_nothing)
    first.start()
    first.join()  # the server answers only after its imports: from here on nobody waits for them
    return WarmWorkers(effort, context, work)


def _nothing() -> None:
    return


def _listen(_message: News | Log | None) -> None:
    return


def row_of(outcome: Outcome, seconds: float, timeout: float, prepare_seconds: float | None) -> Row:
    """The row for what a worker answered, or for why it did not."""
    if isinstance(outcome, Failure):
        return Row("error", seconds, prepare_seconds, f"bug in the verifier: {outcome.message}")
    if isinstance(outcome, BadInput):
        return Row("error", seconds, prepare_seconds, outcome.message)
    if not isinstance(outcome, Answer):
        raise TypeError(f"a verification cannot end with {type(outcome).__name__}")
    verdict = {"memory": "memout", "crash": "crash", "": outcome.verdict}[outcome.cause]
    if verdict in ("sat", "unsat") and seconds > timeout:
        return Row("timeout", seconds, prepare_seconds, f"answered {verdict} after the time was up")
    witness = answer_text(outcome).partition("\n")[2] if verdict == "sat" else ""
    return Row(verdict, seconds, prepare_seconds, outcome.reason, witness, outcome.statistics)
