"""What a user sees: verdicts, exit statuses, messages, files."""

from __future__ import annotations

import errno
import json
import os
import pty
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Run, command, environment, fake_command

from lirpa_verify import __version__

Fake = Callable[..., Run]


def test_the_verdict_stands_alone_on_the_first_line(fake: Fake, tmp_path: Path) -> None:
    results = tmp_path / "out.txt"
    results.write_text("left over from an earlier run, and longer than the new content")
    run = fake("unsat", "--results-file", results)
    assert (run.status, run.out, results.read_text()) == (0, "unsat\n", "unsat\n")


def test_a_sat_brings_its_witness(fake: Fake, tmp_path: Path) -> None:
    results = tmp_path / "out.txt"
    run = fake("sat", "--results-file", results)
    assert run.status == 0
    assert run.out == "sat\n((X_0 0.25)\n(X_1 -0.5)\n(Y_0 1.75)\n(Y_1 nan))\n"
    assert results.read_text() == run.out
    assert oct(results.stat().st_mode & 0o044) == "0o44"  # others (the harness) may read it


def test_a_large_witness_is_written_quickly(fake: Fake, tmp_path: Path) -> None:
    run = fake("big_sat", "--results-file", tmp_path / "out.txt")
    assert len((tmp_path / "out.txt").read_text().splitlines()) == 150_002
    assert run.seconds < 5


def test_an_unsupported_operator_is_unknown_and_named(fake: Fake) -> None:
    run = fake("unknown")
    assert (run.status, run.out) == (0, "unknown\n")
    assert "operator Foo at node 'bar'" in run.err


def test_json(fake: Fake) -> None:
    record = json.loads(fake("sat", "--json").out)
    assert record["verdict"] == "sat"
    assert record["witness"] == {"x": [0.25, -0.5], "y": [1.75, None]}
    assert record["seconds"] > 0
    record = json.loads(fake("unsat", "--json", "--method", "crown", "--seed", 7, "--device", "cpu").out)
    assert record["statistics"] == {"nodes": 3, "method": "crown", "seed": 7, "device": "cpu", "worst": None}
    assert record["witness"] is None
    record = json.loads(fake("bad_input", "--json").out)
    assert record["verdict"] == "error"
    assert "conv1" in record["reason"]


def test_bounds(fake: Fake) -> None:
    assert fake("ranges", "--bounds").out == "Y_0 -1.5 0.1\nY_1 -inf 2.0\n"
    record = json.loads(fake("ranges", "--bounds", "--json").out)
    assert (record["lower"], record["upper"]) == ([-1.5, None], [0.1, 2.0])


@pytest.mark.parametrize(
    ("options", "shown", "hidden"),
    [
        ([], ["a warning"], ["a detail", "bounds"]),
        (["-v"], ["a warning", "a detail", "bounds", "by interval bounds"], []),
        (["-q"], [], ["a warning", "a detail", "s]"]),
    ],
)
def test_verbosity(fake: Fake, options: list[str], shown: list[str], hidden: list[str]) -> None:
    run = fake("unsat", *options)
    assert run.out == "unsat\n"
    assert all(text in run.err for text in shown)
    assert not any(text in run.err for text in hidden)


def test_a_pipe_gets_no_live_line(fake: Fake) -> None:
    run = fake("hang", "--timeout", 1)
    assert "\x1b" not in run.out + run.err
    assert "hanging" not in run.err


def read_all(leader: int) -> str:
    """What was written to a terminal whose other side is closed."""
    parts = []
    while True:
        try:
            parts.append(os.read(leader, 1 << 16))
        except OSError as error:  # Linux says so at the end
            assert error.errno == errno.EIO
            return b"".join(parts).decode()


def test_a_terminal_gets_a_live_line_that_goes_away(files: tuple[Path, Path]) -> None:
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        fake_command("hang", *files, "--timeout", 2),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=follower,
        text=True,
        env=environment(TERM="xterm", COLUMNS="100"),
    )
    os.close(follower)
    out, _ = process.communicate(timeout=20)
    shown = read_all(leader)
    os.close(leader)
    assert out == "timeout\n"
    assert "hanging  3 open, 0 closed  worst bound -1" in shown
    assert "timeout: the time is up" in shown.splitlines()[-1].rpartition("\x1b")[2]


