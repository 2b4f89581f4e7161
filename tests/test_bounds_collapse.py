"""Collapsed networks: the same function on the box, the same bounds, at every depth of collapsing."""

from __future__ import annotations

import pytest
import torch
from random_networks import generator, graph_of, network, normal

from lirpa_verify.bounds.collapse import collapse
from lirpa_verify.bounds.intermediate import bound_nodes
from lirpa_verify.bounds.optimised_nodes import Effort, optimise_nodes
from lirpa_verify.deadline import Deadline
from lirpa_verify.graph.graph import Graph
from lirpa_verify.operators.base import Interval
from lirpa_verify.operators.joint_dense import JointDense

LATER = Deadline.after(1e6)
KINDS = [
    ("dense", "relu"),
    ("residual", "leaky"),
    ("concat", "relu"),
    ("dense", "tanh"),
    ("residual", "sin"),
    ("conv", "relu"),
]


def setting(kind: str, activation: str, seed: int, radius: float) -> tuple[Graph, Interval, torch.Tensor]:
    graph = graph_of(*network(kind, activation, seed))
    g = generator(seed)
    middle = normal(g, 1, graph.n_inputs)
    box = Interval(middle - radius, middle + radius)
    points = middle + radius * (2 * torch.rand(500, graph.n_inputs, generator=g, dtype=torch.float64) - 1)
    return graph, box, points


@pytest.mark.parametrize(("kind", "activation"), KINDS)
@pytest.mark.parametrize("radius", [0.0, 0.05, 0.7])
def test_same_function_and_bounds_that_hold(kind: str, activation: str, radius: float) -> None:
    graph, box, points = setting(kind, activation, 51, radius)
    values = bound_nodes(graph, box)
    small = collapse(graph, values)
    assert small is not None
    expected = graph.forward(points)
    torch.testing.assert_close(small.graph.forward(points), expected, rtol=1e-10, atol=1e-10)
    found = bound_nodes(small.graph, box, known={i: v for i, v in enumerate(small.values) if i})
    for i, value in enumerate(small.graph.evaluate(points)):
        assert bool((value >= found[i].lower - 1e-12).all()) and bool((value <= found[i].upper + 1e-12).all())
    for z, kept in small.kept.items():
        assert bool((found[kept.node].lower >= values[z].lower.flatten(1)[:, kept.entries] - 1e-9).all())


@pytest.mark.parametrize(("kind", "activation"), [("dense", "relu"), ("residual", "leaky"), ("conv", "relu")])
def test_decided_neurons_are_gone(kind: str, activation: str) -> None:
    graph, box, _ = setting(kind, activation, 52, 0.1)
    values = bound_nodes(graph, box)
    undecided = sum(
        int(((values[z].lower < 0) & (values[z].upper > 0)).sum())
        for z in graph.bounded
        if any(graph.nodes[u].operator.bounded for u in graph.users[z])
    )
    small = collapse(graph, values)
    assert small is not None
    assert sum(small.graph.nodes[kept.node].size for kept in small.kept.values()) == undecided


def test_rounding_terms_do_not_grow_from_collapse_to_collapse() -> None:
    graph, box, _ = setting("dense", "relu", 53, 0.5)
    values = bound_nodes(graph, box)
    sizes = []
    for _ in range(12):
        small = collapse(graph, values)
        assert small is not None
        graph, values = small.graph, small.values
        sizes.append(max(float(n.operator.terms.max()) for n in graph.nodes if isinstance(n.operator, JointDense)))
    assert sizes[-1] < 50 * sizes[0]


def test_restored_bounds_hold_and_are_tighter() -> None:
    graph, box, points = setting("residual", "relu", 54, 0.5)
    values = bound_nodes(graph, box)
    small = collapse(graph, values)
    assert small is not None
    tighter = optimise_nodes(small.graph, box, small.values, Effort(10, LATER))
    restored = small.restore(values, tighter)
    gained = 0.0
    for i, value in enumerate(graph.evaluate(points)):
        assert bool((value >= restored[i].lower - 1e-12).all()) and bool((value <= restored[i].upper + 1e-12).all())
        gained += float((restored[i].lower - values[i].lower).sum())
    assert gained > 0


def test_what_is_too_large_or_of_another_kind_stays() -> None:
    graph, box, _ = setting("dense", "relu", 55, 0.7)
    assert collapse(graph, bound_nodes(graph, box), largest=3) is None
    graph, box, _ = setting("product", "relu", 55, 0.7)
    assert collapse(graph, bound_nodes(graph, box)) is None
