"""`lirpa-bench run`: from a list of instances to rows in the database."""

from __future__ import annotations

import math
import os
import signal
import sqlite3
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType

from lirpa_verify.bench import database
from lirpa_verify.bench.alive import this_process
from lirpa_verify.bench.effort import Effort
from lirpa_verify.bench.environment import environment
from lirpa_verify.bench.errors import BenchError, CrewLost
from lirpa_verify.bench.instance import Instance
from lirpa_verify.bench.runner import Crew, Screen, run_tasks
from lirpa_verify.bench.screen import JsonLines, Lines, LiveTable, tally
from lirpa_verify.bench.store import Store
from lirpa_verify.bench.suite import Selection, find_instances
from lirpa_verify.bench.task import Task
from lirpa_verify.bench.work import local_work

PATIENCE = 600.0  # seconds to wait at the end for a database that cannot be written


@dataclass(frozen=True)
class Plan:
    """One call of `lirpa-bench run`."""

    paths: Sequence[Path]
    database: Path
    name: str
    selection: Selection
    effort: Effort
    timeout: float  # seconds, where the list does not say
    cap: float | None
    repeats: int
    jobs: int
    cluster: str | None
    as_json: bool


def run(plan: Plan) -> int:
    """Do what of the plan is not done yet. Exit status: 0 if every instance has its row in the end."""
    instances = find_instances(plan.paths, plan.selection)
    db = database.open_database(plan.database, create=True)
    options = {**asdict(plan.effort), "timeout": plan.timeout, "cap": plan.cap}
    try:
        run_id = database.begin_run(db, plan.name, options)
        tasks = database.add_tasks(db, run_id, instances, _timeouts(instances, plan), plan.repeats)
        session = database.begin_session(db, run_id, this_process(), {**environment(), "arguments": sys.argv[1:]})
    except sqlite3.Error as error:
        raise BenchError(f"{plan.database}: {error}") from error
    done = database.done_tasks(db, tasks)
    store = Store(db, session)
    store.tend()
    if done:
        print(f"lirpa-bench: run '{plan.name}' goes on; {len(done)} of {len(tasks)} are done", file=sys.stderr)
    screen = _screen(plan, tasks, done)
    stop = _StopSignal()
    todo = [task for task in tasks if task.id not in done]
    others: list[Task] = []
    lost = ""
    try:
        if todo:
            with _crew(plan) as crew:
                store.note(crew.facts)
                others = run_tasks(todo, crew, store, screen, stop)
    except CrewLost as error:
        lost = str(error)
    unwritten = store.close(0.0 if stop() else PATIENCE)
    screen.close()
    return _last_words(stop, lost, others, unwritten, store.trouble)


def _timeouts(instances: Sequence[Instance], plan: Plan) -> list[float]:
    cap = math.inf if plan.cap is None else plan.cap
    return [min(cap, plan.timeout if instance.timeout is None else instance.timeout) for instance in instances]


def _screen(plan: Plan, tasks: Sequence[Task], done: Mapping[int, tuple[str, float]]) -> Screen:
    counted = tally(tasks, done)
    if plan.as_json:
        return JsonLines(counted, sys.stdout)
    return LiveTable(counted) if sys.stdout.isatty() and sys.stderr.isatty() else Lines(counted, sys.stdout)


class _StopSignal:
    """Whether Ctrl-C or SIGTERM asked the run to end; a second one ends it at once."""

    def __init__(self) -> None:
        self.number = 0
        self._before = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self.number = number
        for each, handler in self._before.items():
            signal.signal(each, handler)

    def __call__(self) -> bool:
        return self.number != 0


@contextmanager
def _crew(plan: Plan) -> Iterator[Crew]:
    if plan.cluster is not None:
        from lirpa_verify.bench.cluster import cluster_crew

        with cluster_crew(plan.cluster, plan.effort) as crew:
            yield crew
        return
    os.environ["OMP_NUM_THREADS"] = str(plan.effort.threads)
    with local_work(plan.effort) as work:
        pool = ThreadPoolExecutor(plan.jobs)
        try:
            yield Crew(pool, work, lambda: plan.jobs)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)  # what still runs ends with this process


def _last_words(stop: _StopSignal, lost: str, others: Sequence[Task], unwritten: int, trouble: str) -> int:
    """Say what is open and return the exit status."""
    if lost:
        print(f"lirpa-bench: error: {lost}; the same command continues", file=sys.stderr)
    if unwritten:
        print(f"lirpa-bench: error: {unwritten} results could not be written: {trouble}", file=sys.stderr)
    if others:
        print(f"lirpa-bench: {len(others)} instances are left to another run that has begun them", file=sys.stderr)
    if stop():
        print("lirpa-bench: interrupted; the same command continues", file=sys.stderr)
        return 128 + stop.number
    return 1 if lost or unwritten or others else 0
