"""Whatever the worker does, there is an answer in time."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Run, fake_command, finish, start

from lirpa_verify.supervisor import time_limits

Fake = Callable[..., Run]
Files = tuple[Path, Path]


def gone(pid: int, patience: float = 3.0) -> bool:
    end = time.monotonic() + patience
    while time.monotonic() < end:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state == "Z":
            return True
        time.sleep(0.02)
    return False


@pytest.mark.parametrize("worker", ["hang", "hold_lock", "half_message", "flood"])
def test_a_worker_that_never_answers_is_a_timeout_in_time(fake: Fake, tmp_path: Path, worker: str) -> None:
    results = tmp_path / "out.txt"
    run = fake(worker, "--timeout", 1.5, "--results-file", results)
    assert (run.status, run.out, results.read_text()) == (0, "timeout\n", "timeout\n")
    assert 0.5 < run.seconds < 1.5
    assert "Traceback" not in run.err


@pytest.mark.parametrize(
    ("worker", "reason"),
    [("segfault", "SIGSEGV"), ("killed", "memory"), ("exits", "exit status 3")],
)
def test_a_worker_that_dies_is_unknown_with_the_reason(fake: Fake, tmp_path: Path, worker: str, reason: str) -> None:
    results = tmp_path / "out.txt"
    run = fake(worker, "--timeout", 20, "--results-file", results)
    assert (run.status, run.out, results.read_text()) == (0, "unknown\n", "unknown\n")
    assert reason in run.err
    assert "Traceback" not in run.err
    assert run.seconds < 10


def test_a_worker_over_its_memory_budget_is_stopped(fake: Fake) -> None:
    run = fake("hog", "--timeout", 20, FAKE_BUDGET=str(200 << 20))
    assert (run.status, run.out) == (0, "unknown\n")
    assert "out of memory" in run.err
    assert run.seconds < 10


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_worker_and_supervisor(files: Files, tmp_path: Path, number: int, status: int) -> None:
    results, process, pid = hanging(files, tmp_path)
    process.send_signal(number)
    run = finish(process, time.monotonic())
    assert (run.status, run.out, results.read_text()) == (status, "unknown\n", "unknown\n")
    assert "Traceback" not in run.err
    assert gone(pid)


def test_a_killed_supervisor_leaves_neither_a_worker_nor_half_a_file(files: Files, tmp_path: Path) -> None:
    results, process, pid = hanging(files, tmp_path)
    process.kill()
    process.communicate()
    assert gone(pid)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.onnx", "pid", "property.vnnlib"]
    assert not results.exists()


def hanging(files: Files, tmp_path: Path) -> tuple[Path, subprocess.Popen[str], int]:
    """A started run whose worker hangs; the process and the worker's id."""
    results, pid_file = tmp_path / "out.txt", tmp_path / "pid"
    process = start(fake_command("hang", *files, "--results-file", results), FAKE_PID_FILE=str(pid_file))
    end = time.monotonic() + 10
    while not (pid_file.exists() and pid_file.read_text()) and time.monotonic() < end:
        time.sleep(0.02)
    pid = int(pid_file.read_text())
    os.kill(pid, 0)  # it is there
    return results, process, pid


def test_the_supervisor_loads_nothing_heavy(fake: Fake) -> None:
    assert "loaded: []" in fake("modules").err


def test_noise_of_libraries_stays_off_standard_output(fake: Fake) -> None:
    run = fake("prints", "--timeout", 20)
    assert run.out == "unsat\n"
    assert "noise" in run.err


@pytest.mark.parametrize("timeout", [0.1, 1.0, 10.0, 300.0])
def test_the_margins_shrink_with_the_timeout(timeout: float) -> None:
    done_by, kill_at = time_limits(0.0, timeout, 0.06)
    assert 0.6 * timeout < done_by < kill_at < timeout
    assert timeout - done_by <= 2.0


def test_a_crowded_machine_gets_a_larger_margin() -> None:
    assert time_limits(0.0, 20.0, 0.06)[1] == pytest.approx(19.7)
    assert time_limits(0.0, 20.0, 0.8)[1] == pytest.approx(19.2)
    assert time_limits(0.0, 20.0, 5.0)[1] == pytest.approx(19.0)
