"""The competition's scripts, run with a Python that is replaced by a fake worker."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT, Run, environment, finish

ARGUMENTS = ["model.onnx", "property.vnnlib", "out.txt", "2.5"]


def script(name: str, *arguments: object, folder: Path, **extra: str) -> Run:
    started = time.monotonic()
    process = subprocess.Popen(
        [str(ROOT / name), *map(str, arguments)],
        cwd=folder,
        env=environment(**extra),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    return finish(process, started)


@pytest.fixture
def folder(tmp_path: Path, files: tuple[Path, Path]) -> Path:
    """Where relative paths are relative to; also holds a module that must not be imported."""
    (tmp_path / "click.py").write_text("raise SystemExit('imported from the caller\\'s folder')")
    return tmp_path


def fake_python(folder: Path, worker: str) -> str:
    """A Python that drops `-P -m lirpa_verify` and runs a fake worker with the rest."""
    path = folder / "python"
    fake = ROOT / "tests" / "fake_workers.py"
    path.write_text(f'#!/bin/sh\nshift 3\necho "$@" >>arguments\nexec "{sys.executable}" -P "{fake}" {worker} "$@"\n')
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(("worker", "answer"), [("unsat", "unsat\n"), ("hang", "timeout\n"), ("failure", "error\n")])
def test_run_instance_writes_the_answer(folder: Path, worker: str, answer: str) -> None:
    python = fake_python(folder, worker)
    run = script("run_instance.sh", "v1", "any", *ARGUMENTS, folder=folder, LIRPA_VERIFY_PYTHON=python)
    assert (folder / "out.txt").read_text() == answer
    assert run.status == (1 if worker == "failure" else 0)
    assert run.seconds < 2.5
    told = (folder / "arguments").read_text().split()
    assert told[0] == "--started"
    assert abs(float(told[1]) - time.time()) < 10


def test_run_instance_counts_from_its_own_start(folder: Path) -> None:
    """Python starts late: the answer is in time all the same."""
    python = Path(fake_python(folder, "hang"))
    python.write_text(python.read_text().replace("exec", "sleep 1; exec"))
    run = script("run_instance.sh", "v1", "any", *ARGUMENTS, folder=folder, LIRPA_VERIFY_PYTHON=str(python))
    assert (folder / "out.txt").read_text() == "timeout\n"
    assert run.seconds < 2.5


def test_run_instance_runs_this_folders_code_whatever_the_caller_has(folder: Path) -> None:
    run = script("run_instance.sh", "v1", "any", "missing.onnx", *ARGUMENTS[1:], folder=folder)
    # LIRPA_VERIFY_PYTHON is not set: python3 must at least be tried
    assert (folder / "out.txt").read_text() in ("error\n", "unknown\n")
    environment_python = {"LIRPA_VERIFY_PYTHON": sys.executable}
    run = script("run_instance.sh", "v1", "any", "missing.onnx", *ARGUMENTS[1:], folder=folder, **environment_python)
    assert (run.status, (folder / "out.txt").read_text()) == (2, "error\n")
    assert "missing.onnx: no such file" in run.err


def test_run_instance_leaves_a_word_even_without_python(folder: Path) -> None:
    run = script("run_instance.sh", "v1", "any", *ARGUMENTS, folder=folder, LIRPA_VERIFY_PYTHON="/no/python")
    assert (folder / "out.txt").read_text() == "error\n"
    assert run.status != 0
    broken = folder / "broken"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    script("run_instance.sh", "v1", "any", *ARGUMENTS, folder=folder, LIRPA_VERIFY_PYTHON=str(broken))
    assert (folder / "out.txt").read_text() == "unknown\n"


@pytest.mark.parametrize("name", ["run_instance.sh", "prepare_instance.sh", "install_tool.sh"])
@pytest.mark.parametrize("arguments", [[], ["v2"], ["v1", "only", "three"], ["v1", *"abcdefg"]])
def test_wrong_arguments_are_refused(folder: Path, name: str, arguments: list[str]) -> None:
    run = script(name, *arguments, folder=folder)
    assert run.status == 2
    assert "usage" in run.err


def test_prepare_instance_never_fails_an_instance(folder: Path) -> None:
    arguments = ["v1", "any", "missing.onnx", "property.vnnlib"]
    run = script("prepare_instance.sh", *arguments, folder=folder, LIRPA_VERIFY_PYTHON=sys.executable)
    assert run.status == 0
    assert "missing.onnx" in run.err
    assert "Traceback" not in run.err
    run = script("prepare_instance.sh", *arguments, folder=folder, LIRPA_VERIFY_PYTHON="/no/python")
    assert run.status == 0


def test_the_scripts_are_executable_and_parse() -> None:
    for name in ("run_instance.sh", "prepare_instance.sh", "install_tool.sh", ".ci/run"):
        path = ROOT / name
        assert os.access(path, os.X_OK), name
        assert subprocess.run(["bash", "-n", str(path)], check=False).returncode == 0, name
