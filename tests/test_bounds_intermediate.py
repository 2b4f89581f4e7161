"""Shared rows and rows per box find the same intermediate bounds, in one chunk or in many."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from random_networks import dense_graph, generator, graph_of, network, normal, random_boxes, samples
from torch import Tensor, nn

from lirpa_verify.bounds import entry_rows, intermediate
from lirpa_verify.bounds.crown import backward
from lirpa_verify.bounds.intermediate import bound_nodes
from lirpa_verify.graph.graph import Graph
from lirpa_verify.operators.base import Interval

KINDS = [("dense", "relu"), ("residual", "tanh"), ("concat", "relu"), ("product", "sigmoid"), ("conv", "leaky")]


def bounds_with(
    monkeypatch: pytest.MonkeyPatch, graph: Graph, box: Interval, cost: float, chunk: int, ahead: int
) -> list[Interval]:
    monkeypatch.setattr(entry_rows, "OWN_ROW_COST", cost)
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


@pytest.mark.parametrize(("kind", "activation"), [*KINDS, ("residual", "relu"), ("dense", "leaky"), ("conv", "sin")])
@pytest.mark.parametrize("radius", [0.01, 0.1, 0.6])
def test_signs_first_decides_the_same(kind: str, activation: str, radius: float) -> None:
    """The same signs, and undecided entries as tight as with both sides of every row; all intervals enclose."""
    graph = graph_of(*network(kind, activation, 24))
    middle = normal(generator(24), 1, graph.n_inputs)
    box = Interval(middle - radius, middle + radius)
    points = samples(generator(25), box, 300)[:, 0]
    both, first = bound_nodes(graph, box), bound_nodes(graph, box, signs_first=True)
    for interval, value in zip(first, graph.evaluate(points), strict=True):
        slack = 1e-9 * (1 + value.abs())
        assert bool((value >= interval.lower - slack).all()) and bool((value <= interval.upper + slack).all())
    for i in graph.tightened:
        mask = intermediate.undecided_entries(graph, i, both[i])
        assert torch.equal(mask, intermediate.undecided_entries(graph, i, first[i]))
        mask = mask.reshape(both[i].lower.shape)
        assert bool((first[i].lower >= both[i].lower - 1e-9)[mask].all())
        assert bool((first[i].upper <= both[i].upper + 1e-9)[mask].all())


NONLINEAR: dict[str, Callable[[Tensor], Tensor]] = {
    "product": lambda x: x[..., :4] * x[..., 4:],
    "quotient": lambda x: x[..., :4] / (1.5 + torch.sigmoid(x[..., 4:])),
    "norm": lambda x: nn.functional.layer_norm(x, (8,)),
    "maximum": lambda x: torch.maximum(x[..., :4], x[..., 4:]) - 0.5,
}


@pytest.mark.parametrize("kind", NONLINEAR)
def test_signs_first_of_a_node_that_is_nonlinear_itself(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own relaxation is away from its function, too: one row does not bound the other side."""
    monkeypatch.setattr(intermediate, "FORWARD_INPUTS", 0)
    g = generator(29)
    first, last = normal(g, 5, 8), normal(g, 8 if kind == "norm" else 4, 3)
    graph = graph_of(lambda x: torch.relu(NONLINEAR[kind](x @ first)) @ last, (1, 5))
    for radius in (0.01, 0.1, 0.4):
        middle = normal(g, 1, 5)
        box = Interval(middle - radius, middle + radius)
        values = bound_nodes(graph, box, signs_first=True)
        points = samples(g, box, 500)[:, 0]
        for interval, value in zip(values, graph.evaluate(points), strict=True):
            slack = 1e-9 * (1 + value.abs())
            assert bool((value >= interval.lower - slack).all()) and bool((value <= interval.upper + slack).all())


def test_one_row_bounds_both_sides() -> None:
    """The side that a row is not for: as tight as a row of its own where nothing below is undecided."""
    graph = dense_graph(26, (4, 8, 8, 3), "leaky")
    middle = normal(generator(26), 1, 4)
    for radius in (0.0, 1e-3, 0.2):
        box = Interval(middle - radius, middle + radius)
        values = bound_nodes(graph, box)
        lines = {
            i: node.operator.relaxation(values[node.arguments[0]], None)
            for i, node in enumerate(graph.nodes)
            if node.operator.bounded
        }
        gaps = intermediate.gaps_of(graph, graph.output, values, lines)
        rows = normal(generator(27), 1, 5, 3)
        linear = backward(graph, {graph.output: rows}, dict(enumerate(values)), lines=lines, gaps=gaps)
        other = -backward(graph, {graph.output: -rows}, dict(enumerate(values)), lines=lines).lower(box)
        reached = graph.forward(samples(generator(28), box, 300)[:, 0]) @ rows[0].mT
        assert bool((linear.upper(box) >= reached.amax(0) - 1e-9).all())
        if not any(len(gap.index) for gap in gaps.values()):
            assert torch.allclose(linear.upper(box), other, atol=1e-9)
            assert radius < 0.2
        else:
            assert radius > 0


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
