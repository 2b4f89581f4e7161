"""The command line of the VNN-LIB 2.0 standard, and queries about several networks in the competition's scripts."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from conftest import command
from onnx_models import save_dense
from random_networks import Dense, generator
from test_scripts import script

from lirpa_verify.files import named_models
from lirpa_verify.messages import Answer, Tensor
from lirpa_verify.results import answer_text

QUERY = """; two networks
(vnnlib-version <2.0>)
(declare-network f (declare-input X real [1,2]) (declare-output Y real [2]))
(declare-network g (isomorphic-to f) (declare-input Z real [1,2]) (declare-output W real [2]))
(assert (and (>= X[0,0] 0.0) (<= X[0,0] 1.0) (== X[0,1] 0.25) (== Z[0,0] X[0,0]) (== Z[0,1] X[0,1])))
"""
SAT, UNSAT = QUERY + "(assert (< Y[0] W[0]))", QUERY + "(assert (>= Y[0] (+ 1.0 W[0])))"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two networks whose first outputs differ by 1, f.onnx and g.onnx, and queries about them."""
    for name, shift in (("f", 0.0), ("g", 1.0)):
        module = Dense(generator(0), [2, 4, 2], "relu")
        module.biases[-1][0] += shift
        save_dense(tmp_path / f"{name}.onnx", module)
    (tmp_path / "sat.vnnlib").write_text(SAT)
    (tmp_path / "unsat.vnnlib").write_text(UNSAT)
    return tmp_path


def networks(folder: Path) -> list[str]:
    return [f"--network={name}={folder / name}.onnx" for name in "fg"]


def test_an_assignment_in_the_standards_form(folder: Path) -> None:
    results = folder / "out.txt"
    run = command("verify", folder / "sat.vnnlib", *networks(folder), "--timeout", 30, "--results-file", results)
    assert (run.status, run.err) == (0, "")
    assert results.read_text() == run.out
    lines = run.out.splitlines()
    heads = {0: "sat", 1: "X real [1,2]", 4: "Y real [2]", 7: "Z real [1,2]", 10: "W real [2]"}
    assert {place: lines[place] for place in heads} == heads
    numbers = [float(line) for place, line in enumerate(lines) if place not in heads]
    assert len(numbers) == 8
    assert numbers[:2] == numbers[4:6] and numbers[1] == 0.25
    assert numbers[6] - numbers[2] == pytest.approx(1, abs=1e-5)


def test_verdicts_and_json(folder: Path) -> None:
    run = command("verify", folder / "unsat.vnnlib", *networks(folder))
    assert (run.status, run.out) == (0, "unsat\n")
    run = command("verify", folder / "sat.vnnlib", *networks(folder), "--json")
    witness = json.loads(run.out)["witness"]
    assert (len(witness["x"]), len(witness["y"])) == (4, 4)


def test_one_network_needs_no_name(folder: Path) -> None:
    text = QUERY.splitlines()
    (folder / "one.vnnlib").write_text("\n".join(text[:3]) + "(assert (and (== X[0,0] 0.5) (== X[0,1] 0.25)))")
    run = command(folder / "f.onnx", folder / "one.vnnlib")
    assert run.out.splitlines()[:5] == ["sat", "X real [1,2]", "0.5", "0.25", "Y real [2]"]
    assert command("verify", folder / "one.vnnlib", f"--network=f={folder / 'f.onnx'}").out == run.out


def test_the_wrong_models(folder: Path) -> None:
    query = folder / "sat.vnnlib"
    f, g = networks(folder)
    for arguments, message in (
        (["verify", query, f], "no model is given for the network g"),
        (["verify", query, f, g, f"--network=h={folder / 'f.onnx'}"], "the query has no network h"),
        ([folder / "f.onnx", query], "the query needs models for the networks f, g"),
        (["verify", query, f, f], "two models for the network f"),
        (["verify", query, "--network", "f"], "f is not NAME=MODEL"),
        (["verify", query, f, f"--network=g={folder / 'h.onnx'}"], "h.onnx: no such file"),
        (["verify", query], "network"),
        (["[('f', 1, 2)]", query], "is no list of pairs"),
        (["[('f', 'a'), ('f', 'b')]", query], "names a network twice"),
    ):
        run = command(*arguments)
        assert (run.status, run.out) == (2, ""), arguments
        assert message in run.err


def test_two_models_for_version_1(folder: Path) -> None:
    text = "(declare-const X_0 Real)(declare-const X_1 Real)(declare-const Y_0 Real)(declare-const Y_1 Real)"
    (folder / "1.vnnlib").write_text(text + "(assert (= X_0 0))(assert (= X_1 0))")
    run = command("verify", folder / "1.vnnlib", *networks(folder))
    assert (run.status, run.out) == (2, "") and "about one network" in run.err


def test_the_time_is_up(folder: Path) -> None:
    run = command("verify", folder / "unsat.vnnlib", *networks(folder), "--timeout", 0.3)
    assert (run.status, run.out) == (0, "timed-out\n")


def test_capabilities() -> None:
    assert command("supports", "--vnnlib-versions").out == "1.0\n2.0\n"
    assert command("supports", "--arithmetic-complexity-theories").out == "BND\nOUTC\nLIN\nPOLY\n"
    assert command("--name").out == "lirpa-verify\n"
    assert command("supports", "--colours").status == 2


def test_the_competitions_scripts(folder: Path) -> None:
    python = {"LIRPA_VERIFY_PYTHON": sys.executable}
    pairs = "[('f', 'f.onnx'), ('g', 'g.onnx')]"
    run = script("prepare_instance.sh", "v1", "any", pairs, "sat.vnnlib", folder=folder, **python)
    assert run.status == 0 and "ready in" in run.err
    for name in ("sat", "unsat"):
        arguments = ("v1", "any", pairs, f"{name}.vnnlib", "out.txt", "30.0")
        run = script("run_instance.sh", *arguments, folder=folder, **python)
        assert run.status == 0
        assert (folder / "out.txt").read_text().splitlines()[0] == name
    run = script("prepare_instance.sh", "v1", "any", "[('f',)]", "sat.vnnlib", folder=folder, **python)
    assert run.status == 0 and "not prepared" in run.err


def test_models_that_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert named_models("a.onnx") == {"": "a.onnx"}
    assert named_models("[('f', './a b.onnx'), ('g', 'c.onnx')]") == {"f": "./a b.onnx", "g": "c.onnx"}
    monkeypatch.chdir(tmp_path)
    Path("[1].onnx").write_text("")
    assert named_models("[1].onnx") == {"": "[1].onnx"}
    with pytest.raises(ValueError, match="is no list"):
        named_models("[f.onnx")


def test_scalars_and_several_tensors() -> None:
    tensors = (
        Tensor("A", "float32", (2,), False),
        Tensor("s", "float32", (), False),
        Tensor("B", "float32", (1, 1), True),
        Tensor("C", "float32", (1,), False),
        Tensor("D", "float32", (1,), True),
    )
    answer = Answer("sat", x=("1", "2", "3", "4"), y=("5", "6"), tensors=tensors)
    heads = ["A float32 [2]", "s float32 []", "B float32 [1,1]", "C float32 [1]", "D float32 [1]"]
    expected = ["sat", heads[0], "1", "2", heads[1], "3", heads[2], "5", heads[3], "4", heads[4], "6"]
    assert answer_text(answer).splitlines() == expected
