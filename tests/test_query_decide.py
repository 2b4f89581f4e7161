"""Verdicts of queries in VNN-LIB 2.0 against points sampled densely, and witnesses against the text itself."""

from __future__ import annotations

import operator
import random
from fractions import Fraction
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx_models import save_dense
from random_networks import Dense, generator, normal
from test_vnnlib_random import OPERATORS, evaluate

import vnnlib
from lirpa_verify.deadline import Deadline
from lirpa_verify.errors import LirpaError, PropertyMismatch
from lirpa_verify.network import load_network
from lirpa_verify.query.decide import decide, ranges
from lirpa_verify.query.fit import model_paths
from lirpa_verify.strategy import Options
from lirpa_verify.verdict import Result
from lirpa_verify.witness import Replayer

VERSION = "(vnnlib-version <2.0>)\n"
ONE = "(declare-network f (declare-input X real [1,2]) (declare-output Y real [2]))\n"
SECOND = "(declare-network g ({} f) (declare-input Z real [1,2]) (declare-output W real [2]))\n"
INPUTS, OUTPUTS = ["X[0,0]", "X[0,1]", "Z[0,0]", "Z[0,1]"], ["Y[0]", "Y[1]", "W[0]", "W[1]"]
CLEARLY = 1e-4  # far more than single precision is wrong by
GRID = 25


def unit_box(names: list[str]) -> str:
    return "".join(f"(assert (and (>= {name} -1.0) (<= {name} 1.0)))\n" for name in names)


def models(folder: Path, seed: int, activation: str = "Relu") -> tuple[Path, Path]:
    """Two networks of one architecture, whose weights differ a little."""
    first, second = (Dense(generator(seed), [2, 6, 6, 2], "relu") for _ in range(2))
    second.weights = [w + 0.1 * normal(generator(k), *w.shape) for k, w in enumerate(second.weights)]
    return save_dense(folder / "f.onnx", first, activation), save_dense(folder / "g.onnx", second, activation)


def answer(text: str, *paths: Path, seconds: float = 30.0) -> Result:
    prop, interface = vnnlib.parse_query(text)
    assert interface is not None
    networks = [load_network(path) for path in paths]
    return decide(prop, interface, networks, Deadline.after(seconds), Options(), lambda news: None)


def values_at(paths: list[Path], points: np.ndarray) -> list[dict[str, Fraction]]:
    """Names to values at points ``(n, 2 * networks)``, by onnxruntime."""
    replayers = [Replayer(path) for path in paths]
    rows = []
    for x in points.astype(np.float32):
        outputs = [replayer(x[2 * k : 2 * k + 2]) for k, replayer in enumerate(replayers)]
        inputs = zip(INPUTS, x.tolist())
        rows.append(
            {
                name: Fraction(value)
                for name, value in [*inputs, *zip(OUTPUTS, np.concatenate(outputs).astype(float).tolist())]
            }
        )
    return rows


@pytest.fixture
def clear_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """Inequalities in `evaluate` hold only where they do so clearly."""
    for sign, compare in {"<=": operator.le, "<": operator.lt, ">=": operator.ge, ">": operator.gt}.items():
        shift = Fraction(CLEARLY) * (1 if sign[0] == "<" else -1)
        monkeypatch.setitem(OPERATORS, sign, lambda a, b, compare=compare, shift=shift: compare(a + shift, b))
    monkeypatch.setitem(OPERATORS, "!=", lambda a, b: abs(a - b) > CLEARLY)


def check(text: str, header: str, paths: list[Path], points: np.ndarray) -> str:
    """The verdict, which no point contradicts, or which a witness supports."""
    result = answer(header + text, *paths)
    assert result.verdict in ("sat", "unsat"), result.reason
    if result.witness is None:
        assert not any(evaluate(text, point) for point in values_at(paths, points))
    else:
        x, y = result.witness.x, result.witness.y
        assert x.dtype == y.dtype == np.float32
        [point] = values_at(paths, x.reshape(1, -1))
        names = [*INPUTS[: len(x)], *OUTPUTS[: len(y)]]
        assert [float(point[name]) for name in names] == [*x.tolist(), *y.tolist()]
        with pytest.MonkeyPatch.context() as exact:
            for sign in ("<=", "<", ">=", ">", "!="):
                exact.setitem(OPERATORS, sign, EXACT[sign])
            assert evaluate(text, point)
    return result.verdict


EXACT = {"<=": operator.le, "<": operator.lt, ">=": operator.ge, ">": operator.gt, "!=": operator.ne}


def grid(dimensions: int, steps: int = GRID) -> np.ndarray:
    axis = np.linspace(-1, 1, steps)
    return np.stack(np.meshgrid(*[axis] * dimensions), -1).reshape(-1, dimensions)


