"""The database of runs: one SQLite file, written as results come.

Every result is one transaction, on the disk before the next instance is counted as done (`synchronous =
EXTRA` with a rollback journal: also after a power failure, also on network file systems). A task has
at most one result, whoever writes it: that is the primary key of the table.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lirpa_verify.bench.alive import Owner, is_gone
from lirpa_verify.bench.errors import DatabaseError, RunMismatch
from lirpa_verify.bench.instance import Instance, plain
from lirpa_verify.bench.row import Row
from lirpa_verify.bench.task import Task

_APPLICATION = 0x4C425631  # "LBV1": tells our files from other people's
_WAIT = 5.0  # seconds to wait for another process that writes
_SILENCE = 120.0  # seconds after which a session on another machine counts as dead

_SCHEMA = """
CREATE TABLE run (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, created REAL NOT NULL, options TEXT NOT NULL);
CREATE TABLE session (
    id INTEGER PRIMARY KEY, run INTEGER NOT NULL REFERENCES run, started REAL NOT NULL, heard REAL NOT NULL,
    ended REAL, host TEXT NOT NULL, pid INTEGER NOT NULL, birth TEXT NOT NULL, environment TEXT NOT NULL);
CREATE TABLE task (
    id INTEGER PRIMARY KEY, run INTEGER NOT NULL REFERENCES run,
    category TEXT NOT NULL, onnx TEXT NOT NULL, vnnlib TEXT NOT NULL, repeat INTEGER NOT NULL,
    model TEXT NOT NULL, property TEXT NOT NULL, timeout REAL, expected TEXT NOT NULL,
    UNIQUE (run, category, onnx, vnnlib, repeat));
CREATE TABLE claim (task INTEGER PRIMARY KEY REFERENCES task, session INTEGER NOT NULL REFERENCES session);
CREATE TABLE result (
    task INTEGER PRIMARY KEY REFERENCES task, session INTEGER REFERENCES session, finished REAL NOT NULL,
    verdict TEXT NOT NULL, seconds REAL NOT NULL, prepare_seconds REAL, detail TEXT NOT NULL,
    statistics TEXT NOT NULL, witness BLOB, host TEXT NOT NULL);
CREATE TABLE checked (
    task INTEGER PRIMARY KEY REFERENCES result, at REAL NOT NULL, outcome TEXT NOT NULL, detail TEXT NOT NULL);
"""


def open_database(path: Path, create: bool = False) -> sqlite3.Connection:
    """A connection in autocommit mode; `create` makes the file and its tables where they are missing."""
    if not create and not path.exists():
        raise DatabaseError(f"{path}: no such database")
    try:
        db = sqlite3.connect(path, timeout=_WAIT, isolation_level=None)
        db.execute("PRAGMA foreign_keys = ON")
        db.execute("PRAGMA synchronous = EXTRA")
        with transaction(db) if create else contextlib.nullcontext():  # of two that come at once, one makes the tables
            if create and not db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                for statement in _SCHEMA.split(";\n"):
                    db.execute(statement)
                db.execute(f"PRAGMA application_id = {_APPLICATION}")
        if db.execute("PRAGMA application_id").fetchone()[0] != _APPLICATION:
            raise DatabaseError(f"{path}: is an SQLite database, but not one of lirpa-bench")
    except sqlite3.Error as error:
        raise DatabaseError(f"{path}: {error}") from error
    return db


@contextlib.contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    """All of the block or nothing; takes the right to write at once, so that it cannot fail half-way for that."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        with contextlib.suppress(sqlite3.OperationalError):  # a full disk has rolled back already
            db.execute("ROLLBACK")
        raise
    try:
        db.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.OperationalError):
            db.execute("ROLLBACK")
        raise


def begin_run(db: sqlite3.Connection, name: str, options: Mapping[str, Any]) -> int:
    """The run of that name, made or continued. Raises RunMismatch if it was made with other options."""
    with transaction(db):
        row = db.execute("SELECT id, options FROM run WHERE name = ?", (name,)).fetchone()
        if row is None:
            fields = (name, time.time(), json.dumps(options))
            return int(db.execute("INSERT INTO run (name, created, options) VALUES (?, ?, ?)", fields).lastrowid or 0)
    before = json.loads(row[1])
    changed = [key for key in {**before, **options} if before.get(key) != options.get(key)]
    if changed:
        was = ", ".join(f"{key} {before.get(key)}" for key in changed)
        now = ", ".join(f"{key} {options.get(key)}" for key in changed)
        raise RunMismatch(f"run '{name}' was started with {was}, now it is {now}; --name starts another run")
    return int(row[0])


