"""The database: one result per task whoever writes, claims that die with their owner, faults that pass."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from bench_helpers import database_with, row

from lirpa_verify.bench import database
from lirpa_verify.bench.alive import Owner, is_gone, this_process
from lirpa_verify.bench.errors import DatabaseError, RunMismatch
from lirpa_verify.bench.instance import Instance
from lirpa_verify.bench.runner import Crew, run_tasks
from lirpa_verify.bench.store import Store
from lirpa_verify.bench.task import Task


class Silent:
    """A screen that only counts."""

    def __init__(self) -> None:
        self.rows: list[tuple[Task, object]] = []
        self.troubles: list[str] = []

    def finished(self, task: Task, row: object) -> None:
        self.rows.append((task, row))

    def tick(self, running: object, trouble: str) -> None:
        self.troubles.append(trouble)

    def close(self) -> None: ...


def verdicts(db: sqlite3.Connection) -> list[tuple[int, str]]:
    return db.execute("SELECT task, verdict FROM result ORDER BY task").fetchall()


def dead_process() -> Owner:
    """A process of this machine that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return Owner(this_process().host, process.pid, "boot 1")


def test_the_first_result_of_a_task_stays(tmp_path: Path) -> None:
    db, session, tasks = database_with(tmp_path / "db", 2)
    database.record(db, session, [(tasks[0].id, row("sat", witness="((X_0 1))\n"))])
    database.record(db, session, [(tasks[0].id, row("unsat")), (tasks[1].id, row("unsat"))])
    assert verdicts(db) == [(tasks[0].id, "sat"), (tasks[1].id, "unsat")]


def test_a_task_is_claimed_once(tmp_path: Path) -> None:
    db, session, tasks = database_with(tmp_path / "db", 1)
    other = database.begin_session(db, 1, this_process(), {})
    assert database.claim(db, session, tasks[0].id)
    assert not database.claim(db, other, tasks[0].id)
    database.record(db, session, [(tasks[0].id, row())])
    assert not database.claim(db, other, tasks[0].id)


def test_claims_die_with_their_owner(tmp_path: Path) -> None:
    db, session, tasks = database_with(tmp_path / "db", 2)
    dead = database.begin_session(db, 1, dead_process(), {})
    alive = database.begin_session(db, 1, this_process(), {})
    assert database.claim(db, dead, tasks[0].id)
    assert database.claim(db, alive, tasks[1].id)
    database.heartbeat(db, session)
    assert database.claim(db, session, tasks[0].id)
    assert not database.claim(db, session, tasks[1].id)


def test_a_session_elsewhere_is_dead_when_it_is_silent_for_long(tmp_path: Path) -> None:
    db, session, tasks = database_with(tmp_path / "db", 1)
    elsewhere = database.begin_session(db, 1, Owner("another machine", 1, ""), {})
    assert database.claim(db, elsewhere, tasks[0].id)
    database.heartbeat(db, session)
    assert not database.claim(db, session, tasks[0].id)
    db.execute("UPDATE session SET heard = heard - 1000 WHERE id = ?", (elsewhere,))
    database.heartbeat(db, session)
    assert database.claim(db, session, tasks[0].id)


def test_owners_are_told_apart_from_their_successors() -> None:
    here = this_process()
    assert is_gone(here) is False
    assert is_gone(dead_process()) is True
    assert is_gone(Owner(here.host, os.getpid(), "an earlier boot")) is True
    assert is_gone(Owner("another machine", 1, "")) is None


def test_a_run_is_not_continued_with_other_options(tmp_path: Path) -> None:
    db = database.open_database(tmp_path / "db", create=True)
    run = database.begin_run(db, "main", {"cap": 20, "seed": 0})
    assert database.begin_run(db, "main", {"cap": 20, "seed": 0}) == run
    with pytest.raises(RunMismatch, match="was started with cap 20, now it is cap 30"):
        database.begin_run(db, "main", {"cap": 30, "seed": 0})


