"""Puts results into the database, and keeps them while it cannot be written.

A full disk or another process that holds the database does not end a run that takes a night: results wait
in memory and are written as soon as that is possible, in the order in which they came.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lirpa_verify.bench import database
from lirpa_verify.bench.row import Row
from lirpa_verify.bench.task import Task

_HEARTBEAT = 10.0  # seconds between signs of life
_RETRY = 1.0  # seconds between attempts to write what waits


@dataclass
class Store:
    """The database as one session sees it; for one thread."""

    db: sqlite3.Connection
    session: int
    waiting: list[tuple[int, Row]] = field(default_factory=list)
    trouble: str = ""  # why the last attempt to write failed
    _next_try: float = 0.0
    _next_heartbeat: float = 0.0

    def note(self, facts: Mapping[str, Any]) -> None:
        """Add to what is recorded of the environment, if that can be written just now."""
        try:
            database.add_facts(self.db, self.session, facts)
        except sqlite3.OperationalError as error:
            self.trouble = str(error)

    def claim(self, task: Task) -> bool:
        """Reserve a task. Where the database cannot be written, it is ours: results of two count once in any case."""
        try:
            return database.claim(self.db, self.session, task.id)
        except sqlite3.OperationalError as error:
            self.trouble = str(error)
            return True

    def put(self, task: Task, row: Row) -> None:
        self.waiting.append((task.id, row))
        self._next_try = 0.0

    def tend(self) -> None:
        """Write what waits and give a sign of life, both when it is time to."""
        now = time.monotonic()
        if self.waiting and now >= self._next_try:
            self._next_try = now + _RETRY
            try:
                database.record(self.db, self.session, self.waiting)
                self.waiting.clear()
                self.trouble = ""
            except sqlite3.OperationalError as error:  # full, locked, read-only, an input or output error
                self.trouble = str(error)
        if now >= self._next_heartbeat:
            self._next_heartbeat = now + _HEARTBEAT
            try:
                database.heartbeat(self.db, self.session)
            except sqlite3.OperationalError as error:
                self.trouble = str(error)

    def close(self, patience: float) -> int:
        """Write the rest, trying for `patience` seconds; how many results could not be written."""
        until = time.monotonic() + patience
        self.tend()
        while self.waiting and time.monotonic() < until:
            time.sleep(_RETRY)
            self.tend()
        try:
            database.end_session(self.db, self.session)
        except sqlite3.OperationalError as error:  # the claims are void as soon as this process has ended
            self.trouble = str(error)
        return len(self.waiting)
