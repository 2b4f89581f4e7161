"""Runs a task as the competition does: its scripts, each in a process of its own, timed as a whole.

Anybody's tool with `prepare_instance.sh` and `run_instance.sh` can be run like this. Files are handed
over unpacked, `run_instance.sh` gets SIGTERM when the time is up and SIGKILL a little later, and what
it has spawned goes with it. The memory of all of that together is watched.
"""

from __future__ import annotations

import contextlib
import ctypes
import gzip
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from lirpa_verify.bench.effort import Effort
from lirpa_verify.bench.instance import plain
from lirpa_verify.bench.row import Row
from lirpa_verify.bench.task import Task
from lirpa_verify.files import missing_file
from lirpa_verify.memory import budget_bytes, held_bytes

PREPARE_TIMEOUT = 600.0  # seconds, the competition's
_GRACE = 5.0  # seconds between SIGTERM and SIGKILL
_TICK = 0.1
_WORDS = {
    "sat": "sat",
    "violated": "sat",
    "unsat": "unsat",
    "holds": "unsat",
    "unknown": "unknown",
    "timeout": "timeout",
    "timed-out": "timeout",
    "error": "error",
}
_GZIP_MAGIC = b"\x1f\x8b"


@dataclass(frozen=True)
class Ended:
    """How a script ended."""

    status: int
    seconds: float
    why: str = ""  # "timeout" or "memory" if it was ended


@dataclass
class ColdStarts:
    """Starts the scripts; unpacked files are kept for the whole run. Safe to use from several threads."""

    effort: Effort
    scratch: Path  # a folder for unpacked files and results
    unpacked: dict[str, Path] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, task: Task) -> Row:
        missing = missing_file(task.model, task.property)
        if missing is not None:
            return Row("error", 0.0, detail=missing.message)
        try:
            with self.lock:
                files = [str(self._unpack(task.model)), str(self._unpack(task.property))]
        except (OSError, EOFError) as error:
            return Row("error", 0.0, detail=f"cannot unpack {task.model} or {task.property}: {error}")
        descriptor, results = tempfile.mkstemp(dir=self.scratch, suffix=".txt")
        os.close(descriptor)
        with tempfile.TemporaryFile() as log:
            row = self._sequence(task, files, Path(results), log.fileno())
        Path(results).unlink()
        return row

    def _sequence(self, task: Task, files: list[str], results: Path, log: int) -> Row:
        prepared = self._script("prepare_instance.sh", [task.category, *files], PREPARE_TIMEOUT, log)
        if prepared.why or prepared.status:
            why = prepared.why or f"status {prepared.status}"
            verdict = "memout" if prepared.why == "memory" else "error"
            return Row(verdict, 0.0, prepared.seconds, f"prepare_instance.sh ended with {why}: {_last_line(log)}")
        arguments = [task.category, *files, str(results), f"{task.timeout:g}"]
        ended = self._script("run_instance.sh", arguments, task.timeout, log)
        return _row(ended, results.read_text(errors="replace"), task.timeout, prepared.seconds, _last_line(log))

    def _script(self, name: str, arguments: list[str], timeout: float, log: int) -> Ended:
        start = time.monotonic()
        process = subprocess.Popen(
            ["bash", str(Path(self.effort.scripts, name)), "v1", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=self.effort.scripts,
            start_new_session=True,
            preexec_fn=_die_with_parent,
        )
        why = _watch(process, start + timeout, budget_bytes() if self.effort.memory is None else self.effort.memory)
        seconds = time.monotonic() - start
        _end_group(process.pid)
        process.wait()
        return Ended(process.returncode, seconds, why)

    def _unpack(self, name: str) -> Path:
        """The file itself, or an unpacked copy of it if it is compressed."""
        if name not in self.unpacked:
            path = Path(name) if os.path.exists(name) else Path(name + ".gz")
            with path.open("rb") as file:
                packed = file.read(2) == _GZIP_MAGIC
            if packed:
                folder = Path(self.scratch, str(len(self.unpacked)))
                folder.mkdir()
                path = folder / Path(plain(name)).name
                path.write_bytes(
                    gzip.decompress((Path(name) if os.path.exists(name) else Path(name + ".gz")).read_bytes())
                )
            self.unpacked[name] = path.absolute()
        return self.unpacked[name]


_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


def _die_with_parent() -> None:
    if _LIBC is not None:
        _LIBC.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def _watch(process: subprocess.Popen[bytes], until: float, memory: int | None) -> str:
    """Wait for the end of the process; "timeout" or "memory" if it did not come to it by itself."""
    while True:
        try:
            process.wait(max(0.0, min(_TICK, until - time.monotonic())))
            return ""
        except subprocess.TimeoutExpired:
            pass
        if time.monotonic() >= until:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_GRACE)
            return "timeout"
        if memory is not None and sum(held_bytes(pid) or 0 for pid in _session(process.pid)) > memory:
            return "memory"


def _session(leader: int) -> list[int]:
    """The processes of a session."""
    members = []
    for name in os.listdir("/proc") if sys.platform == "linux" else ():
        if name.isdigit():
            with contextlib.suppress(OSError):
                if os.getsid(int(name)) == leader:
                    members.append(int(name))
    return members


def _end_group(leader: int) -> None:
    """End what a script has left behind, also what has a process group of its own."""
    for pid in _session(leader):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


def _row(ended: Ended, text: str, timeout: float, prepare_seconds: float, said: str) -> Row:
    """The row for a finished `run_instance.sh`, by the rules of the competition's own script."""
    if ended.why == "memory":
        return Row("memout", ended.seconds, prepare_seconds, "out of memory: ended")
    if ended.why == "timeout" or ended.seconds > timeout:
        return Row("timeout", ended.seconds, prepare_seconds, "the time is up")
    if ended.status < 0:
        return Row("crash", ended.seconds, prepare_seconds, f"ended by {signal.Signals(-ended.status).name}: {said}")
    if ended.status > 0:
        return Row("error", ended.seconds, prepare_seconds, f"run_instance.sh ended with status {ended.status}: {said}")
    first, _, rest = text.strip().partition("\n")
    verdict = _WORDS.get(first.strip().lower())
    if verdict is None:
        what = f"the results file begins with {first[:40]!r}" if first else "the results file is empty"
        return Row("error", ended.seconds, prepare_seconds, what)
    detail = "" if verdict in ("sat", "unsat") else said
    return Row(verdict, ended.seconds, prepare_seconds, detail, rest.strip() + "\n" if verdict == "sat" else "")


def _last_line(log: int) -> str:
    """The last line that the scripts have written, at most 300 characters of it."""
    size = os.lseek(log, 0, os.SEEK_END)
    lines = os.pread(log, 4096, max(0, size - 4096)).decode(errors="replace").split("\n")
    return next((line.strip()[-300:] for line in reversed(lines) if line.strip()), "")