def test_tasks_are_made_once(tmp_path: Path) -> None:
    db, _, tasks = database_with(tmp_path / "db", 3)
    same = [Instance("cat", f"./onnx/net{i}.onnx.gz", f"vnnlib/prop{i}.vnnlib", tmp_path) for i in range(3)]
    again = database.add_tasks(db, 1, same, [5.0] * 3, 2)
    assert [task.id for task in again[:3]] == [task.id for task in tasks]
    assert [task.repeat for task in again] == [0, 0, 0, 1, 1, 1]


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("this is no database, but it is long enough to be one" * 100)
    with pytest.raises(DatabaseError, match="text: file is not a database"):
        database.open_database(tmp_path / "text", create=True)
    sqlite3.connect(tmp_path / "foreign").execute("CREATE TABLE t (x)").connection.close()
    with pytest.raises(DatabaseError, match="not one of lirpa-bench"):
        database.open_database(tmp_path / "foreign", create=True)
    with pytest.raises(DatabaseError, match="no such database"):
        database.open_database(tmp_path / "nothing")


def run_all(store: Store, tasks: list[Task], work: object) -> tuple[Silent, list[Task]]:
    screen = Silent()
    with ThreadPoolExecutor(2) as pool:
        others = run_tasks(tasks, Crew(pool, work, lambda: 2), store, screen, lambda: False)
    return screen, others


def test_results_wait_while_the_disk_is_full(tmp_path: Path) -> None:
    """The limit of pages makes SQLite say what it says on a full disk, at the same places."""
    db, session, tasks = database_with(tmp_path / "db", 30)
    (pages,) = db.execute("PRAGMA page_count").fetchone()
    db.execute(f"PRAGMA max_page_count = {pages}")
    store = Store(db, session)
    noise = "".join(f"((X_{i} {i * 0.7123457})" for i in range(300))
    screen, _ = run_all(store, tasks, lambda task: row("sat", witness=noise))
    assert len(screen.rows) == 30  # the run went on
    assert any("full" in trouble for trouble in screen.troubles)
    assert store.close(0.0) > 0
    db.execute("PRAGMA max_page_count = 10000")
    assert store.close(10.0) == 0
    assert verdicts(db) == [(task.id, "sat") for task in tasks]


def test_results_wait_while_another_process_holds_the_database(tmp_path: Path) -> None:
    db, session, tasks = database_with(tmp_path / "db", 4)
    db.execute("PRAGMA busy_timeout = 50")
    store = Store(db, session)
    holder = sqlite3.connect(tmp_path / "db", isolation_level=None, check_same_thread=False)
    holder.execute("BEGIN EXCLUSIVE")
    done = threading.Semaphore(0)

    def work(task: Task) -> object:
        done.release()
        return row()

    def let_go() -> None:
        for _ in tasks:  # after the last of them was run without the database
            done.acquire()
        holder.execute("COMMIT")

    thread = threading.Thread(target=let_go)
    thread.start()
    screen, others = run_all(store, tasks, work)
    thread.join()
    assert others == []
    assert any("locked" in trouble for trouble in screen.troubles)
    assert store.close(10.0) == 0
    assert len(verdicts(db)) == 4


def test_work_that_raises_is_a_row(tmp_path: Path) -> None:
    db, session, tasks = database_with(tmp_path / "db", 2)

    def work(task: Task) -> object:
        if task.id == tasks[0].id:
            raise RuntimeError("a fault")
        return row()

    store = Store(db, session)
    run_all(store, tasks, work)
    assert store.close(10.0) == 0
    assert verdicts(db) == [(tasks[0].id, "crash"), (tasks[1].id, "unsat")]
    assert db.execute("SELECT detail FROM result").fetchone() == ("RuntimeError: a fault",)


def test_two_runs_share_the_work(tmp_path: Path) -> None:
    """Two sessions in two threads, each with a connection of its own: every task is run exactly once."""
    database_with(tmp_path / "db", 40)[0].close()
    ran: list[int] = []

    def session() -> None:
        db = database.open_database(tmp_path / "db")
        store = Store(db, database.begin_session(db, 1, this_process(), {}))
        same = [Instance("cat", f"onnx/net{i}.onnx", f"vnnlib/prop{i}.vnnlib", tmp_path) for i in range(40)]
        tasks = database.add_tasks(db, 1, same, [5.0] * 40, 1)

        def work(task: Task) -> object:
            ran.append(task.id)
            return row()

        run_all(store, tasks, work)
        assert store.close(10.0) == 0

    threads = [threading.Thread(target=session) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    db = database.open_database(tmp_path / "db")
    assert len(verdicts(db)) == 40
    assert len(ran) == len(set(ran)) == 40
    assert db.execute("SELECT count(*) FROM claim").fetchone() == (0,)
    assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