def threshold(rng: random.Random, header: str, term: str, paths: list[Path], points: np.ndarray) -> float:
    """A value near the largest that a term takes: within reach about as often as not."""
    values = [float(evaluated(term, point)) for point in values_at(paths, points[:: max(1, len(points) // 200)])]
    return max(values) + rng.choice([-0.3, -0.1, 0.15, 0.4]) * (max(values) - min(values))


def evaluated(term: str, point: dict[str, Fraction]) -> Fraction:
    found: list[Fraction] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(OPERATORS, "=", lambda a, b: found.append(a) or True)
        evaluate(f"(assert (= {term} 0))", point)
    return found[0]


LINEAR = ["(+ Y[0] (* 0.5 X[0,0]))", "(- Y[0] Y[1] X[0,1])", "(- (* 2.0 X[0,0]) (* 1.5 Y[1]))"]
POLYNOMIAL = ["(* Y[0] X[0,1])", "(+ (* X[0,0] X[0,0]) Y[0])", "(* Y[0] Y[1] X[0,0])", "(- (* Y[0] Y[0] Y[0]) X[0,1])"]
RELATIONS = ["(>= (+ X[0,0] X[0,1]) 0.25)", "(<= (* X[0,0] X[0,1]) 0.125)", "(>= X[0,0] X[0,1])", "(!= X[0,0] 0.0)"]


@pytest.mark.parametrize("seed", range(16))
def test_one_network(tmp_path: Path, clear_cut: None, seed: int) -> None:
    rng = random.Random(seed)
    paths = [models(tmp_path, seed)[0]]
    points = grid(2)
    term = rng.choice(LINEAR if seed % 2 else POLYNOMIAL)
    bound = threshold(rng, VERSION + ONE, term, paths, points)
    text = unit_box(INPUTS[:2]) + f"(assert {rng.choice(RELATIONS)})\n(assert (>= {term} {bound:.6f}))"
    if seed % 3 == 0:
        text += f"(assert (or (!= Y[0] {bound:.3f}) (and (> Y[1] X[0,0]) (< Y[0] X[0,1]))))"
    check(text, VERSION + ONE, paths, points)


@pytest.mark.parametrize("seed", range(8))
def test_two_networks_at_the_same_input(tmp_path: Path, clear_cut: None, seed: int) -> None:
    rng = random.Random(seed)
    paths = list(models(tmp_path, seed))
    points = np.concatenate([grid(2), grid(2)], 1)
    header = VERSION + ONE + SECOND.format("isomorphic-to")
    term = rng.choice(["(- Y[0] W[0])", "(+ W[1] (* -1.0 Y[1]) (* 0.1 Z[0,0]))"])
    bound = threshold(rng, header, term, paths, points)
    text = unit_box(INPUTS[:2]) + "(assert (and (== X[0,0] Z[0,0]) (== Z[0,1] X[0,1])))"
    text += f"(assert (or (> {term} {bound:.6f}) (> Y[0] {100.0})))"
    check(text, header, paths, points)


@pytest.mark.parametrize("seed", range(8))
def test_one_network_twice(tmp_path: Path, clear_cut: None, seed: int) -> None:
    """A second input that is larger in one entry and equal in the other."""
    rng = random.Random(seed)
    path = models(tmp_path, seed)[0]
    points = grid(4, 9)
    points = points[points[:, 1] == points[:, 3]]
    header = VERSION + ONE + SECOND.format("equal-to")
    term = "(- Y[0] W[0])"
    bound = threshold(rng, header, term, [path, path], points[points[:, 0] <= points[:, 2]])
    text = unit_box([*INPUTS[:2], INPUTS[2]]) + "(assert (<= X[0,0] Z[0,0]))(assert (== X[0,1] Z[0,1]))"
    text += f"(assert (>= {term} {bound:.6f}))"
    check(text, header, [path, path], points)


def test_a_network_related_to_itself_at_one_point(tmp_path: Path) -> None:
    """Nothing is left to relate: both have the same outputs everywhere."""
    path = models(tmp_path, 0)[0]
    text = VERSION + ONE + SECOND.format("equal-to") + unit_box(INPUTS[:2])
    text += "(assert (and (== X[0,0] Z[0,0]) (== X[0,1] Z[0,1])))"
    assert answer(text + "(assert (> Y[0] (+ W[0] 0.001)))", path, path).verdict == "unsat"
    result = answer(text + "(assert (== Y[0] W[0]))", path, path)
    assert result.witness is not None and result.witness.x[:2].tolist() == result.witness.x[2:].tolist()


FITS = [("float32 [1,2]", "float32 [2]", "X[0,0] X[0,1]"), ("real [2,1,1]", "real [1,1,1,2]", "X[0,0,0] X[1,0,0]")]
MISFITS = [
    ("real [1,3]", "real [2]", "X[0,0] X[0,1] X[0,2]", "X has the shape [1, 3], but x of"),
    ("real [1,2]", "real []", "X[0,0] X[0,1]", "Y has the shape [], but y of"),
    ("float64 [1,2]", "float64 [2]", "X[0,0] X[0,1]", "X is float64, but x of"),
    ("real [2]) (declare-input S real []", "real []", "X[0] X[1] S", "f has 2 inputs, but"),
]


def declared(inputs: str, outputs: str, names: str) -> str:
    head = f"{VERSION}(declare-network f (declare-input X {inputs}) (declare-output Y {outputs}))\n"
    return head + unit_box(names.split())


@pytest.mark.parametrize(("inputs", "outputs", "names"), FITS)
def test_extents_of_one_do_not_matter(tmp_path: Path, inputs: str, outputs: str, names: str) -> None:
    assert answer(declared(inputs, outputs, names), models(tmp_path, 0)[0]).verdict == "sat"


@pytest.mark.parametrize(("inputs", "outputs", "names", "message"), MISFITS)
def test_what_does_not_fit_is_refused(tmp_path: Path, inputs: str, outputs: str, names: str, message: str) -> None:
    with pytest.raises(PropertyMismatch) as caught:
        answer(declared(inputs, outputs, names), models(tmp_path, 0)[0])
    assert message in str(caught.value)


def test_which_model_is_whose() -> None:
    text = VERSION + ONE + SECOND.format("equal-to")
    text += "(declare-network h (isomorphic-to f) (declare-input A real [1,2]) (declare-output B real [2]))"
    text += "".join(f"(assert (== {name}[0,{i}] 0.0))" for name in "XZA" for i in range(2))
    _, interface = vnnlib.parse_query(text)
    assert interface is not None
    assert model_paths(interface, {"h": "b", "f": "a"}) == ["a", "a", "b"]
    assert model_paths(interface, {"h": "b", "f": "a", "g": "a"}) == ["a", "a", "b"]
    for given, message in (
        ({"": "a"}, "needs models for the networks f, h"),
        ({"f": "a"}, "no model is given for the network h"),
        ({"f": "a", "h": "b", "g": "b"}, "g equals f, but its model is another file"),
        ({"f": "a", "h": "b", "k": "b"}, "the query has no network k"),
    ):
        with pytest.raises(LirpaError, match=message):
            model_paths(interface, given)


def test_ranges_of_the_only_network(tmp_path: Path) -> None:
    f, _ = models(tmp_path, 0)
    prop, interface = vnnlib.parse_query(VERSION + ONE + unit_box(INPUTS[:2]))
    assert interface is not None
    lower, upper = ranges(prop, interface, [load_network(f)], Deadline.after(10), Options())
    for x in grid(2, 7):
        y = Replayer(f)(x)
        assert (lower - 1e-5 <= y).all() and (y <= upper + 1e-5).all()
    prop, interface = vnnlib.parse_query(VERSION + ONE + unit_box(INPUTS[:2]) + "(assert (<= (* Y[0] Y[0]) 1.0))")
    assert interface is not None
    with pytest.raises(LirpaError, match="--bounds"):
        ranges(prop, interface, [load_network(f)], Deadline.after(10), Options())


def test_a_network_of_several_tensors(tmp_path: Path) -> None:
    """relu(a0 - a1), and b times it, in two outputs."""
    nodes = [
        helper.make_node("MatMul", ["a", "w"], ["z"]),
        helper.make_node("Relu", ["z"], ["u"]),
        helper.make_node("Mul", ["u", "b"], ["v"]),
    ]
    shapes = {"a": [1, 2], "b": [1], "u": [1, 1], "v": [1, 1]}
    info = {name: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()}
    weight = numpy_helper.from_array(np.array([[1], [-1]], dtype=np.float32), "w")
    graph = helper.make_graph(nodes, "net", [info["a"], info["b"]], [info["u"], info["v"]], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    onnx.save(model, tmp_path / "several.onnx")
    header = VERSION + "(declare-network n (declare-input A float32 [1,2]) (declare-input B float32 [1])"
    header += "(declare-output U float32 [1,1]) (declare-output V float32 [1,1]))\n"
    box = unit_box(["A[0,0]", "A[0,1]", "B[0]"])
    for bound, verdict in ((1.5, "sat"), (2.5, "unsat")):
        result = answer(
            header + box + f"(assert (and (>= V[0,0] {bound}) (<= U[0,0] 1.75)))", tmp_path / "several.onnx"
        )
        assert result.verdict == verdict
        if result.witness is not None:
            a0, a1, b = result.witness.x.tolist()
            assert result.witness.y.tolist() == pytest.approx([max(a0 - a1, 0), b * max(a0 - a1, 0)], abs=1e-6)
            assert result.witness.y[1] >= 1.5
    result = answer(header + box + "(assert (< U[0,0] -1.0))", tmp_path / "several.onnx")
    assert result.verdict == "unsat"
    switched = header.replace("output U", "output W").replace("output V", "output U")
    result = answer(switched + box + "(assert (< U[0,0] -1.0))", tmp_path / "several.onnx")
    assert result.verdict == "sat"  # tensors are told by their places, not by their names
