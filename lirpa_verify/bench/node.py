"""A machine of a cluster at work: takes tasks on standard input, runs them, answers on standard output.

A Dask worker starts one of these and talks to it. It is a process apart, because Dask's own workers may
not have children of `multiprocessing`, and because nothing of Dask then touches what is measured. It ends with
its standard input, and on Linux with its parent.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import asdict
from typing import IO

from lirpa_verify.bench.effort import Effort
from lirpa_verify.bench.row import Row
from lirpa_verify.bench.task import Task


class NodeLost(RuntimeError):
    """The node ended without an answer."""


class Node:
    """The other end: a node's process, for one task at a time."""

    def __init__(self, effort: Effort) -> None:
        pipe = subprocess.PIPE
        command = [sys.executable, "-m", "lirpa_verify.bench.node", json.dumps(asdict(effort))]
        environment = {**os.environ, "OMP_NUM_THREADS": str(effort.threads)}
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment)
        self._lock = threading.Lock()

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def __call__(self, task: Task) -> Row:
        """Run a task over there. Raises NodeLost if no answer comes."""
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            raise NodeLost("no pipe to the node")
        with self._lock:
            try:
                stdin.write(json.dumps(asdict(task)) + "\n")
                stdin.flush()
                answer = stdout.readline()
            except (OSError, ValueError) as error:
                raise NodeLost(f"the node is gone: {error}") from error
        if not answer.endswith("\n"):
            raise NodeLost(f"the node ended with status {self._process.wait()}")
        return Row(**json.loads(answer))

    def end(self) -> None:
        self._process.kill()
        self._process.wait()


def serve(lines: IO[str], answers: IO[str], effort: Effort) -> None:
    """Answer every task with its row, a line of JSON each."""
    from lirpa_verify.bench.work import local_work

    with local_work(effort) as work:
        for line in lines:
            answers.write(json.dumps(asdict(work(Task(**json.loads(line))))) + "\n")
            answers.flush()


def main() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # nothing that a library prints may get between the answers
    serve(sys.stdin, answers, Effort(**json.loads(sys.argv[1])))


if __name__ == "__main__":
    main()
