"""The same run on a Dask cluster of several worker processes, one of which is killed."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest
from bench_helpers import EXAMPLES, bench, database_with, results, suite

from lirpa_verify.bench.effort import Effort
from lirpa_verify.bench.node import Node, NodeLost
from lirpa_verify.bench.runner import run_tasks
from lirpa_verify.bench.store import Store
from lirpa_verify.bench.task import Task

distributed = pytest.importorskip("distributed")

SLOW_TOOL = 'echo start "$4" $$ >> {log}; sleep 0.6; echo unsat > "$5"'


@pytest.fixture
def tool(tmp_path: Path) -> Path:
    """Scripts that note which instance they run and take their time."""
    folder = tmp_path / "tool"
    folder.mkdir()
    (folder / "prepare_instance.sh").write_text("exit 0\n")
    (folder / "run_instance.sh").write_text(SLOW_TOOL.format(log=tmp_path / "log") + "\n")
    return folder


def test_a_lost_workers_instance_is_run_elsewhere(tmp_path: Path, tool: Path) -> None:
    from test_bench_database import Silent

    from lirpa_verify.bench.cluster import cluster_crew

    db, session, tasks = database_with(tmp_path / "db", 8)
    for task in tasks:
        for name in (task.model, task.property):
            Path(name).parent.mkdir(exist_ok=True)
            Path(name).write_text("content")
    store, screen = Store(db, session), Silent()
    with distributed.LocalCluster(
        n_workers=3, threads_per_worker=1, dashboard_address=None, local_directory=str(tmp_path / "dask")
    ) as cluster:
        victim = next(iter(cluster.workers.values())).pid
        killer = threading.Thread(target=_kill_when_busy, args=(tmp_path / "log", victim))
        with cluster_crew(cluster.scheduler_address, Effort(cold=True, scripts=str(tool))) as crew:
            assert crew.size() == 3
            assert len(crew.facts["cluster"]) == 3
            killer.start()
            others = run_tasks(tasks, crew, store, screen, lambda: False)
        killer.join()
    assert store.close(10.0) == 0
    assert others == []
    assert [verdict for _, verdict in results(tmp_path / "db")] == ["unsat"] * 8
    started = [line.split()[1] for line in (tmp_path / "log").read_text().splitlines()]
    assert len(set(started)) == 8
    assert len(started) > 8  # what the lost worker was at was started again


def _kill_when_busy(log: Path, pid: int) -> None:
    """Kill a Dask worker as soon as one of its grandchildren runs an instance."""
    while True:
        for line in log.read_text().splitlines() if log.exists() else ():
            if _has_ancestor(int(line.split()[2]), pid):
                os.kill(pid, signal.SIGKILL)
                return
        time.sleep(0.02)


def _has_ancestor(pid: int, ancestor: int) -> bool:
    while pid > 1:
        if pid == ancestor:
            return True
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            return False
    return False


def test_a_node_does_tasks_and_its_loss_is_noticed() -> None:
    node = Node(Effort())
    task = Task(1, "c", "m", "p", 0, str(EXAMPLES / "digits.onnx"), str(EXAMPLES / "digits_fragile.vnnlib"), 30.0, "")
    assert node(task).verdict == "sat"
    node._process.kill()
    with pytest.raises(NodeLost):
        node(task)
    assert not node.is_alive


def test_addresses_where_no_cluster_is(tmp_path: Path) -> None:
    file = suite(tmp_path, [(EXAMPLES / "digits.onnx", EXAMPLES / "digits_fragile.vnnlib", 30)])
    run = bench("run", file, "--db", tmp_path / "db", "--cluster", tmp_path / "none.json")
    assert run.status == 2
    assert f"--cluster {tmp_path}/none.json: no such file" in run.err
    assert sys.platform != "linux" or run.seconds < 20
