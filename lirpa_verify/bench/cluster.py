"""Runs tasks on the machines of a Dask cluster.

The cluster is made by Dask's own tools (`dask scheduler`, `dask worker`, `dask ssh`, dask-jobqueue for SLURM
and others); all that is needed here is its address or its scheduler file. Each worker thread of it takes one
instance at a time. What a lost worker was doing, Dask gives to another one; an instance that takes several workers
with it becomes a row. Files are read where they lie: every machine must see them under the same path.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from lirpa_verify.bench.effort import Effort
from lirpa_verify.bench.environment import environment
from lirpa_verify.bench.errors import BenchError, CrewLost, MissingExtra
from lirpa_verify.bench.node import Node, NodeLost
from lirpa_verify.bench.row import Row
from lirpa_verify.bench.runner import Crew
from lirpa_verify.bench.task import Task

_CONNECT = 30.0  # seconds to find the scheduler
_LOOK = 2.0  # seconds between looks at how large the cluster is
_NODES = 2  # processes on one machine that a task may take with it before that becomes its row


@contextmanager
def cluster_crew(address: str, effort: Effort) -> Iterator[Crew]:
    """The workers of the cluster at this address, or of this scheduler file (a name that ends in `.json`)."""
    try:
        from distributed import Client
    except ImportError as error:
        raise MissingExtra("--cluster needs Dask: pip install 'lirpa-verify[cluster]'") from error
    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # what matters to us, we say ourselves
    is_file = address.endswith(".json")
    if is_file and not Path(address).exists():
        raise BenchError(f"--cluster {address}: no such file")  # Dask would wait for it
    where = {"scheduler_file": address} if is_file else {"address": address}
    try:
        client = Client(**where, timeout=_CONNECT, set_as_default=False)
    except (OSError, ValueError) as error:
        raise BenchError(f"--cluster {address}: no scheduler answers: {error}") from error
    try:
        executor = client.get_executor(pure=False)
        machines = client.run(environment)
        yield Crew(executor, partial(run_there, effort), _Size(client), {"cluster": list(machines.values())})
    finally:
        client.close(timeout=5)


@dataclass
class _Size:
    """How many tasks a cluster can do at once: the threads of its workers, which come and go."""

    client: Any
    threads: int = 0
    looked: float = -_LOOK  # time.monotonic()

    def __call__(self) -> int:
        now = time.monotonic()
        if now - self.looked >= _LOOK:
            if self.client.status != "running":
                raise CrewLost(f"the cluster's scheduler is gone (the connection is {self.client.status})")
            try:
                self.threads = sum(self.client.nthreads().values())
            except OSError as error:
                raise CrewLost(f"the cluster's scheduler is gone: {error}") from error
            self.looked = now
        return self.threads


def run_there(effort: Effort, task: Task) -> Row:
    """What a thread of a Dask worker does with a task: hands it to its node, which it keeps for the next one."""
    from distributed import get_worker

    nodes: dict[tuple[int, Effort], Node] = get_worker().__dict__.setdefault("lirpa_bench_nodes", {})
    place = threading.get_ident(), effort
    why = ""
    for _ in range(_NODES):
        node = nodes.get(place)
        if node is None or not node.is_alive:
            node = nodes[place] = Node(effort)
        try:
            return node(task)
        except NodeLost as error:
            node.end()
            why = str(error)
    return Row("crash", 0.0, detail=why)
