"""The whole engine on small ONNX models whose answers are known."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import cast

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from onnx_models import save, save_dense
from random_networks import Dense, generator, make_property

from lirpa_verify.attack.gradient import Attack
from lirpa_verify.deadline import Deadline
from lirpa_verify.errors import PropertyMismatch
from lirpa_verify.network import Network, load_network
from lirpa_verify.strategy import Interlude, Options, output_ranges, verify
from lirpa_verify.verdict import Progress, Result
from vnnlib import Property

METHODS = ["auto", "ibp", "forward", "crown", "alpha-crown", "input-split", "activation-split"]
SEARCHES = ["auto", "input-split", "activation-split"]
UNIT = ([-1.0, -1.0], [1.0, 1.0])


def run(network: Network, prop: Property, method: str = "auto", seconds: float = 20.0, seed: int = 0) -> Result:
    news: list[Progress] = []
    result = verify(network, prop, Deadline.after(seconds), Options(method, "cpu", seed), news.append)
    if result.verdict == "sat":
        assert result.witness is not None
        x, y = result.witness.x, result.witness.y
        assert prop.evaluate(x, y, 1e-6 * (1 + float(np.abs(x).max())))
    else:
        assert result.witness is None
    return result


@pytest.fixture(scope="module")
def absolute(tmp_path_factory: pytest.TempPathFactory) -> Network:
    """y0 = |x0| + |x1|, y1 = x0."""
    weight = np.array([[1, -1, 0, 0], [0, 0, 1, -1]])
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["z"]),
        helper.make_node("Relu", ["z"], ["a"]),
        helper.make_node("MatMul", ["a", "v"], ["y"]),
    ]
    out = np.array([[1, 1], [1, -1], [1, 0], [1, 0]])
    path = save(tmp_path_factory.mktemp("models") / "absolute.onnx", nodes, 2, 2, {"w": weight, "v": out})
    return load_network(path)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("rows", "violated"),
    [
        ([[({2: 1.0}, -0.01)]], False),  # |x0| + |x1| < 0
        ([[({2: -1.0}, -2.01)]], False),
        ([[({2: -1.0}, -1.9)]], True),
        ([[({2: 1.0}, 0.5), ({3: -1.0}, -0.6)]], False),  # x0 >= 0.6 and |x0| + |x1| <= 0.5
        ([[({2: 1.0}, 0.7), ({3: -1.0}, -0.6)]], True),
        ([[({0: 1.0, 3: -1.0}, -0.1)]], False),  # x0 <= y1 - 0.1
        ([[({2: 1.0}, -0.5)], [({3: 1.0}, -0.5)]], True),
        ([[({2: 1.0}, -0.5)], [({3: 1.0}, -1.5)]], False),
        ([[({0: 1.0}, -2.0)]], False),
        ([[]], True),
    ],
)
def test_known_answers(absolute: Network, method: str, rows: list, violated: bool) -> None:
    prop = make_property(2, 2, [UNIT], [(0, conjunction) for conjunction in rows])
    verdict = run(absolute, prop, method).verdict
    wanted = "sat" if violated else "unsat"
    assert verdict == wanted or (method not in SEARCHES and verdict == "unknown")


@pytest.mark.parametrize("method", METHODS)
def test_deadlines_that_have_passed(absolute: Network, method: str) -> None:
    prop = make_property(2, 2, [UNIT], [(0, [({2: 1.0}, 0.5), ({3: -1.0}, -0.6)])])
    assert run(absolute, prop, method, seconds=-1.0).verdict in ("timeout", "unknown")


@pytest.mark.parametrize("method", METHODS)
def test_contradictory_properties(absolute: Network, method: str) -> None:
    assert run(absolute, make_property(2, 2, [UNIT], []), method).verdict == "unsat"
    assert run(absolute, make_property(2, 2, [], []), method).verdict == "unsat"


@pytest.mark.parametrize("method", SEARCHES)
def test_single_points_and_several_boxes(absolute: Network, method: str) -> None:
    point = ([0.25, -0.5], [0.25, -0.5])
    for rhs, verdict in ((0.75, "sat"), (0.74, "unsat")):
        assert run(absolute, make_property(2, 2, [point], [(0, [({2: 1.0}, rhs)])]), method).verdict == verdict
    boxes = [point, ([0.5, 0.5], [1.0, 0.5]), ([-1.0, -1.0], [-0.5, 1.0])]
    rows = [(0, [({2: 1.0}, 0.7)]), (1, [({2: 1.0}, 0.9)]), (2, [({3: -1.0}, 0.4)])]
    assert run(absolute, make_property(2, 2, boxes, rows), method).verdict == "unsat"
    rows[1] = (1, [({2: 1.0}, 1.1)])
    assert run(absolute, make_property(2, 2, boxes, rows), method).verdict == "sat"


@pytest.mark.parametrize("seed", [-(10**30), 10**30])
def test_any_integer_is_a_seed(absolute: Network, seed: int) -> None:
    prop = make_property(2, 2, [UNIT], [(0, [({2: 1.0}, 1.0)])])
    assert run(absolute, prop, seed=seed).verdict == "sat"


def test_inputs_of_two_types(tmp_path: Path) -> None:
    """The sum of both, each fixed at 0.1: in single precision that is a little more than in double precision."""
    kinds = {"a": TensorProto.FLOAT, "b": TensorProto.DOUBLE}
    double = [helper.make_node("Cast", [name], [f"{name}2"], to=TensorProto.DOUBLE) for name in kinds]
    graph = helper.make_graph(
        [*double, helper.make_node("Add", ["a2", "b2"], ["y"])],
        "net",
        [helper.make_tensor_value_info(name, kind, [1, 1]) for name, kind in kinds.items()],
        [helper.make_tensor_value_info("y", TensorProto.DOUBLE, [1, 1])],
        [],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    onnx.save(model, tmp_path / "model.onnx")
    network, value = load_network(tmp_path / "model.onnx"), 0.1 + float(np.float32(0.1))
    assert network.in_single_precision.tolist() == [True, False]
    near = 1e-10
    for row, rhs, wanted in ((1.0, value - near, "unsat"), (-1.0, -value - near, "unsat"), (1.0, value + near, "sat")):
        prop = make_property(2, 1, [([0.1, 0.1], [0.1, 0.1])], [(0, [({2: row}, rhs)])])
        assert run(network, prop, seconds=2.0).verdict == wanted


def test_numbers_of_variables_must_agree(absolute: Network) -> None:
    with pytest.raises(PropertyMismatch):
        run(absolute, make_property(3, 2, [([0.0] * 3, [1.0] * 3)], [(0, [({3: 1.0}, 0.0)])]))


@pytest.mark.parametrize("activation", ["Relu", "Sigmoid", "Tanh", "LeakyRelu"])
def test_random_networks_near_their_minimum(tmp_path: Path, activation: str) -> None:
    """Verdicts do not depend on the method or the seed, and are right where samples decide."""
    for seed in range(2):
        module = Dense(generator(seed), (2, 6, 6, 2), "relu", 1.5)
        network = load_network(save_dense(tmp_path / f"{activation}{seed}.onnx", module, activation))
        axis = torch.linspace(-1, 1, 301, dtype=torch.float64)
        values = network.graph.forward(torch.cartesian_prod(axis, axis))[:, 0]
        least, spread = float(values.min()), float(values.max() - values.min())
        for rhs, wanted in ((least + 1e-3 * spread, "sat"), (least - 0.05 * spread, "unsat")):
            prop = make_property(2, 2, [UNIT], [(0, [({2: 1.0}, rhs)])])
            for number in (0, 1):
                assert run(network, prop, "auto", 20.0, number).verdict == wanted
            assert run(network, prop, "input-split").verdict == wanted
            assert run(network, prop, "activation-split", 1.0).verdict in (wanted, "unknown", "timeout")
            for method in ("ibp", "forward", "crown", "alpha-crown"):
                assert run(network, prop, method).verdict in ("unknown", wanted)


def test_attained_thresholds_are_never_unsat(tmp_path: Path) -> None:
    """The property's right-hand side is just what onnxruntime and the graph reach at a corner."""
    for seed in range(4):
        module = Dense(generator(seed), (2, 5, 1), "relu")
        network = load_network(save_dense(tmp_path / f"corner{seed}.onnx", module))
        corners = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0], dtype=torch.float64)] * 2)
        least = float(network.graph.forward(corners).min())
        for rhs in (least, math.nextafter(least, math.inf)):
            prop = make_property(2, 1, [UNIT], [(0, [({2: 1.0}, rhs)])])
            for method in METHODS:
                assert run(network, prop, method, 0.3).verdict != "unsat", (seed, method)