def add_tasks(
    db: sqlite3.Connection, run: int, instances: Iterable[Instance], timeouts: Sequence[float], repeats: int
) -> list[Task]:
    """The tasks for these instances, made where the run has none of them yet, in order."""
    wanted = []
    with transaction(db):
        for repeat in range(repeats):
            for instance, timeout in zip(instances, timeouts):
                key = (run, instance.category, plain(instance.onnx), plain(instance.vnnlib), repeat)
                rest = (str(instance.model), str(instance.property), timeout, instance.expected)
                db.execute(
                    "INSERT INTO task (run, category, onnx, vnnlib, repeat, model, property, timeout, expected)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
                    " model = excluded.model, property = excluded.property, expected = excluded.expected",
                    (*key, *rest),
                )
                found = db.execute(
                    "SELECT id, category, onnx, vnnlib, repeat, model, property, timeout, expected FROM task"
                    " WHERE (run, category, onnx, vnnlib, repeat) = (?, ?, ?, ?, ?)",
                    key,
                )
                wanted.append(Task(*found.fetchone()))
    return wanted


def begin_session(db: sqlite3.Connection, run: int, owner: Owner, environment: Mapping[str, Any]) -> int:
    now = time.time()
    fields = (run, now, now, owner.host, owner.pid, owner.birth, json.dumps(environment))
    with transaction(db):
        cursor = db.execute(
            "INSERT INTO session (run, started, heard, host, pid, birth, environment) VALUES (?, ?, ?, ?, ?, ?, ?)",
            fields,
        )
    return int(cursor.lastrowid or 0)


def add_facts(db: sqlite3.Connection, session: int, facts: Mapping[str, Any]) -> None:
    """Record more about the environment of a session."""
    if facts:
        with transaction(db):
            (text,) = db.execute("SELECT environment FROM session WHERE id = ?", (session,)).fetchone()
            merged = json.dumps({**json.loads(text), **facts})
            db.execute("UPDATE session SET environment = ? WHERE id = ?", (merged, session))


def end_session(db: sqlite3.Connection, session: int) -> None:
    """Nothing more will come of it: what it has claimed and not done is free for others."""
    with transaction(db):
        db.execute("UPDATE session SET ended = ? WHERE id = ?", (time.time(), session))
        db.execute("DELETE FROM claim WHERE session = ?", (session,))


def heartbeat(db: sqlite3.Connection, session: int) -> None:
    """Say that this session lives, and free what dead ones have claimed."""
    now = time.time()
    with transaction(db):
        db.execute("UPDATE session SET heard = ? WHERE id = ?", (now, session))
        for other, heard, ended, *owner in db.execute(
            "SELECT id, heard, ended, host, pid, birth FROM session WHERE id IN (SELECT session FROM claim)"
        ).fetchall():
            gone = is_gone(Owner(*owner))
            if ended is not None or (now - heard > _SILENCE if gone is None else gone):
                db.execute("DELETE FROM claim WHERE session = ?", (other,))


def claim(db: sqlite3.Connection, session: int, task: int) -> bool:
    """Reserve a task; False if it is done, or another session is at it."""
    with transaction(db):
        if db.execute("SELECT 1 FROM result WHERE task = ?", (task,)).fetchone():
            return False
        return db.execute("INSERT OR IGNORE INTO claim VALUES (?, ?)", (task, session)).rowcount == 1


def record(db: sqlite3.Connection, session: int | None, rows: Iterable[tuple[int, Row]]) -> None:
    """Store results of tasks; where one is there already, that one stays."""
    with transaction(db):
        for task, row in rows:
            fields = (row.finished, row.verdict, row.seconds, row.prepare_seconds, row.detail)
            db.execute(
                "INSERT OR IGNORE INTO result VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (task, session, *fields, json.dumps(row.statistics), row.packed_witness(), row.host),
            )
            db.execute("DELETE FROM claim WHERE task = ?", (task,))


def done_tasks(db: sqlite3.Connection, tasks: Iterable[Task]) -> dict[int, tuple[str, float]]:
    """Verdict and seconds of those tasks that have a result."""
    wanted = {task.id for task in tasks}
    rows = db.execute("SELECT task, verdict, seconds FROM result")
    return {task: (verdict, seconds) for task, verdict, seconds in rows if task in wanted}
