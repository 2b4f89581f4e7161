"""Cold starts run the scripts of the competition, ours or anybody's, and survive what those do."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest
from bench_helpers import EXAMPLES, task
from conftest import ROOT

from lirpa_verify.bench.cold import ColdStarts
from lirpa_verify.bench.effort import Effort
from lirpa_verify.bench.row import Row


def tool(folder: Path, run: str, prepare: str = "exit 0") -> Path:
    """A folder with scripts that do this; `$5` is the results file, `$6` the timeout."""
    scripts = folder / "tool"
    scripts.mkdir()
    (scripts / "prepare_instance.sh").write_text(prepare + "\n")
    (scripts / "run_instance.sh").write_text(run + "\n")
    return scripts


@pytest.fixture
def instance(tmp_path: Path) -> dict[str, str]:
    for name in ("m.onnx", "p.vnnlib"):
        (tmp_path / name).write_text("content")
    return {"model": str(tmp_path / "m.onnx"), "prop": str(tmp_path / "p.vnnlib")}


def start(
    scripts: Path, scratch: Path, instance: dict[str, str], timeout: float = 5.0, memory: int | None = None
) -> Row:
    return ColdStarts(Effort(cold=True, scripts=str(scripts), memory=memory), scratch)(
        task(timeout=timeout, **instance)
    )


@pytest.mark.parametrize(
    ("script", "verdict", "detail"),
    [
        ("echo unsat > $5", "unsat", ""),
        ("echo holds > $5", "unsat", ""),
        ("printf 'sat\\n((X_0 1))\\n' > $5", "sat", ""),
        ("echo thinking; echo unknown > $5; echo gave up >&2", "unknown", "gave up"),
        ("echo perhaps > $5", "error", "the results file begins with 'perhaps'"),
        ("true", "error", "the results file is empty"),
        ("echo no licence >&2; exit 3", "error", "run_instance.sh ended with status 3: no licence"),
        ("kill -SEGV $$", "crash", "ended by SIGSEGV: "),
    ],
)
def test_what_scripts_answer(tmp_path: Path, instance: dict[str, str], script: str, verdict: str, detail: str) -> None:
    row = start(tool(tmp_path, script), tmp_path, instance)
    assert (row.verdict, row.detail) == (verdict, detail)
    assert row.witness == ("((X_0 1))\n" if verdict == "sat" else "")


def test_scripts_get_what_the_competition_gives_them(tmp_path: Path) -> None:
    import gzip

    for name in ("m.onnx.gz", "p.vnnlib.gz"):
        (tmp_path / name).write_bytes(gzip.compress(b"content of " + name.encode()))
    scripts = tool(tmp_path, f'cat "$3" "$4" > {tmp_path}/read; echo "$1 $2 $6" > {tmp_path}/told; echo unsat > $5')
    # The list may name the packed file or, as the competition's own lists, the one that was packed.
    files = {"model": str(tmp_path / "m.onnx"), "prop": str(tmp_path / "p.vnnlib.gz")}
    assert start(scripts, tmp_path, files, timeout=7.0).verdict == "unsat"
    assert (tmp_path / "told").read_text() == "v1 cat 7\n"
    assert (tmp_path / "read").read_text() == "content of m.onnx.gzcontent of p.vnnlib.gz"


def test_a_script_that_hangs_is_ended_with_all_it_started(tmp_path: Path, instance: dict[str, str]) -> None:
    scripts = tool(tmp_path, f"sleep 600 & echo $! > {tmp_path}/pid; echo unsat > $5; wait")
    row = start(scripts, tmp_path, instance, timeout=2.0)
    assert row.verdict == "timeout"
    assert 1.9 < row.seconds < 6
    sleeper = Path("/proc", (tmp_path / "pid").read_text().strip(), "stat")
    for _ in range(100):
        if not sleeper.exists() or ") Z " in sleeper.read_text():  # in a container nobody may collect it
            break
        time.sleep(0.05)
    else:
        pytest.fail("what the script has started is still running")


def test_a_script_that_eats_the_memory(tmp_path: Path, instance: dict[str, str]) -> None:
    scripts = tool(tmp_path, "x=$(head -c 300000000 /dev/zero | tr '\\0' x); sleep 600")
    row = start(scripts, tmp_path, instance, timeout=30.0, memory=100 << 20)
    assert (row.verdict, row.detail) == ("memout", "out of memory: ended")


def test_a_preparation_that_fails(tmp_path: Path, instance: dict[str, str]) -> None:
    row = start(tool(tmp_path, "echo unsat > $5", "echo no licence >&2; exit 4"), tmp_path, instance)
    assert (row.verdict, row.detail) == ("error", "prepare_instance.sh ended with status 4: no licence")


def test_our_own_scripts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIRPA_VERIFY_PYTHON", sys.executable)
    files = {"model": str(EXAMPLES / "digits.onnx"), "prop": str(EXAMPLES / "digits_fragile.vnnlib")}
    row = start(ROOT, tmp_path, files, timeout=60.0)
    assert row.verdict == "sat"
    assert row.witness.startswith("((X_0 ")