def test_many_inputs_use_activations(tmp_path: Path) -> None:
    module = Dense(generator(9), (20, 8, 8, 2), "relu")
    network = load_network(save_dense(tmp_path / "wide.onnx", module))
    box = ([-0.2] * 20, [0.2] * 20)
    x = torch.rand(20000, 20, generator=generator(9), dtype=torch.float64) * 0.4 - 0.2
    least = float(network.graph.forward(x)[:, 0].min())
    possible = make_property(20, 2, [box], [(0, [({20: 1.0}, least)])])
    assert run(network, possible).verdict == "sat"
    impossible = make_property(20, 2, [box], [(0, [({20: 1.0}, least - 3.0)])])
    assert run(network, impossible).verdict == "unsat"


def test_output_ranges_enclose_samples(tmp_path: Path) -> None:
    module = Dense(generator(3), (2, 6, 6, 3), "relu", 1.5)
    network = load_network(save_dense(tmp_path / "ranges.onnx", module))
    boxes = [([-1.0, 0.0], [0.0, 1.0]), ([0.5, 0.5], [0.5, 2.0])]
    prop = make_property(2, 3, boxes, [(0, [({2: 1.0}, 0.0)]), (1, [({2: 1.0}, 0.0)])])
    widths = {}
    for method in ("ibp", "forward", "crown"):
        lower, upper = output_ranges(network, prop, Deadline.after(20), Options(method, "cpu"))
        widths[method] = float((upper - lower).sum())
        for low, high in boxes:
            x = torch.tensor(low) + torch.rand(500, 2, generator=generator(4)) * (
                torch.tensor(high) - torch.tensor(low)
            )
            y = network.graph.forward(x.double()).numpy()
            assert (y >= lower - 1e-9).all() and (y <= upper + 1e-9).all()
    assert widths["crown"] <= widths["ibp"] + 1e-9


