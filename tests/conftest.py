"""Shared by the tests of the command line: real processes, and workers that misbehave."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

# Before torch is imported: several test processes share the cores, and idle threads must not spin.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Run:
    """A finished process."""

    status: int
    out: str
    err: str
    seconds: float

    @property
    def first_line(self) -> str:
        return self.out.splitlines()[0] if self.out else ""


def environment(**extra: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), **extra}


def start(command: list[str], **extra: str) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True, env=environment(**extra)
    )


def finish(process: subprocess.Popen[str], started: float, limit: float = 60.0) -> Run:
    out, err = process.communicate(timeout=limit)
    return Run(process.returncode, out, err, time.monotonic() - started)


def command(*arguments: object) -> Run:
    """Run `python -m lirpa_verify ARGUMENTS`."""
    started = time.monotonic()
    return finish(start([sys.executable, "-m", "lirpa_verify", *map(str, arguments)]), started)


def fake_command(worker: str, *arguments: object) -> list[str]:
    return [sys.executable, str(ROOT / "tests" / "fake_workers.py"), worker, *map(str, arguments)]


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Models that earlier runs left in the user's cache must not change what the tests see."""
    os.environ["LIRPA_VERIFY_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """A model file and a property file for workers that look at neither."""
    model, prop = tmp_path / "model.onnx", tmp_path / "property.vnnlib"
    model.write_bytes(b"")
    prop.write_text("")
    return model, prop


@pytest.fixture
def fake(files: tuple[Path, Path]) -> Callable[..., Run]:
    """Run the command line with a fake worker: `fake("hang", "--timeout", 2, FAKE_BUDGET="1000")`."""

    def run(worker: str, *arguments: object, **extra: str) -> Run:
        started = time.monotonic()
        return finish(start(fake_command(worker, *files, *arguments), **extra), started)

    return run
