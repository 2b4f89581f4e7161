"""Shared rows and rows per box find the same intermediate bounds, in one chunk or in many."""

from __future__ import annotations

import pytest
import torch
from random_networks import dense_graph, generator, graph_of, network, random_boxes, samples

from lirpa_verify.bounds import intermediate
from lirpa_verify.bounds.intermediate import bound_nodes
from lirpa_verify.graph.graph import Graph
from lirpa_verify.operators.base import Interval

KINDS = [("dense", "relu"), ("residual", "tanh"), ("concat", "relu"), ("product", "sigmoid"), ("conv", "leaky")]


def bounds_with(
    monkeypatch: pytest.MonkeyPatch, graph: Graph, box: Interval, cost: float, chunk: int, ahead: int
) -> list[Interval]:
    monkeypatch.setattr(intermediate, "OWN_ROW_COST", cost)
    monkeypatch.setattr(intermediate, "CHUNK_BYTES", chunk)
    monkeypatch.setattr(intermediate, "FORWARD_INPUTS", ahead)
    return bound_nodes(graph, box)


@pytest.mark.parametrize(("kind", "activation"), KINDS)
def test_ways_of_bounding_agree_where_it_matters(kind: str, activation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shared rows also bound decided entries, so only undecided ones must agree; all must enclose."""
    graph = graph_of(*network(kind, activation, 21))
    g = generator(21)
    box = random_boxes(g, 40, graph.n_inputs)
    points = samples(g, box, 60)
    values = [v.unflatten(0, points.shape[:2]) for v in graph.evaluate(points.flatten(0, 1))]
    for ahead in (0, 64):
        found = [
            bounds_with(monkeypatch, graph, box, cost, chunk, ahead)
            for cost, chunk in ((1e9, 2**30), (0.0, 2**30), (1e9, 500), (0.0, 500), (1.2, 2**21))
        ]
        for bounds in found:
            for i, interval in enumerate(bounds[1:], start=1):
                slack = 1e-9 * (1 + values[i].abs())
                assert bool((values[i] >= interval.lower - slack).all())
                assert bool((values[i] <= interval.upper + slack).all())
        for i in graph.bounded:
            reference = found[0][i]
            undecided = (reference.lower < 0) & (reference.upper > 0)
            for bounds in found[1:]:
                for one, other in zip(reference, bounds[i], strict=True):
                    assert torch.allclose(one[undecided], other.expand_as(one)[undecided], rtol=1e-7, atol=1e-7), i


def test_known_bounds_are_used() -> None:
    graph = dense_graph(22, (3, 6, 6, 2))
    box = Interval(torch.full((2, 3), -1.0, dtype=torch.float64), torch.full((2, 3), 1.0, dtype=torch.float64))
    wide = bound_nodes(graph, box)
    z = graph.bounded[-1]
    middle = (wide[z].lower + wide[z].upper) / 2
    tight = bound_nodes(graph, box, known={z: Interval(wide[z].lower, middle)})
    assert bool((tight[z].upper <= middle + 1e-9).all())
    assert bool((tight[-1].upper <= wide[-1].upper + 1e-9).all())


def test_entries_without_users_that_need_them_are_left_alone() -> None:
    """A box in which every sign is known costs no backward row."""
    graph = dense_graph(23, (3, 6, 6, 2))
    x = torch.ones(1, 3, dtype=torch.float64)
    bounds = bound_nodes(graph, Interval(x, x))
    assert all(torch.allclose(lower, upper, atol=1e-6) for lower, upper in bounds)