def test_inputs_the_network_ignores(tmp_path: Path) -> None:
    """The only varying input reaches no output: there is no gradient, and one evaluation decides."""
    nodes = [helper.make_node("MatMul", ["x", "w"], ["z"]), helper.make_node("Relu", ["z"], ["y"])]
    network = load_network(save(tmp_path / "ignores.onnx", nodes, 2, 1, {"w": np.array([[1.0], [0.0]])}))
    box = ([0.5, -1.0], [0.5, 1.0])
    for method in SEARCHES:
        for rhs, verdict in ((0.5, "sat"), (0.4, "unsat")):
            assert run(network, make_property(2, 1, [box], [(0, [({2: 1.0}, rhs)])]), method).verdict == verdict


class Runs:
    """An attack whose runs take a tenth of a second on its own clock."""

    def __init__(self) -> None:
        self.spent, self.count = 0.0, 0

    def advance(self, deadline: Deadline) -> None:
        self.spent, self.count = self.spent + 0.1, self.count + 1


def test_an_attack_beside_a_proof_has_its_share_however_long_the_rounds_are() -> None:
    attack = Runs()
    interlude = Interlude(cast(Attack, attack), Deadline.after(60), started=time.monotonic() - 10)
    assert interlude() is None and 10 <= attack.count <= 12
    assert interlude() is None and attack.count <= 12


@pytest.mark.parametrize("last", ["Softmax", "Sigmoid", "Tanh"])
@pytest.mark.parametrize("verdict", ["sat", "unsat"])
def test_saturated_outputs_are_compared_by_their_arguments(tmp_path: Path, last: str, verdict: str) -> None:
    """Nearly everywhere in the box the outputs are the same numbers in single precision."""
    n = 30
    weight = np.zeros((n, 3))
    weight[:, 0] = -100.0
    bias = np.array(
        [2995.0 if verdict == "sat" else 3005.0, 0.0, -1000.0]
    )  # z0 is -5 or 5 at the corner where it is least
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"]),
        helper.make_node("Add", ["a", "b"], ["z"]),
        helper.make_node(last, ["z"], ["y"]),
    ]
    path = save(tmp_path / "saturated.onnx", nodes, n, 3, {"w": weight, "b": bias})
    prop = make_property(n, 3, [([0.0] * n, [1.0] * n)], [(0, [({n: 1.0, n + 1: -1.0}, 0.0)])])
    assert run(load_network(path), prop).verdict == verdict
