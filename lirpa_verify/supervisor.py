"""Watches over the worker: keeps the deadline and the memory budget whatever the worker does.

The worker may hang while it holds the interpreter's lock, run out of memory, or crash. All of that
happens in another process, so an answer can always be given in time.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.process
import queue
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from lirpa_verify.memory import held_bytes
from lirpa_verify.messages import Answer, Job, Log, News, Outcome

_TICK = 0.1  # seconds between looks at the worker's memory and redraws of the live line

Work = Callable[[Job, Connection], None]
Listener = Callable[[News | Log | None], None]  # None: nothing new, but time has passed


@dataclass(frozen=True)
class Limits:
    """When the worker is ended, whatever it is doing."""

    kill_at: float  # time.monotonic()
    memory: int | None  # bytes


def time_limits(start: float, timeout: float, now: float) -> tuple[float, float]:
    """When the worker should be done by itself, and when it is ended, so that the answer is out in time.

    Ending it and writing the answer takes some milliseconds, on a crowded machine a few hundred; how
    long it took from `start` until `now` to come here tells how crowded it is.
    """
    kill_at = start + timeout - min(max(0.3, 0.01 * timeout, now - start), 1.0, 0.25 * timeout)
    return kill_at - min(max(0.2, 0.01 * timeout), 1.0, 0.1 * timeout), kill_at


def supervise(job: Job, work: Work, limits: Limits, listen: Listener, context: Any = None) -> Outcome:
    """Run `work(job, connection)` in a process of its own and return what comes of it.

    `context` is the way of `multiprocessing` to start it: by default a fork of this process.
    """
    if context is None:
        methods = multiprocessing.get_all_start_methods()
        context = multiprocessing.get_context("fork" if "fork" in methods else "spawn")
    receiver, sender = context.Pipe(duplex=False)
    worker = context.Process(target=work, args=(job, sender), daemon=True)
    # Signals wait until the worker is looked after. In the worker they stay blocked: they are for this process.
    held = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM, signal.SIGALRM))
    try:
        worker.start()
    except BaseException:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)
        raise
    try:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)
        sender.close()
        inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        # A thread reads, because a message that never ends must not hold up the deadline.
        threading.Thread(target=_read, args=(receiver, inbox), daemon=True).start()
        return _watch(worker, inbox, limits, listen)
    finally:
        worker.kill()
        # A moment to let go of its memory and the GPU before the next run; not at the deadline's expense.
        worker.join(min(0.5, max(0.0, (limits.kill_at - time.monotonic()) / 2)))


def _read(receiver: Connection, inbox: queue.SimpleQueue[Any]) -> None:
    try:
        while True:
            inbox.put(receiver.recv())
    except (EOFError, OSError):
        inbox.put(None)  # the worker closed its end, or died


def _watch(
    worker: multiprocessing.process.BaseProcess, inbox: queue.SimpleQueue[Any], limits: Limits, listen: Listener
) -> Outcome:
    next_look = time.monotonic()
    while True:
        now = time.monotonic()
        if now >= next_look:
            held = held_bytes(worker.pid or 0) if limits.memory is not None else None
            if limits.memory is not None and held is not None and held > limits.memory:
                return Answer("unknown", reason=f"out of memory: stopped at {held / 2**30:.1f} GiB", cause="memory")
            listen(None)
            next_look = now + _TICK
        if now >= limits.kill_at and (inbox.empty() or now >= limits.kill_at + _TICK / 2):  # a flood is no answer
            return Answer("timeout", reason="the time is up")
        try:
            message = inbox.get(timeout=max(0.0, min(next_look, limits.kill_at) - now))
        except queue.Empty:
            continue
        if message is None:
            return _died(worker)
        if isinstance(message, Outcome):
            return message
        listen(message)


def _died(worker: multiprocessing.process.BaseProcess) -> Answer:
    """The worker ended without an answer: say why, as far as can be known."""
    worker.join(0.2)
    code = worker.exitcode
    if code is None or code >= 0:
        reason = f"the worker process ended without an answer (exit status {code})"
    elif -code == signal.SIGKILL:
        reason = "the worker process was killed, most likely because memory ran out"
    else:
        reason = f"the worker process crashed ({signal.Signals(-code).name})"
    return Answer("unknown", reason=reason, cause="crash")
