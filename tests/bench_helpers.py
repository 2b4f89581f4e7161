"""Shared by the tests of `lirpa-bench`."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path

from conftest import ROOT, Run, environment, finish, start

from lirpa_verify import worker
from lirpa_verify.bench import database
from lirpa_verify.bench.alive import this_process
from lirpa_verify.bench.instance import Instance
from lirpa_verify.bench.row import Row
from lirpa_verify.bench.task import Task
from lirpa_verify.messages import Job, Prepared

EXAMPLES = ROOT / "examples"


def bench(*arguments: object, limit: float = 120.0, **extra: str) -> Run:
    """Run `lirpa-bench ARGUMENTS` to its end."""
    started = time.monotonic()
    return finish(begin_bench(*arguments, **extra), started, limit)


def begin_bench(*arguments: object, **extra: str) -> subprocess.Popen[str]:
    return start([sys.executable, "-m", "lirpa_verify.bench", *map(str, arguments)], **extra)


def task(number: int = 1, *, model: str = "m.onnx", prop: str = "p.vnnlib", timeout: float = 5.0) -> Task:
    return Task(number, "cat", model, prop, 0, model, prop, timeout, "")


def database_with(path: Path, count: int, name: str = "main") -> tuple[database.sqlite3.Connection, int, list[Task]]:
    """A new database with a run, a session of this process and so many tasks."""
    db = database.open_database(path, create=True)
    run = database.begin_run(db, name, {})
    instances = [Instance("cat", f"onnx/net{i}.onnx", f"vnnlib/prop{i}.vnnlib", path.parent) for i in range(count)]
    tasks = database.add_tasks(db, run, instances, [5.0] * count, 1)
    return db, database.begin_session(db, run, this_process(), {"cores": 1}), tasks


def results(path: Path) -> list[tuple[str, str]]:
    """``(vnnlib, verdict)`` of every result in a database, once for each time that it is there."""
    db = database.open_database(path)
    return db.execute("SELECT vnnlib, verdict FROM result JOIN task ON id = task ORDER BY id").fetchall()


def suite(folder: Path, rows: Iterable[Sequence[object]], name: str = "instances.csv") -> Path:
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(",".join(map(str, row)) + "\n" for row in rows))
    return file


# What a warm worker is replaced by. Each is run in a process of its own and gets what `warm.work` gets.


def hold_lock(job: Job, connection: Connection, memory: int | None) -> None:
    """Ignore the deadline in C code that never gives the interpreter's lock back; leave a file that says so."""
    from lirpa_verify.bench.preload import SERVER

    worker._detach(SERVER)
    _prepared(job, connection)
    Path(job.property + ".begun").write_text("")
    ctypes.PyDLL(None).sleep(600)


def killed(job: Job, connection: Connection, memory: int | None) -> None:
    _prepared(job, connection)
    os.kill(os.getpid(), signal.SIGKILL)


def segfault(job: Job, connection: Connection, memory: int | None) -> None:
    _prepared(job, connection)
    os.kill(os.getpid(), signal.SIGSEGV)


def hog(job: Job, connection: Connection, memory: int | None) -> None:
    """Take more memory than there is to be had, step by step."""
    _prepared(job, connection)
    held = []
    while True:
        held.append(bytearray(b"x") * (8 << 20))
        time.sleep(0.01)


def _prepared(job: Job, connection: Connection) -> None:
    if job.task == "prepare":
        connection.send(Prepared())
        os._exit(0)


def row(verdict: str = "unsat", seconds: float = 1.0, **rest: object) -> Row:
    return Row(verdict, seconds, **rest)  # type: ignore[arg-type]


__all__ = [
    "EXAMPLES",
    "ROOT",
    "begin_bench",
    "bench",
    "database_with",
    "environment",
    "results",
    "row",
    "suite",
    "task",
]
