"""Streams that are closed, full, or read by nobody: the answer still comes in time, to whoever is there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import environment, fake_command, finish, start

Files = tuple[Path, Path]


def unread(files: Files, worker: str, *arguments: object) -> subprocess.Popen[str]:
    return start(fake_command(worker, *files, *arguments))


def until_there(path: Path) -> None:
    end = time.monotonic() + 20
    while not path.exists() and time.monotonic() < end:
        time.sleep(0.01)


def test_a_witness_that_nobody_reads_does_not_outlast_the_timeout(files: Files, tmp_path: Path) -> None:
    results = tmp_path / "out.txt"
    process = unread(files, "big_sat", "--timeout", 5, "--results-file", results)
    assert process.wait(timeout=8) == 1
    assert len(results.read_text().splitlines()) == 150_002
    run = finish(process, time.monotonic())
    assert run.first_line == "sat"
    assert run.err == "lirpa-verify: error: the time is up, but nobody has read the answer\n"


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_write_that_nobody_reads(files: Files, tmp_path: Path, number: int, status: int) -> None:
    results = tmp_path / "out.txt"
    process = unread(files, "big_sat", "--results-file", results)
    until_there(results)
    process.send_signal(number)
    assert process.wait(timeout=5) == status
    assert len(results.read_text().splitlines()) == 150_002


def test_a_signal_leaves_a_reader_the_time_to_read(files: Files, tmp_path: Path) -> None:
    results = tmp_path / "out.txt"
    process = unread(files, "big_sat", "--results-file", results)
    until_there(results)
    process.send_signal(signal.SIGTERM)
    run = finish(process, time.monotonic())
    assert (run.status, run.out) == (0, results.read_text())


def test_messages_that_nobody_reads_do_not_hold_up_the_deadline(files: Files) -> None:
    process = unread(files, "flood", "-vv", "--timeout", 2)
    started = time.monotonic()
    assert process.wait(timeout=5) == 0
    assert time.monotonic() - started < 3
    assert finish(process, started).out == "timeout\n"


def test_a_results_file_that_nobody_reads_does_not_hold_up_the_deadline(files: Files, tmp_path: Path) -> None:
    results = tmp_path / "pipe"
    os.mkfifo(results)
    assert unread(files, "unsat", "--timeout", 2, "--results-file", results).wait(timeout=5) == 1


@pytest.mark.parametrize(("worker", "status", "word"), [("unsat", 0, "unsat\n"), ("bad_input", 2, "error\n")])
@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (1, 2), (0, 1, 2)])
def test_closed_streams(
    files: Files, tmp_path: Path, worker: str, status: int, word: str, closed: tuple[int, ...]
) -> None:
    results = tmp_path / "out.txt"
    shell = 'exec "$@" ' + " ".join(f"{number}>&-" for number in closed)
    command = ["bash", "-c", shell, "bash", *fake_command(worker, *files, "-v", "--results-file", results)]
    run = finish(start(command), time.monotonic())
    assert (run.status, results.read_text()) == (status, word)
    assert run.out == ("unsat\n" if worker == "unsat" and 1 not in closed else "")
    assert "Traceback" not in run.err


def test_no_room_for_messages_costs_no_verdict(files: Files) -> None:
    with open("/dev/full", "w") as full:
        process = subprocess.run(
            fake_command("unknown", *files, "-vv"),
            stdout=subprocess.PIPE,
            stderr=full,
            text=True,
            env=environment(),
            check=False,
        )
    assert (process.returncode, process.stdout) == (0, "unknown\n")


@pytest.mark.parametrize("arguments", [["operators"], ["--help"], ["supports", "--vnnlib-versions"]])
def test_a_full_disk_is_one_line(arguments: list[str]) -> None:
    with open("/dev/full", "w") as full:
        process = subprocess.run(
            [sys.executable, "-m", "lirpa_verify", *arguments],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
            check=False,
        )
    assert process.returncode == 1
    assert "No space left" in process.stderr and len(process.stderr.splitlines()) == 1