@pytest.mark.parametrize(("worker", "status", "text"), [("bad_input", 2, "conv1"), ("failure", 1, "division by zero")])
def test_errors_are_one_line_without_debug(fake: Fake, tmp_path: Path, worker: str, status: int, text: str) -> None:
    results = tmp_path / "out.txt"
    run = fake(worker, "--results-file", results)
    assert (run.status, run.out, results.read_text()) == (status, "", "error\n")
    assert text in run.err
    assert len(run.err.splitlines()) == 1
    assert "Traceback" in fake(worker, "--debug").err


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([], "MODEL"),
        (["MODEL"], "PROPERTY"),
        (["MODEL", "PROPERTY", "third"], "third"),
        (["MODEL", "PROPERTY", "--timeout", "soon"], "soon"),
        (["MODEL", "PROPERTY", "--timeout", "0"], "positive"),
        (["MODEL", "PROPERTY", "--timeout", "-3"], "positive"),
        (["MODEL", "PROPERTY", "--timeout", "nan"], "positive"),
        (["MODEL", "PROPERTY", "--method", "magic"], "magic"),
        (["MODEL", "PROPERTY", "--device", "tpu"], "tpu"),
        (["MODEL", "PROPERTY", "--results-file", "/nowhere/at/all"], "/nowhere/at/all"),
        (["MODEL", "PROPERTY", "--speed"], "--speed"),
        (["supports"], "--vnnlib-versions"),
        (["missing.onnx", "PROPERTY"], "missing.onnx: no such file"),
        (["MODEL", "missing.vnnlib"], "missing.vnnlib: no such file"),
        (["/", "PROPERTY"], "/: is a folder"),
    ],
)
def test_bad_usage(files: tuple[Path, Path], arguments: list[str], text: str) -> None:
    names = {"MODEL": str(files[0]), "PROPERTY": str(files[1])}
    run = command(*[names.get(argument, argument) for argument in arguments])
    assert (run.status, run.out) == (2, "")
    assert text in run.err
    assert len(run.err.splitlines()) == 1


@pytest.mark.parametrize("which", [0, 1])
def test_what_is_read_is_not_overwritten(files: tuple[Path, Path], tmp_path: Path, which: int) -> None:
    link = tmp_path / "link"
    link.symlink_to(files[which])
    before = files[which].read_bytes()
    run = command(*map(str, files), "--results-file", str(link))
    assert (run.status, run.out) == (2, "")
    assert f"cannot write {link}: the question is read from it" in run.err
    assert files[which].read_bytes() == before


def test_version_and_help_need_no_torch() -> None:
    run = command("--version")
    assert (run.status, run.out) == (0, f"lirpa-verify, version {__version__}\n")
    imported = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "lirpa_verify", "--version"],
        capture_output=True,
        text=True,
        check=True,
    ).stderr
    assert "click" in imported and not re.search(r"\|\s+torch$", imported, re.MULTILINE)
    run = command("--help")
    assert run.status == 0
    assert "--results-file" in run.out
    assert "--started" not in run.out


def test_time_counts_from_the_start_that_the_caller_names(fake: Fake) -> None:
    run = fake("remaining", "--timeout", 100, "--json", "--started", time.time() - 40)
    assert 50 < json.loads(run.out)["statistics"]["remaining"] < 60


def test_a_results_file_that_is_a_device_stays_one(fake: Fake) -> None:
    assert fake("unsat", "--results-file", "/dev/null").status == 0
    assert not Path("/dev/null").is_file()


def test_a_results_file_behind_a_link_is_replaced_there(fake: Fake, tmp_path: Path) -> None:
    link, target = tmp_path / "link.txt", tmp_path / "target.txt"
    target.write_text("old")
    link.symlink_to(target)
    fake("unsat", "--results-file", link)
    assert link.is_symlink()
    assert target.read_text() == "unsat\n"


def test_a_full_disk_is_an_error_without_a_traceback(files: tuple[Path, Path]) -> None:
    with open("/dev/full", "w") as full:
        process = subprocess.run(
            fake_command("unsat", *files),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
            check=False,
        )
    assert process.returncode == 1
    assert "No space left" in process.stderr
    assert "Traceback" not in process.stderr
