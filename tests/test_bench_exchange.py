"""Results and witnesses of the competition are read, written and checked."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from bench_helpers import bench, suite
from onnx import helper
from onnx_models import save

from lirpa_verify.bench import database
from lirpa_verify.bench.check import check
from lirpa_verify.bench.errors import BenchError
from lirpa_verify.bench.exchange import export, import_results, read_results, witness_name
from lirpa_verify.bench.outcome import find_run, load_run
from lirpa_verify.bench.row import Row
from lirpa_verify.bench.suite import Selection, find_instances
from lirpa_verify.bench.witness_text import MalformedWitness, read_witness

TENTH = float(np.float32(0.1))  # a little more than 0.1


@pytest.fixture
def identity(tmp_path: Path) -> tuple[Path, Path]:
    """y = x for two numbers, and a property that holds where Y_0 >= 0.5 and X_1 <= 0.1."""
    model = save(tmp_path / "identity.onnx", [helper.make_node("Identity", ["x"], ["y"])], 2, 2, {})
    prop = tmp_path / "prop.vnnlib"
    declared = "".join(f"(declare-const {v} Real)" for v in ("X_0", "X_1", "Y_0", "Y_1"))
    bounds = "(assert (>= X_0 0))(assert (<= X_0 1))(assert (>= X_1 0))(assert (<= X_1 0.1))"
    prop.write_text(f"{declared}{bounds}(assert (>= Y_0 0.5))")
    return model, prop


@pytest.mark.parametrize(
    ("witness", "outcome"),
    [
        ("((X_0 0.75)\n(X_1 0.05)\n(Y_0 0.75)\n(Y_1 0.05))\n", "exact"),
        ("((X_0 0.75) (X_1 0.05))", "exact"),  # outputs are computed, not believed
        (f"((X_0 0.5) (X_1 {TENTH!r}))", "exact"),  # the bound, rounded as every reader rounds it
        ("((X_0 0.75) (X_1 0.10005))", "tolerance"),
        ("((X_0 0.75) (X_1 0.102))", "fails"),
        ("((X_0 0.49999) (X_1 0.05))", "fails"),  # outputs have no tolerance
        ("((X_0 nan) (X_1 0.05))", "fails"),
        ("", "missing"),
        ("((X_0 0.75))", "malformed"),
        ("((X_1 0.05) (X_0 0.75))", "malformed"),
        ("(X_0 0.75)(X_1 0.05) and more", "malformed"),
    ],
)
def test_check(identity: tuple[Path, Path], witness: str, outcome: str) -> None:
    assert check(*map(str, identity), witness)[0] == outcome


def tensors(*numbers: float) -> str:
    x0, x1, y0, y1 = numbers
    return f"sat\nX real [2]\n{x0}\n{x1}\nY real [1,2]\n{y0}\n{y1}\n"


@pytest.mark.parametrize(
    ("witness", "outcome"),
    [
        (tensors(0.75, 0.05, 0.75, 0.05), "exact"),
        (tensors(0.75, 0.05, 0.5, 0.05), "exact"),  # outputs are computed, not believed
        (tensors(0.75, 0.10005, 0, 0), "tolerance"),
        (tensors(0.875, 0.1, 0, 0), "fails"),  # the square of an output is too large
        ("X real [2]\n0.75\n0.05\n", "malformed"),
        ("X real [1,2]\n0.75\n0.05\nY real [1,2]\n0\n0\n", "malformed"),
        ("Y real [1,2]\n0\n0\nX real [2]\n0.75\n0.05\n", "malformed"),
        (tensors(0.75, 0.05, 0, 0) + "0.5\n", "malformed"),
        ("((X_0 0.75) (X_1 0.05))", "malformed"),
    ],
)
def test_check_of_version_2(identity: tuple[Path, Path], witness: str, outcome: str) -> None:
    model, prop = identity
    prop.write_text(
        "(vnnlib-version <2.0>)(declare-network f (declare-input X real [2]) (declare-output Y real [1,2]))"
        "(assert (and (>= X[0] 0) (<= X[0] 1) (>= X[1] 0) (<= X[1] 0.1) (<= (* Y[0,0] Y[0,0]) 0.5625)))"
    )
    assert check(str(model), str(prop), witness)[0] == outcome


def test_outputs_that_were_written_wrongly_are_noted(identity: tuple[Path, Path]) -> None:
    outcome, detail = check(*map(str, identity), "((X_0 0.75) (X_1 0.05) (Y_0 0.7) (Y_1 0.05))")
    assert outcome == "exact"
    assert detail.startswith("outputs differ from the written ones by 0.05")


def test_files_that_are_gone_say_nothing_of_the_witness(tmp_path: Path, identity: tuple[Path, Path]) -> None:
    assert check(str(tmp_path / "gone.onnx"), str(identity[1]), "((X_0 0.75) (X_1 0.05))")[0] == "unusable"


def test_read_witness() -> None:
    x, y = read_witness("sat\n((X_0  1e-05)\n(X_1 -0.0)\n(Y_0 3)\n)\n")
    assert (x.tolist(), y.tolist()) == ([1e-05, -0.0], [3])
    for text in ("X_0 1", "((X_0 one))", "((X_0 1) (X_2 1))", "((Z_0 1))"):
        with pytest.raises(MalformedWitness):
            read_witness(text)


def test_witness_names() -> None:
    assert witness_name("./onnx/net.onnx.gz", "vnnlib/p.vnnlib.gz") == "net_p.counterexample.gz"
    assert witness_name("safe/onnx/medical/net.onnx", "vnnlib/medical/p.vnnlib") == "medical_net_p.counterexample.gz"


@pytest.mark.parametrize(
    ("word", "verdict"),
    [
        ("unsat", "unsat"),
        ("holds", "unsat"),
        ("Violated", "sat"),
        ("sat", "sat"),
        ("timed-out", "timeout"),
        ("run_instance_timeout", "timeout"),
        ("error_exit_code_1", "error"),
        ("prepare_instance_error_2", "unknown"),
        ("error_nonmaximal", "unknown"),
        ("no_result_in_file", "unknown"),
        ("", "unknown"),
    ],
)
def test_words_of_the_competition(tmp_path: Path, word: str, verdict: str) -> None:
    file = suite(tmp_path, [("c", "./b/onnx/net.onnx", "./b/vnnlib/p.vnnlib", "1.5", word, "2.5")], "results.csv")
    (published,) = read_results(file)
    assert (published.row.verdict, published.row.seconds, published.row.prepare_seconds) == (verdict, 2.5, 1.5)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (("c", "a", "p", 1), "line 1: 4 columns"),
        (("c", "a", "p", 1, "maybe", 2), "line 1: the result 'maybe'"),
        (("c", "a", "p", 1, "sat", "soon"), "line 1: the times '1' and 'soon'"),
    ],
)
def test_bad_results(tmp_path: Path, line: tuple, message: str) -> None:
    with pytest.raises(BenchError, match=message):
        read_results(suite(tmp_path, [line], "results.csv"))


def test_a_run_survives_export_and_import(tmp_path: Path) -> None:
    """Also with a suite whose witnesses would have one name without their folders."""
    rows = [(f"onnx/{kind}/net.onnx", "vnnlib/p.vnnlib", 20) for kind in ("medical", "robot", "third", "last")]
    suite(tmp_path, rows, "safe/instances.csv")
    db = database.open_database(tmp_path / "db", create=True)
    run = database.begin_run(db, "main", {})
    tasks = database.add_tasks(db, run, find_instances([tmp_path], Selection()), [20.0] * 4, 1)
    kept = [Row("sat", 1.25, 0.5, witness="((X_0 1))\n"), Row("sat", 2.0, 0.0, witness="((X_0 2))\n")]
    kept += [Row("memout", 3.0), Row("unsat", 4.0)]
    database.record(db, None, [(task.id, row) for task, row in zip(tasks, kept)])

    assert export(db, "main", tmp_path / "db", tmp_path / "out", 2026) == (4, 2)
    assert (tmp_path / "out/results.csv").read_text().splitlines()[:3] == [
        "safe,onnx/medical/net.onnx,vnnlib/p.vnnlib,0.500000,sat,1.250000",
        "safe,onnx/robot/net.onnx,vnnlib/p.vnnlib,0.000000,sat,2.000000",
        "safe,onnx/third/net.onnx,vnnlib/p.vnnlib,0.000000,unknown,3.000000",
    ]
    packed = (tmp_path / "out/2026_safe/robot_net_p.counterexample.gz").read_bytes()
    assert gzip.decompress(packed) == b"((X_0 2))\n"

    assert import_results(db, tmp_path / "out/results.csv", "again", "main") == (4, 4)
    again = load_run(db, "again", tmp_path / "db")
    assert [outcome.verdict for outcome in again.outcomes] == ["sat", "sat", "unknown", "unsat"]
    assert [outcome.timeout for outcome in again.outcomes] == [20.0] * 4
    with pytest.raises(BenchError, match="there is a run 'again' already"):
        import_results(db, tmp_path / "out/results.csv", "again", "main")
    assert find_run(f"{tmp_path}/db:again", tmp_path / "nothing").name == "again"


def test_published_results(tmp_path: Path) -> None:
    """As the competition publishes them: long paths, an overhead measured twice, witnesses in a folder with a year."""
    base = "vnncomp2025_benchmarks/benchmarks"
    rows = [
        ("test", f"{base}/test/onnx/test_nano.onnx", f"{base}/test/vnnlib/test_nano.vnnlib", "20.899", "unsat", 6.3)
    ]
    rows += [
        ("rul_2022", f"{base}/rul_2022/onnx/net.onnx", f"{base}/rul_2022/vnnlib/p{i}.vnnlib", 1, "sat", 2)
        for i in (1, 2)
    ]
    rows += [(*rows[0][:5], 99.0)]
    suite(tmp_path, rows, "tool/results.csv")
    (tmp_path / "tool/2025_rul_2022").mkdir()
    (tmp_path / "tool/2025_rul_2022/net_p2.counterexample.gz").write_bytes(gzip.compress(b"((X_0 2))"))
    suite(tmp_path, [("onnx/net.onnx.gz", f"vnnlib/p{i}.vnnlib.gz", 100) for i in (1, 2, 3)], "rul/instances.csv")

    db = database.open_database(tmp_path / "db", create=True)
    mine = find_instances([tmp_path / "rul"], Selection())
    database.add_tasks(db, database.begin_run(db, "main", {}), mine, [100.0] * 3, 1)
    assert import_results(db, tmp_path / "tool/results.csv", "tool", "main") == (3, 2)
    tool = load_run(db, "tool", tmp_path / "db")
    assert [(outcome.category, outcome.verdict, outcome.seconds) for outcome in tool.outcomes] == [
        ("test", "unsat", 6.3),
        ("rul_2022", "sat", 2.0),
        ("rul_2022", "sat", 2.0),
    ]
    kept = db.execute("SELECT model, witness IS NOT NULL FROM task JOIN result ON id = task WHERE verdict = 'sat'")
    assert kept.fetchall() == [(str(mine[0].model), 0), (str(mine[0].model), 1)]


def test_commands(tmp_path: Path, identity: tuple[Path, Path]) -> None:
    """run, check, export, import, compare, report and list, one after the other."""
    rows = [("onnx", "vnnlib", "timeout", "expected"), (identity[0].name, identity[1].name, 30, "sat")]
    file, db = suite(tmp_path, rows, "mine.csv"), tmp_path / "db.sqlite"
    assert bench("run", file, "--db", db).status == 0
    run = bench("check", "--db", db)
    assert (run.status, run.out) == (0, "witnesses: 1, exact 1\n")
    connection = database.open_database(db)
    connection.execute("UPDATE result SET witness = ?", (gzip.compress(b"((X_0 0) (X_1 0))"),))
    run = bench("check", "--db", db)
    assert run.status == 1
    assert "prop.vnnlib: fails" in run.out and "witnesses: 1, fails 1" in run.out
    assert bench("export", tmp_path / "out", "--db", db, "--year", 2026).status == 0
    assert bench("import", tmp_path / "out/results.csv", "--name", "tool", "--like", "main", "--db", db).status == 0
    assert bench("compare", "main", "tool", "--db", db).status == 0
    connection.execute("UPDATE result SET verdict = 'timeout' WHERE session IS NULL")
    run = bench("compare", "main", f"{db}:tool", "--db", db)
    assert (run.status, "1 lost" in run.out) == (1, True)
    run = bench("report", "--against", "tool", "--db", db, "--html", tmp_path / "r.html", "--csv", tmp_path / "csv")
    assert run.status == 0
    assert "CONTRADICTIONS" in run.out and "-150 points" in run.out
    assert (tmp_path / "r.html").exists() and (tmp_path / "csv/categories.csv").exists()
    assert bench("list", "--db", db).out.count("\n") == 3
