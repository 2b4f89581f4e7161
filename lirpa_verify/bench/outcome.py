"""Runs as they are read back from a database, for everything that looks at results."""

from __future__ import annotations

import json
import sqlite3
import statistics
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lirpa_verify.bench.database import open_database
from lirpa_verify.bench.errors import DatabaseError


@dataclass(frozen=True)
class Outcome:
    """What a run has to say about one instance."""

    category: str
    onnx: str
    vnnlib: str
    expected: str
    timeout: float | None
    verdict: str  # one of row.VERDICTS
    seconds: float
    prepare_seconds: float | None = None
    detail: str = ""
    checked: str = ""  # what `lirpa-bench check` found of the witness, "" if it did not look
    repeats: int = 1

    @property
    def solved(self) -> bool:
        return self.verdict in ("sat", "unsat")

    @property
    def key(self) -> tuple[str, str, str]:
        return self.category, self.onnx, self.vnnlib


@dataclass(frozen=True)
class Run:
    """A run with its outcomes, in the order of its suite; `open` is how many tasks have none yet."""

    name: str
    options: dict[str, Any]
    outcomes: list[Outcome]
    open: int = 0
    sessions: list[dict[str, Any]] = field(default_factory=list)  # environments that differ


def find_run(text: str, database: Path) -> Run:
    """`NAME` of the database, or `FILE:NAME`, or `FILE` with a single run in it."""
    file, _, name = text.rpartition(":")
    if file and Path(file).exists():
        return load_run(open_database(Path(file)), name, Path(file))
    if Path(text).is_file():
        db = open_database(Path(text))
        names = run_names(db)
        if len(names) != 1:
            raise DatabaseError(f"{text}: holds the runs {', '.join(names) or '(none)'}; say {text}:NAME")
        return load_run(db, names[0], Path(text))
    return load_run(open_database(database), text, database)


def run_names(db: sqlite3.Connection) -> list[str]:
    return [name for (name,) in db.execute("SELECT name FROM run ORDER BY id")]


def run_id(db: sqlite3.Connection, name: str, file: Path) -> int:
    row = db.execute("SELECT id FROM run WHERE name = ?", (name,)).fetchone()
    if row is None:
        raise DatabaseError(f"{file}: no run '{name}'; there are {', '.join(run_names(db)) or 'none'}")
    return int(row[0])


def load_run(db: sqlite3.Connection, name: str, file: Path) -> Run:
    """Everything about a run, repeats merged."""
    run = run_id(db, name, file)
    (options,) = db.execute("SELECT options FROM run WHERE id = ?", (run,)).fetchone()
    rows = db.execute(
        "SELECT category, onnx, vnnlib, expected, timeout, verdict, seconds, prepare_seconds, result.detail,"
        " coalesce(outcome, '') FROM task JOIN result ON result.task = task.id"
        " LEFT JOIN checked ON checked.task = task.id WHERE run = ? ORDER BY repeat, task.id",
        (run,),
    )
    outcomes = merged(Outcome(*row) for row in rows)
    (tasks,) = db.execute("SELECT count(*) FROM task WHERE run = ?", (run,)).fetchone()
    environments: list[dict[str, Any]] = []
    for (text,) in db.execute(
        "SELECT environment FROM session WHERE run = ? AND id IN (SELECT session FROM result) ORDER BY id", (run,)
    ):
        facts = {key: value for key, value in json.loads(text).items() if key not in ("arguments", "free memory, GiB")}
        if facts not in environments:
            environments.append(facts)
    return Run(name, json.loads(options), outcomes, tasks - sum(o.repeats for o in outcomes), environments)


def merged(outcomes: Iterable[Outcome]) -> list[Outcome]:
    """One outcome per instance: of repeats the worst verdict counts, and the median of its times."""
    groups: dict[tuple[str, str, str], list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        groups[outcome.key].append(outcome)
    return [_worst(group) for group in groups.values()]


def _worst(group: list[Outcome]) -> Outcome:
    verdicts = {outcome.verdict for outcome in group}
    open_ones = [outcome for outcome in group if not outcome.solved]
    wrong = [outcome for outcome in group if outcome.solved and outcome.expected not in ("", outcome.verdict)]
    worst = (wrong or open_ones or group)[0]
    same = [outcome.seconds for outcome in group if outcome.verdict == worst.verdict]
    detail = worst.detail
    if len(verdicts) > 1:
        counts = ", ".join(f"{sum(o.verdict == v for o in group)} times {v}" for v in sorted(verdicts))
        detail = f"{counts}; {detail}" if detail else counts
    return replace(worst, seconds=statistics.median(same), detail=detail, repeats=len(group))
