"""The loop of a run: hands out tasks, takes results, stores and shows them."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from dataclasses import dataclass, field
from typing import Any, Protocol

from lirpa_verify.bench.errors import CrewLost
from lirpa_verify.bench.row import Row
from lirpa_verify.bench.store import Store
from lirpa_verify.bench.task import Task

_TICK = 0.25  # seconds between looks at everything
_LOOK_AGAIN = 40  # ticks between looks at what other sessions have claimed


class Screen(Protocol):
    """Shows a run."""

    def finished(self, task: Task, row: Row) -> None: ...

    def tick(self, running: Iterable[Task], trouble: str) -> None: ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class Crew:
    """Who does the work: an executor, the function it calls, and how many tasks it can do at once just now."""

    executor: Executor
    work: Callable[[Task], Row]
    size: Callable[[], int]
    facts: Mapping[str, Any] = field(default_factory=dict)  # about where they work


def run_tasks(tasks: Iterable[Task], crew: Crew, store: Store, screen: Screen, stop: Callable[[], bool]) -> list[Task]:
    """Run every task that nobody else has done or is doing, until `stop`; return those that other sessions do.

    Raises CrewLost if the work cannot go on.
    """
    todo = deque(tasks)
    others: list[Task] = []  # claimed by other sessions when we looked
    running: dict[Future[Row], Task] = {}
    ticks = 0
    while (todo or running) and not stop():
        while todo and len(running) < crew.size():
            task = todo.popleft()
            if store.claim(task):
                running[crew.executor.submit(crew.work, task)] = task
            else:
                others.append(task)
        if not running:
            time.sleep(_TICK)  # nobody is there to work, yet or any more
        done, _ = wait(running, timeout=_TICK, return_when=FIRST_COMPLETED)
        for future in done:
            task = running.pop(future)
            row = _result(future)
            store.put(task, row)
            store.tend()  # what is announced is safe, unless the database cannot be written
            screen.finished(task, row)
        store.tend()
        screen.tick(running.values(), store.trouble)
        ticks += 1
        if others and ticks % _LOOK_AGAIN == 0:
            todo.extend(others)  # whoever has claimed them may have died since
            others.clear()
    return others


def _result(future: Future[Row]) -> Row:
    """What the work returned. Whatever it raised instead is a fault of ours, but one row's only."""
    if future.cancelled():
        raise CrewLost("the work was cancelled")
    error = future.exception()
    if error is None:
        return future.result()
    return Row("crash", 0.0, detail=f"{type(error).__name__}: {error}")
