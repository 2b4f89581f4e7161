"""The real worker over a fake engine: what each kind of trouble becomes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Run

Fake = Callable[..., Run]
Engine = Callable[..., tuple[Run, str]]


@pytest.fixture
def engine(fake: Fake, tmp_path: Path) -> Engine:
    """Run with an engine that does `what`; the run, and what is in the results file."""

    def run(what: str, *arguments: object) -> tuple[Run, str]:
        results = tmp_path / "out.txt"
        finished = fake("engine", "--results-file", results, *arguments, FAKE_ENGINE=what)
        return finished, results.read_text()

    return run


@pytest.mark.parametrize(
    ("what", "texts"),
    [
        ("syntax", ["property.vnnlib", "line 3, column 7"]),
        ("unreadable", ["property.vnnlib", "Permission denied"]),
        ("malformed", ["model.onnx", "not an ONNX file"]),
        ("mismatch", ["property.vnnlib declares 3 outputs", "model.onnx has 2"]),
        ("other", ["something else to tell"]),
    ],
)
def test_bad_input_is_one_line_and_status_2(engine: Engine, what: str, texts: list[str]) -> None:
    run, results = engine(what)
    assert (run.status, run.out, results) == (2, "", "error\n")
    assert all(text in run.err for text in texts)
    assert len(run.err.splitlines()) == 1
    assert "Traceback" in engine(what, "--debug")[0].err


@pytest.mark.parametrize(
    ("what", "text"),
    [
        ("unsupported", "operator Foo at node 'bar'"),
        ("unsupported-load", "operator Foo at node 'bar'"),
        ("unsupported-property", "line 3: a product of two variables"),
        ("memory", "out of memory"),
        ("torch-cpu-memory", "out of memory"),
        ("torch-cuda-memory", "out of memory"),
    ],
)
def test_what_cannot_be_decided_is_unknown(engine: Engine, what: str, text: str) -> None:
    run, results = engine(what)
    assert (run.status, run.out, results) == (0, "unknown\n", "unknown\n")
    assert text in run.err
    assert "Traceback" not in run.err


@pytest.mark.parametrize(("what", "text"), [("bug", "KeyError: 'alpha'"), ("sat-nothing", "without a witness")])
def test_a_bug_is_status_1(engine: Engine, what: str, text: str) -> None:
    run, results = engine(what)
    assert (run.status, run.out, results) == (1, "", "error\n")
    assert text in run.err
    assert "Traceback" not in run.err


def test_witnesses_have_the_digits_of_their_type(engine: Engine) -> None:
    run, results = engine("sat32")
    assert run.out == results
    assert results.splitlines()[:3] == ["sat", "((X_0 0.100000001)", "(X_1 0.333333343)"]
    assert results.splitlines()[3:] == ["(X_2 -0)", "(X_3 1e-30)", "(Y_0 1e+10)", "(Y_1 2.5))"]
    assert engine("sat64")[1].splitlines()[2] == "(X_1 0.33333333333333331)"


def test_statistics_and_progress_of_numpy_types(engine: Engine) -> None:
    run, _ = engine("fine", "--json", "--timeout", 50, "-v")
    statistics = json.loads(run.out)["statistics"]
    assert statistics["count"] == 3
    assert 45 < statistics["left"] < 50
    assert "alpha-crown  3 open, 0 closed  worst bound -0.5" in run.err


def test_ranges(engine: Engine) -> None:
    assert engine("fine", "--bounds")[0].out == "Y_0 0.0 1.0\nY_1 0.0 inf\n"


def test_cuda_that_is_not_there(engine: Engine) -> None:
    run, _ = engine("fine", "--device", "cuda")
    assert run.status == 2
    assert "no CUDA device" in run.err
