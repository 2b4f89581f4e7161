"""The whole tool on the example's files, and on files that are broken."""

from __future__ import annotations

import gzip
import json
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, command, environment

from lirpa_verify.witness import Replayer, confirm
from vnnlib import read

EXAMPLES = ROOT / "examples"
MODEL = EXAMPLES / "digits.onnx"
ROBUST, FRAGILE, SEARCHED = (EXAMPLES / f"digits_{name}.vnnlib" for name in ("robust", "fragile", "searched"))


@pytest.mark.parametrize(("prop", "verdict"), [(ROBUST, "unsat"), (SEARCHED, "unsat")])
def test_what_holds_is_proved(prop: Path, verdict: str, tmp_path: Path) -> None:
    results = tmp_path / "out.txt"
    run = command(MODEL, prop, "--timeout", 60, "--results-file", results)
    assert (run.status, run.out, results.read_text()) == (0, f"{verdict}\n", f"{verdict}\n")


def test_a_printed_witness_is_one(tmp_path: Path) -> None:
    results = tmp_path / "out.txt"
    run = command(MODEL, FRAGILE, "--timeout", 60, "--results-file", results)
    assert run.first_line == "sat"
    assert results.read_text() == run.out
    printed = re.findall(r"\((X|Y)_(\d+) (\S+?)\)", run.out)
    x = np.array([float(value) for letter, _, value in printed if letter == "X"], dtype=np.float32)
    y = np.array([float(value) for letter, _, value in printed if letter == "Y"], dtype=np.float32)
    witness = confirm(Replayer(MODEL), read(FRAGILE), x)
    assert witness is not None
    assert np.array_equal(witness.x, x)
    assert np.array_equal(witness.y, y)


def test_bounds_enclose_samples() -> None:
    record = json.loads(command(MODEL, FRAGILE, "--bounds", "--json").out)
    prop, replayer = read(FRAGILE), Replayer(MODEL)
    points = np.random.default_rng(0).uniform(prop.lower[0], prop.upper[0], (200, prop.n_inputs))
    outputs = np.array([replayer(point) for point in points])
    assert (outputs >= record["lower"]).all()
    assert (outputs <= record["upper"]).all()


def test_compressed_files_are_found_under_their_plain_names(tmp_path: Path) -> None:
    for source in (MODEL, ROBUST):
        (tmp_path / (source.name + ".gz")).write_bytes(gzip.compress(source.read_bytes()))
    run = command(tmp_path / MODEL.name, tmp_path / ROBUST.name, "--timeout", 60)
    assert run.out == "unsat\n"


def test_scripts(tmp_path: Path) -> None:
    """Prepare, then run, from another folder with relative paths."""
    (tmp_path / "examples").symlink_to(EXAMPLES)
    names = ["examples/digits.onnx", "examples/digits_robust.vnnlib"]
    for script, more in (("prepare_instance.sh", []), ("run_instance.sh", ["out.txt", "60.0"])):
        subprocess.run(
            [str(ROOT / script), "v1", "example", *names, *more],
            cwd=tmp_path,
            env=environment(LIRPA_VERIFY_PYTHON=sys.executable),
            check=True,
        )
    assert (tmp_path / "out.txt").read_text() == "unsat\n"


def broken(tmp_path: Path, what: str) -> tuple[Path, Path, list[str]]:
    """A model, a property, and what the message must name."""
    model, prop = tmp_path / "net.onnx", tmp_path / "prop.vnnlib"
    model.write_bytes(MODEL.read_bytes())
    prop.write_bytes(ROBUST.read_bytes())
    if what == "model-empty":
        model.write_bytes(b"")
    elif what == "model-text":
        model.write_text("this is no model")
    elif what == "model-truncated":
        model.write_bytes(model.read_bytes()[:2000])
    elif what == "model-bad-gzip":
        model.write_bytes(b"\x1f\x8b" + b"x" * 100)
    elif what == "property-syntax":
        prop.write_text("(declare-const X_0 Real)\n(assert (<= X_0 ))\n")
    elif what == "property-cut":
        prop.write_text(prop.read_text()[:-10])
    elif what == "property-binary":
        prop.write_bytes(bytes(range(256)))
    elif what == "mismatch":
        prop.write_text(
            "(declare-const X_0 Real)\n(declare-const Y_0 Real)\n"
            "(assert (<= X_0 1))\n(assert (>= X_0 0))\n(assert (<= Y_0 0))\n"
        )
    named = [model.name] if what.startswith("model") else [prop.name]
    return model, prop, named + {"property-syntax": [":2:"], "mismatch": ["64", "net.onnx"]}.get(what, [])


@pytest.mark.parametrize(
    "what",
    [
        "model-empty",
        "model-text",
        "model-truncated",
        "model-bad-gzip",
        "property-syntax",
        "property-cut",
        "property-binary",
        "mismatch",
    ],
)
def test_broken_files_are_named_in_one_line(tmp_path: Path, what: str) -> None:
    model, prop, named = broken(tmp_path, what)
    run = command(model, prop, "--timeout", 60)
    assert (run.status, run.out) == (2, ""), run.err
    assert all(text in run.err for text in named)
    assert len(run.err.splitlines()) == 1, run.err


def test_a_deadline_before_torch_is_there_is_a_timeout() -> None:
    started = time.monotonic()
    run = command(MODEL, ROBUST, "--timeout", 0.5)
    assert (run.status, run.out) == (0, "timeout\n")
    assert time.monotonic() - started < 1
