"""What a person or a program sees of a run: a live table, lines, or JSON lines."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import IO, Any

from lirpa_verify.bench.instance import stem
from lirpa_verify.bench.row import Row, mark
from lirpa_verify.bench.task import Task


@dataclass
class Tally:
    """How far a run is."""

    total: Counter[str]  # category -> tasks
    counts: dict[str, Counter[str]] = field(default_factory=dict)  # category -> how many of what
    started: float = field(default_factory=time.monotonic)
    fresh: int = 0  # done by this session

    def add(self, task: Task, verdict: str) -> None:
        self.counts.setdefault(task.category, Counter()).update(["done", verdict, mark(verdict, task.expected)])

    def sum(self) -> Counter[str]:
        return sum(self.counts.values(), Counter())

    def rate(self) -> float:
        """Tasks of this session a second."""
        return self.fresh / max(1e-9, time.monotonic() - self.started)

    def seconds_left(self) -> float | None:
        """At the rate so far."""
        return (self.total.total() - self.sum()["done"]) / self.rate() if self.fresh else None


def tally(tasks: Iterable[Task], done: Mapping[int, tuple[str, float]]) -> Tally:
    """Where a run stands that is continued."""
    tasks = list(tasks)
    counted = Tally(Counter(task.category for task in tasks))
    for task in tasks:
        if task.id in done:
            counted.add(task, done[task.id][0])
    return counted


@dataclass
class Lines:
    """One line per instance, for pipes and logs."""

    tally: Tally
    out: IO[str]
    last_trouble: str = ""

    def finished(self, task: Task, row: Row) -> None:
        count(self.tally, task, row)
        number = f"[{self.tally.sum()['done']}/{self.tally.total.total()}]"
        outcome = f"{row.verdict} {row.seconds:.2f} s {mark(row.verdict, task.expected)}".rstrip()
        why = f"  ({row.detail})" if row.verdict in ("memout", "crash", "error", "unknown") and row.detail else ""
        print(f"{number} {task.category} {name_of(task)} {outcome}{why}", file=self.out, flush=True)

    def tick(self, _running: Iterable[Task], trouble: str) -> None:
        if trouble and trouble != self.last_trouble:
            print(f"lirpa-bench: the database cannot be written ({trouble}); results wait", file=sys.stderr, flush=True)
        self.last_trouble = trouble

    def close(self) -> None:
        print(summary(self.tally), file=self.out, flush=True)


@dataclass
class JsonLines(Lines):
    """One JSON object per instance, and one at the end."""

    def finished(self, task: Task, row: Row) -> None:
        count(self.tally, task, row)
        record = {
            "category": task.category,
            "onnx": task.onnx,
            "vnnlib": task.vnnlib,
            "repeat": task.repeat,
            "timeout": task.timeout,
            "expected": task.expected or None,
            "verdict": row.verdict,
            "mark": mark(row.verdict, task.expected) or None,
            "seconds": round(row.seconds, 4),
            "prepare_seconds": None if row.prepare_seconds is None else round(row.prepare_seconds, 4),
            "detail": row.detail,
            "host": row.host,
        }
        print(json.dumps(record), file=self.out, flush=True)

    def close(self) -> None:
        counts = {key: value for key, value in self.tally.sum().items() if key}
        print(json.dumps({"total": self.tally.total.total(), **counts}), file=self.out, flush=True)


class LiveTable:
    """A table on the terminal that is drawn anew as results come."""

    def __init__(self, tally: Tally) -> None:
        from rich.console import Console  # here, because it takes longer to import than all else
        from rich.live import Live

        self.tally = tally
        self._live = Live(console=Console(stderr=True), auto_refresh=False)
        self._live.start()
        self._last = ""

    def finished(self, task: Task, row: Row) -> None:
        count(self.tally, task, row)
        outcome = f"{row.verdict} in {row.seconds:.2f} s {mark(row.verdict, task.expected)}"
        self._last = f"{task.category} {name_of(task)}: {outcome}"

    def tick(self, running: Iterable[Task], trouble: str) -> None:
        self._live.update(self._table([name_of(task) for task in running], trouble), refresh=True)

    def close(self) -> None:
        self.tick((), "")
        self._live.stop()

    def _table(self, running: list[str], trouble: str) -> Any:
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        table = Table(show_footer=len(self.tally.total) > 1)
        counts, total = self.tally.counts, self.tally.sum()
        columns = ("done", "right", "new", "WRONG", "timeout", "other")
        table.add_column("category", footer="total")
        for name in columns:
            whole = _cell(name, total, self.tally.total.total())
            table.add_column(name, justify="right", footer=whole, style="red" if name == "WRONG" else None)
        for category, size in self.tally.total.items():
            here = counts.get(category, Counter())
            table.add_row(category, *(_cell(name, here, size) for name in columns))
        lines = [summary(self.tally), f"last: {self._last}", "now: " + (", ".join(running) or "nothing")]
        if trouble:
            lines.append(f"the database cannot be written ({trouble}); results wait")
        # The summary first: of a table that is higher than the screen, rich shows the beginning.
        return Group(*(Text(line, no_wrap=True, overflow="ellipsis") for line in lines), table)


def count(tally: Tally, task: Task, row: Row) -> None:
    tally.add(task, row.verdict)
    tally.fresh += 1


def name_of(task: Task) -> str:
    again = f" #{task.repeat + 1}" if task.repeat else ""
    return f"{stem(task.onnx)} {stem(task.vnnlib)}{again}"


def summary(tally: Tally) -> str:
    """One line: how far, how right, how fast, how long."""
    sums = tally.sum()
    other = sums["done"] - sums["sat"] - sums["unsat"] - sums["timeout"]
    parts = [f"{sums['done']} of {tally.total.total()} done", f"{sums['right']} right"]
    parts += [f"{sums['new']} new"] if sums["new"] else []
    parts += [f"{sums['WRONG']} WRONG", f"{sums['timeout']} timeouts", f"{other} undecided for other reasons"]
    if tally.fresh:
        parts.append(f"{60 * tally.rate():.1f} a minute")
    left = tally.seconds_left()
    if left:
        parts.append(f"{clock(left)} left")
    return ", ".join(parts)


def clock(seconds: float) -> str:
    """`1:02:03`"""
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"


def _cell(name: str, counts: Counter[str], size: int) -> str:
    if name == "done":
        return f"{counts['done']}/{size}"
    if name == "other":
        return str(counts["done"] - counts["sat"] - counts["unsat"] - counts["timeout"])
    return str(counts[name])
