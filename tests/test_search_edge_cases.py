"""Properties and networks at the edge: points, infinities, thresholds that are attained, rows without outputs."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from deciders import Decide, restricted, split_inputs, split_neurons
from random_networks import dense_graph, graph_of, make_property, network

from lirpa_verify.deadline import Deadline
from lirpa_verify.graph.graph import Graph
from lirpa_verify.search import split_activations
from lirpa_verify.search.input_split import InputSplit
from lirpa_verify.search.specification import enclosing_box

INF = math.inf
BOTH = pytest.mark.parametrize("decide", [split_inputs, split_neurons], ids=["inputs", "neurons"])
UNIT = ([0.1, 0.2], [1.0, 1.0])


IDENTITY = graph_of(lambda x: x * 1.0 + 0.0, (1, 2))
RECTIFIED = graph_of(lambda x: torch.relu(x) - torch.relu(-x), (1, 2))  # the same function
FIRST_INPUT = graph_of(lambda x: torch.relu(x[:, :1].repeat(1, 2)), (1, 2))

# rows over x0, x1, y0, y1 of the identity, and whether the box of UNIT holds a violation
CASES: dict[str, tuple[list, bool]] = {
    "attained": ([[({2: 1.0}, 0.1)]], True),
    "out of reach": ([[({2: 1.0}, 0.0999)]], False),
    "no rows at all": ([[]], True),
    "an impossible row and a disjunct without rows": ([[({2: 1.0}, -1.0)], []], True),
    "an impossible longer disjunct before a possible one": (
        [[({2: 1.0}, -1.0), ({3: 1.0}, 5.0)], [({2: 1.0}, 0.5)]],
        True,
    ),
    "inputs only, possible": ([[({0: 1.0}, 0.15)]], True),
    "inputs only, impossible": ([[({0: 1.0}, 0.05)]], False),
    "outputs equal to inputs, attained": ([[({0: 1.0, 2: -1.0}, 0.0)]], True),
    "outputs equal to inputs, impossible": ([[({0: 1.0, 2: -1.0}, -0.01)]], False),
    "a conjunction that only a point satisfies": ([[({2: 1.0}, 0.1), ({2: -1.0}, -0.1)]], True),
    "a conjunction of two possible rows that exclude each other": ([[({2: 1.0}, 0.3), ({2: -1.0}, -0.4)]], False),
    "a row without coefficients": ([[({2: 0.0}, -0.5)]], False),
    "the second of two disjuncts": ([[({2: 1.0}, 0.0)], [({3: -1.0}, -1.0)]], True),
}


@BOTH
def test_a_box_without_disjuncts_holds_no_violation(decide: Decide) -> None:
    graph = graph_of(*network("conv", "relu", 5))
    n = graph.n_inputs
    boxes = [([-1.0] * n, [1.0] * n), ([2.0] * n, [3.0] * n)]
    prop = make_property(n, graph.n_outputs, boxes, [(0, [({n: 1.0}, -1e3)])])
    assert decide(graph, prop).verdict == "unsat"


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("graph", [IDENTITY, RECTIFIED], ids=["linear", "rectified"])
@BOTH
def test_verdicts_on_the_identity(name: str, graph: Graph, decide: Decide) -> None:
    disjuncts, violated = CASES[name]
    prop = make_property(2, 2, [UNIT], [(0, rows) for rows in disjuncts])
    if not violated:
        assert decide(graph, prop).verdict == "unsat"
    elif decide is split_inputs and "only a point" not in name:
        assert decide(graph, prop).verdict == "sat"
    else:  # looks for no witness itself, or has no chance to meet it
        assert decide(graph, prop, seconds=0.1).verdict != "unsat"


@BOTH
def test_every_box_counts(decide: Decide) -> None:
    boxes = [UNIT, ([3.0, 3.0], [4.0, 4.0])]
    rows = [(0, [({2: 1.0}, 0.05)]), (1, [({2: 1.0}, 3.5)]), (0, [({3: -1.0}, -2.0)])]
    assert decide(RECTIFIED, make_property(2, 2, boxes, rows)).verdict != "unsat"
    rows[1] = (1, [({2: 1.0}, 2.9)])
    assert decide(RECTIFIED, make_property(2, 2, boxes, rows)).verdict == "unsat"


@pytest.mark.parametrize(
    "box", [([-INF, -INF], [INF, INF]), ([-INF, 0.0], [0.0, 1.0]), ([-1e308, 0.0], [1.7e308, 1.0])]
)
@BOTH
def test_unbounded_boxes_prove_nothing(box: tuple[list[float], list[float]], decide: Decide) -> None:
    for graph in (IDENTITY, RECTIFIED):
        prop = make_property(2, 2, [box], [(0, [({2: 1.0}, -5.0)])])
        assert decide(graph, prop, seconds=0.5).verdict != "unsat"


@BOTH
def test_intervals_whose_width_overflows_prove_nothing(decide: Decide) -> None:
    """The upper line of a ReLU divides by the width."""
    for size in (1e20, 1e200, 1.7e308):
        scaled = graph_of(lambda x, size=size: -torch.relu(x * size), (1, 2))
        prop = make_property(2, 2, [([-1.0, -1.0], [1.0, 1.0])], [(0, [({2: 1.0}, -5.0)])])
        assert decide(scaled, prop, seconds=0.3).verdict != "unsat"


def test_bounds_beyond_the_element_type_stay_finite() -> None:
    """1e39 rounds to infinity in float32, of which nothing could be proved."""
    prop = make_property(2, 2, [([-1e39, 0.0], [1e39, 0.1])], [(0, [({2: 1.0}, 0.0)])])
    box = enclosing_box(prop, True)
    assert box.lower[0].tolist() == [-1e39, 0.0]
    assert box.upper[0, 0] == 1e39 and box.upper[0, 1] >= 0.1


def test_every_input_is_rounded_as_its_own_type_is() -> None:
    prop = make_property(2, 1, [([0.1, 0.1], [0.1, 0.1])], [(0, [({2: 1.0}, 0.0)])])
    box = enclosing_box(prop, np.array([True, False]))
    assert box.lower.tolist() == box.upper.tolist() == [[float(np.float32(0.1)), 0.1]]


@pytest.mark.parametrize("value", [float("nan"), INF, -INF])
@BOTH
def test_weights_that_are_not_finite_prove_nothing(value: float, decide: Decide) -> None:
    factor = torch.tensor([value, 1.0], dtype=torch.float64)
    for graph in (graph_of(lambda x: x * factor, (1, 2)), graph_of(lambda x: torch.relu(x * factor) - 1, (1, 2))):
        prop = make_property(2, 2, [([-1.0, -1.0], [1.0, 1.0])], [(0, [({2: 1.0}, -2.0)])])
        assert decide(graph, prop, seconds=0.3).verdict != "unsat"


@pytest.mark.parametrize(("rhs", "expected"), [(0.5, "sat"), (0.6, "sat"), (0.4, "unsat")])
def test_single_points_and_inputs_that_do_not_matter(rhs: float, expected: str) -> None:
    for high in (-1.0, 1.0):
        prop = make_property(2, 2, [([0.5, -1.0], [0.5, high])], [(0, [({2: 1.0}, rhs)])])
        assert split_inputs(FIRST_INPUT, prop).verdict == expected
        verdict = split_neurons(FIRST_INPUT, prop, seconds=0.1 if expected == "sat" else 10.0).verdict
        assert (verdict == "unsat") == (expected == "unsat")


def test_a_point_that_can_be_neither_confirmed_nor_excluded_is_unknown() -> None:
    """The split must end, not multiply boxes of one point until memory runs out."""
    for upper in ([0.5, 0.5], [math.nextafter(0.5, 1), 0.5]):
        prop = make_property(2, 2, [([0.5, 0.5], upper)], [(0, [({2: 1.0}, 0.5)])])
        small, problem = restricted(RECTIFIED, prop)
        latest = Deadline.after(20)
        search = InputSplit.of(small, problem, latest, lambda x: None, lambda p: None, "crown", lambda: None)
        result = search.run(latest)
        assert result.verdict == "unknown"


def test_passed_deadlines_are_timeouts() -> None:
    graph = dense_graph(0, (2, 8, 8, 2))
    prop = make_property(2, 2, [([-5.0, -5.0], [5.0, 5.0])], [(0, [({2: 1.0}, -1.0)])])
    for decide in (split_inputs, split_neurons):
        assert decide(graph, prop, seconds=-1.0).verdict == "timeout"


def test_the_longest_disjunct_may_be_closed_before_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing but the choice of disjuncts is new, what is known of the others goes on with fewer rows."""
    monkeypatch.setattr(split_activations, "LEAST_STEPS", 1000)
    graph = graph_of(*network("shares", "relu", 71))
    n = graph.n_inputs
    box = ([-0.5] * n, [0.5] * n)
    value = float(graph.forward(torch.zeros(1, n, dtype=torch.float64))[0, 0])
    contradiction = [({n: 1.0}, value - 0.1), ({n: -1.0}, -value - 0.1)]
    prop = make_property(n, graph.n_outputs, [box], [(0, contradiction), (0, [({n: 1.0}, value)])])
    assert split_neurons(graph, prop, seconds=2.0).verdict != "unsat"
    prop = make_property(n, graph.n_outputs, [box], [(0, contradiction), (0, [({n: 1.0}, value - 2.0)])])
    assert split_neurons(graph, prop, seconds=20.0).verdict == "unsat"
