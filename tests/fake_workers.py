"""The command line with a worker that misbehaves: `python fake_workers.py WORKER ARGUMENTS...`."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path

from lirpa_verify import cli, worker
from lirpa_verify.messages import Answer, BadInput, Failure, Job, Log, News, Ranges


def hang(_job: Job, connection: Connection) -> None:
    """Also notes its process id, so that a test can see whether it is still there."""
    worker._detach()
    if "FAKE_PID_FILE" in os.environ:
        Path(os.environ["FAKE_PID_FILE"]).write_text(str(os.getpid()))
    connection.send(News("hanging", open=3, worst=-1.0))
    time.sleep(600)


def hold_lock(_job: Job, _connection: Connection) -> None:
    """Hang in C code that never releases the interpreter's lock."""
    ctypes.PyDLL(None).sleep(600)


def half_message(_job: Job, connection: Connection) -> None:
    """Announce a long message and never finish it."""
    os.write(connection.fileno(), (1 << 20).to_bytes(4, "big") + b"beginning")
    time.sleep(600)


def flood(_job: Job, connection: Connection) -> None:
    while True:
        connection.send(News("flooding"))


def hog(_job: Job, _connection: Connection) -> None:
    held = []
    while True:
        held.append(bytearray(b"x") * (10 << 20))
        time.sleep(0.01)


def segfault(_job: Job, _connection: Connection) -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def killed(_job: Job, _connection: Connection) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def exits(_job: Job, _connection: Connection) -> None:
    os._exit(3)


def bad_input(_job: Job, connection: Connection) -> None:
    connection.send(BadInput("net.onnx: node 'conv1' is odd", "Traceback: here"))


def failure(_job: Job, connection: Connection) -> None:
    connection.send(Failure("ZeroDivisionError: division by zero", "Traceback: here"))


def unsat(job: Job, connection: Connection) -> None:
    connection.send(News("bounds"))
    connection.send(Log(logging.INFO, "a detail"))
    connection.send(Log(logging.WARNING, "a warning"))
    statistics = {"nodes": 3, "method": job.method, "seed": job.seed, "device": job.device, "worst": float("inf")}
    connection.send(Answer("unsat", "by interval bounds", statistics=statistics))


def sat(_job: Job, connection: Connection) -> None:
    connection.send(Answer("sat", "attack", ("0.25", "-0.5"), ("1.75", "nan")))


def big_sat(_job: Job, connection: Connection) -> None:
    connection.send(Answer("sat", "attack", tuple(["0.123456789"] * 150_000), ("1",)))


def unknown(_job: Job, connection: Connection) -> None:
    connection.send(Answer("unknown", "operator Foo at node 'bar' is not supported"))


def ranges(job: Job, connection: Connection) -> None:
    assert job.task == "bounds"
    connection.send(Ranges((-1.5, float("-inf")), (0.1, 2.0)))


def remaining(job: Job, connection: Connection) -> None:
    """Answer with the time that is left."""
    connection.send(Answer("unsat", statistics={"remaining": job.deadline - time.monotonic()}))


def modules(_job: Job, connection: Connection) -> None:
    """Which heavy modules the supervisor had loaded when it forked."""
    heavy = [name for name in ("torch", "numpy", "onnx", "onnxruntime", "rich", "vnnlib") if name in sys.modules]
    connection.send(Answer("unknown", f"loaded: {heavy}"))


def prints(_job: Job, connection: Connection) -> None:
    """A library that writes to standard output, from Python and from C."""
    worker._detach()
    print("noise", flush=True)
    os.write(1, b"more noise\n")
    connection.send(Answer("unsat"))


def main() -> None:
    name, arguments = sys.argv[1], sys.argv[2:]
    if "FAKE_BUDGET" in os.environ:
        cli.budget_bytes = lambda: int(os.environ["FAKE_BUDGET"])  # type: ignore[assignment]
    if name == "engine":
        import fake_engine

        cli.main(arguments, work=fake_engine.work)
    cli.main(arguments, work=globals()[name])


if __name__ == "__main__":
    main()
