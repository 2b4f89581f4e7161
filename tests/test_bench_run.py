"""`lirpa-bench run` as people use it: killed and continued, on pipes, in JSON, with errors."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest
from bench_helpers import EXAMPLES, begin_bench, bench, results, suite

NAMES = ("robust", "fragile")


@pytest.fixture
def examples(tmp_path: Path) -> Path:
    """Six instances in a list of one's own, two of them twice under other names."""
    rows: list[tuple[str, ...]] = [("category", "onnx", "vnnlib", "timeout", "expected")]
    for i in range(3):
        for name, expected in zip(NAMES, ("unsat", "sat")):
            prop = tmp_path / f"{name}{i}.vnnlib"
            prop.symlink_to(EXAMPLES / f"digits_{name}.vnnlib")
            rows.append((f"digits{i}", str(EXAMPLES / "digits.onnx"), str(prop), "60", expected))
    return suite(tmp_path, rows, "mine.csv")


def children(pid: int) -> list[int]:
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                fields = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == pid:
                found.append(int(name))
    return found


def test_a_run_that_is_killed_goes_on_where_it_was(tmp_path: Path, examples: Path) -> None:
    db = tmp_path / "db.sqlite"
    process = begin_bench("run", examples, "--db", db)
    assert process.stdout is not None
    first = process.stdout.readline()
    assert first.startswith("[1/6] digits0 digits robust0 unsat "), first
    below = [grandchild for child in children(process.pid) for grandchild in [child, *children(child)]]
    process.send_signal(signal.SIGKILL)
    process.communicate()
    before = len(results(db))
    assert 1 <= before < 6
    for _ in range(100):
        if not any(os.path.exists(f"/proc/{pid}") for pid in below):
            break
        time.sleep(0.05)
    assert not [pid for pid in below if os.path.exists(f"/proc/{pid}")]  # nobody works for a dead run
    run = bench("run", examples, "--db", db)
    assert run.status == 0, run.err
    assert f"goes on; {before} of 6 are done" in run.err
    assert len(run.out.splitlines()) == 6 - before + 1  # and the summary
    assert sorted(results(db)) == sorted(
        (str(tmp_path / f"{name}{i}.vnnlib"), verdict)
        for i in range(3)
        for name, verdict in zip(NAMES, ("unsat", "sat"))
    )
    again = bench("run", examples, "--db", db)
    assert again.out.startswith("6 of 6 done, 6 right, 0 WRONG, 0 timeouts")
    assert again.seconds < 3


def test_an_interrupted_run_says_so(tmp_path: Path, examples: Path) -> None:
    process = begin_bench("run", examples, "--db", tmp_path / "db.sqlite")
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "interrupted; the same command continues" in err
    assert len(results(tmp_path / "db.sqlite")) >= 1


def test_json_lines_filters_and_repeats(tmp_path: Path, examples: Path) -> None:
    options = ("--json", "--category", "digits1", "--match", "fragile", "--repeat", 2, "--cap", 30, "--jobs", 2)
    run = bench("run", examples, "--db", tmp_path / "db.sqlite", *options)
    assert run.status == 0, run.err
    first, second, summary = map(json.loads, run.out.splitlines())
    assert {first["repeat"], second["repeat"]} == {0, 1}
    assert first["verdict"] == "sat" and first["mark"] == "right" and first["timeout"] == 30
    assert summary == {"total": 2, "done": 2, "sat": 2, "right": 2}


def test_the_environment_is_recorded(tmp_path: Path, examples: Path) -> None:
    import sqlite3

    db = tmp_path / "db.sqlite"
    assert bench("run", examples, "--db", db, "--first", 1, "--category", "digits0").status == 0
    (text,) = sqlite3.connect(db).execute("SELECT environment FROM session").fetchone()
    facts = json.loads(text)
    assert {"lirpa-verify", "python", "torch", "onnxruntime", "system", "cores", "arguments"} <= set(facts)
    (options,) = sqlite3.connect(db).execute("SELECT options FROM run").fetchone()
    assert json.loads(options)["method"] == "auto"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("run", "nowhere"), "nowhere: no such file or folder"),
        (("run", "."), "no instances.csv in this folder"),
        (("run", ".", "--cap", "0"), "Invalid value for '--cap'"),
        (("report", "--db", "nothing.sqlite"), "nothing.sqlite: no such database"),
        (("compare", "a"), "Missing argument 'B'"),
        (("run", ".", "--cold", "--scripts", "."), "no run_instance.sh"),
    ],
)
def test_errors_are_one_line(tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    (tmp_path / "empty").mkdir()
    changed = [str(tmp_path / "empty") if argument == "." else argument for argument in arguments]
    run = bench(*changed, "--db", tmp_path / "db.sqlite") if "--db" not in changed else bench(*changed)
    assert run.status == 2
    assert run.out == ""
    assert message in run.err and run.err.count("\n") == 1


def test_a_run_is_not_continued_with_other_options(tmp_path: Path, examples: Path) -> None:
    db = tmp_path / "db.sqlite"
    assert bench("run", examples, "--db", db, "--first", 1, "--category", "digits0").status == 0
    run = bench("run", examples, "--db", db, "--cap", 7)
    assert run.status == 2
    assert "was started with cap None, now it is cap 7.0; --name starts another run" in run.err
