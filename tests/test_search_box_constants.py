"""Constants of boxes: the same functions, bounds that hold, the same verdicts."""

from __future__ import annotations

import pytest
import torch
from deciders import restricted
from random_networks import generator, graph_of, make_property, normal, samples
from torch import Tensor

from lirpa_verify.bounds.crown import backward
from lirpa_verify.bounds.intermediate import bound_nodes
from lirpa_verify.deadline import Deadline
from lirpa_verify.graph.graph import Graph
from lirpa_verify.operators.base import Interval, LinearForms
from lirpa_verify.operators.uncertain import Uncertain
from lirpa_verify.search.bound_boxes import bound_boxes
from lirpa_verify.search.box_constants import with_box_constants
from lirpa_verify.search.input_split import InputSplit, initial_boxes
from lirpa_verify.search.specification import Problem

G = generator(81)
LEFT, RIGHT, TOP = normal(G, 2, 9), normal(G, 3, 9), normal(G, 9, 2, scale=0.4)
MIDDLE = normal(G, 9, 9, scale=0.4)


def branches(x: Tensor) -> Tensor:
    """One branch for the first two inputs, a deeper one for the others, multiplied."""
    fixed = torch.sigmoid(torch.relu(torch.relu(x[:, 2:5] @ RIGHT) @ MIDDLE) @ MIDDLE)
    return (torch.relu(x[:, :2] @ LEFT) * fixed) @ TOP + x[:, 4:5]


def queries(count: int, threshold: float, with_inputs: bool = False) -> tuple[Graph, Problem]:
    """Boxes of which only the first two inputs vary; the third one is the same in all."""
    graph = graph_of(branches, (1, 5))
    middle = normal(generator(82), count, 5)
    middle[:, 2] = 0.25
    radius = torch.tensor([0.3, 0.2, 0, 0, 0], dtype=torch.float64)
    boxes = [((m - radius).tolist(), (m + radius).tolist()) for m in middle]
    row = {5: 1.0, 6: -0.5, **({0: 0.3, 4: -0.2} if with_inputs else {})}
    return restricted(graph, make_property(5, 2, boxes, [(k, [(row, threshold)]) for k in range(count)]))


@pytest.mark.parametrize("with_inputs", [False, True])
@pytest.mark.parametrize("method", ["forward", "crown"])
def test_the_smaller_network_is_the_same_on_every_box(method: str, with_inputs: bool) -> None:
    graph, problem = queries(70, -0.5, with_inputs)
    n = problem.box.lower.shape[1]
    small, posed = with_box_constants(graph, problem)
    assert sum(node.size for node in small.nodes[1:]) < 0.75 * sum(node.size for node in graph.nodes[1:])
    assert torch.equal(posed.box.lower[:, n:], posed.box.upper[:, n:])
    boxes, original = initial_boxes(posed), initial_boxes(problem)
    points = samples(generator(83), posed.box, 200).flatten(0, 1)
    origin = original.origin.repeat(200)
    value = problem.specification.margins(points[:, :n], graph.forward(points[:, :n]), origin)
    assert torch.allclose(small.forward(points), graph.forward(points[:, :n]), rtol=1e-12, atol=1e-12)
    assert torch.allclose(posed.specification.margins(points, small.forward(points), origin), value, atol=1e-11)
    found = bound_boxes(small, posed.specification, boxes, method)
    before = bound_boxes(graph, problem.specification, original, method)
    least = value.unflatten(0, (200, -1)).amin(0)[:, found.disjuncts]
    alive = original.alive[:, found.disjuncts]
    assert bool((found.margin <= least)[alive].all())
    assert torch.allclose(found.margin[alive], before.margin[alive], rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize(("threshold", "verdict"), [(-4.0, "unsat"), (-0.5, "sat")])
def test_verdicts(threshold: float, verdict: str) -> None:
    graph, problem = queries(40, threshold)
    small, posed = with_box_constants(graph, problem)
    for network, question in ((graph, problem), (small, posed)):
        n = problem.box.lower.shape[1]

        def confirm(x: Tensor, n: int = n) -> Tensor:
            return x[:1, :n]

        latest = Deadline.after(60)
        begun = InputSplit.of(
            network,
            question,
            latest,
            confirm,
            lambda progress: None,
            None,
            lambda: None,  # type: ignore[arg-type]
        )
        result = begun.run(latest)
        assert result.verdict == verdict


def test_nothing_to_gain() -> None:
    graph, problem = queries(1, 0.0)
    assert with_box_constants(graph, problem) == (graph, problem)
    graph, problem = queries(5, 0.0)
    wide = problem.box.upper + torch.rand(problem.box.upper.shape, generator=generator(84), dtype=torch.float64)
    everything = Problem(Interval(problem.box.lower, wide), problem.specification, problem.varying, problem.values)
    assert with_box_constants(graph, everything)[0] is graph


def test_rules_hold_within_the_radius() -> None:
    radius = torch.tensor([0.5, 0.0, 2.0], dtype=torch.float64)
    operator = Uncertain(radius)
    middle = normal(G, 4, 3)
    box = Interval(middle - 0.3, middle + 0.3)
    x = samples(G, box, 400)
    y = x + radius * (2 * torch.rand(x.shape, generator=G, dtype=torch.float64).round() - 1)
    interval = operator.interval(box)
    assert bool((y >= interval.lower).all()) and bool((y <= interval.upper).all())
    assert torch.allclose(y.amin(0), interval.lower, atol=1e-2) and torch.allclose(y.amax(0), interval.upper, atol=1e-2)
    rows = normal(G, 4, 6, 3)
    found = operator.backward(rows, (box,), None)
    assert found.coefficients[0] is not None
    bound = torch.einsum("nbj,brj->nbr", x, found.coefficients[0]) + found.offset
    assert bool((torch.einsum("nbj,brj->nbr", y, rows) >= bound - 1e-12).all())
    eye, zero = torch.eye(3, dtype=torch.float64).expand(4, 3, 3), torch.zeros(4, 3, dtype=torch.float64)
    form = operator.compose((LinearForms(eye, zero, eye, zero),), (box,))
    assert bool((y >= x + form.lower_offset).all()) and bool((y <= x + form.upper_offset).all())


def test_both_sides_of_a_row_pay_for_the_radius() -> None:
    """Behind it, an upper bound is above and a lower bound below, whatever is linear in between."""
    graph, problem = queries(20, 0.0)
    small, posed = with_box_constants(graph, problem)
    nodes = [
        type(node)(Uncertain(node.operator.radius + 0.01), node.arguments, node.shape, node.name)
        if isinstance(node.operator, Uncertain)
        else node
        for node in small.nodes
    ]
    blurred = Graph(tuple(nodes))
    values = bound_nodes(blurred, posed.box)
    rows = torch.tensor(
        [
            [[1.0, 0.0]],
        ],
        dtype=torch.float64,
    )
    start = {blurred.output: torch.cat([rows, -rows], 1)}
    low, negated = backward(blurred, start, dict(enumerate(values))).lower(posed.box).unbind(1)
    exact = small.forward((posed.box.lower + posed.box.upper) / 2)[:, 0]
    assert bool((low < exact - 1e-3).all()) and bool((-negated > exact + 1e-3).all())
