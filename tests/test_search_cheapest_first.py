"""The cheapest bounds prove no more than holds, prove it without anything dearer, and give up early."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from random_networks import generator, graph_of, make_property, network, normal, problem_of, samples

import lirpa_verify.search.bound_boxes as bound_boxes
import lirpa_verify.search.cheapest_first as cheapest_first
import lirpa_verify.search.roots as roots
import lirpa_verify.search.split_activations as split_activations
from lirpa_verify.bounds.crown import LinearBound, backward
from lirpa_verify.bounds.intermediate import NEVER, bound_nodes
from lirpa_verify.bounds.interval import interval_bounds
from lirpa_verify.deadline import Deadline
from lirpa_verify.graph.graph import Graph
from lirpa_verify.operators.base import Interval
from lirpa_verify.search.cheapest_first import (
    hardest_first,
    open_by_lines,
    open_disjuncts,
    open_over_intervals,
    proved_by_intervals,
)
from lirpa_verify.search.input_split import initial_boxes
from lirpa_verify.search.specification import Problem

LATER = Deadline.after(1e6)
KINDS = [("dense", "relu"), ("residual", "leaky"), ("convolutional", "relu"), ("dense", "tanh")]


def setting(kind: str, activation: str, shares: list[float], boxes: int = 1) -> tuple[Graph, Problem]:
    """Disjuncts ``y_0 <= t``, and t for each: so far from the interval's lower end to its middle."""
    graph = graph_of(*network(kind, activation, 5))
    n, m = graph.n_inputs, graph.n_outputs
    middle, g = normal(generator(5), n), generator(6)
    ends = [(middle + normal(g, n, scale=0.1) - 0.1, middle + 0.3) for _ in range(boxes)]
    box = Interval(torch.stack([torch.minimum(*e) for e in ends]), torch.stack([torch.maximum(*e) for e in ends]))
    output = interval_bounds(graph, Interval(box.lower[:1].double(), box.upper[:1].double()))[graph.output]
    low, high = float(output.lower[0, 0]), float(output.upper[0, 0])
    rows = [(b, [({n: 1.0}, low + s * (high - low) / 2)]) for b in range(boxes) for s in shares]
    listed = [(low.tolist(), high.tolist()) for low, high in zip(*box, strict=True)]
    return graph, problem_of(make_property(n, m, listed, rows))


@pytest.mark.parametrize(("kind", "activation"), KINDS)
def test_intervals_prove_what_lies_below_them_only(kind: str, activation: str) -> None:
    assert proved_by_intervals(*setting(kind, activation, [-0.1, -0.2]), LATER)
    assert not proved_by_intervals(*setting(kind, activation, [-0.1, 0.1]), LATER)


def test_boxes_are_tried_until_one_is_not_proved(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, problem = setting("dense", "relu", [-50.0], boxes=9)
    batches: list[int] = []

    def counted(graph: Graph, box: Interval, method: str) -> list[Interval]:
        batches.append(len(box.lower))
        return bound_nodes(graph, box, "ibp")

    monkeypatch.setattr(cheapest_first, "bound_nodes", counted)
    assert proved_by_intervals(graph, problem, LATER)
    assert batches == [1, 2, 4, 2]
    batches.clear()
    assert not proved_by_intervals(*setting("dense", "relu", [0.5], boxes=9), LATER)
    assert batches == [1]
    assert not proved_by_intervals(graph, problem, Deadline.after(-1))


@pytest.mark.parametrize(("kind", "activation"), KINDS)
@pytest.mark.parametrize("chunk", [1, 1000])
def test_disjuncts_that_points_satisfy_stay_open(
    kind: str, activation: str, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cheapest_first, "rows_per_chunk", lambda *arguments: chunk)
    shares = [-0.1, 0.2, 0.5, 0.9, 1.5]
    graph, problem = setting(kind, activation, shares)
    points = samples(generator(1), problem.box, 500)[:, 0]
    at = torch.zeros(len(points), dtype=torch.int64)
    reached = (problem.specification.margins(points, graph.forward(points), at) <= 0).all(2).any(0)
    values = bound_nodes(graph, problem.box)
    numbers = torch.arange(len(shares))
    for found in (open_over_intervals(graph, problem, 0, LATER)[0], open_disjuncts(graph, problem, 0, numbers, values)):
        assert 0 not in found  # below the interval
        assert torch.isin(reached.nonzero().flatten(), found).all()
        assert found.tolist() == sorted(found.tolist())
    assert reached.any()
    assert len(open_disjuncts(graph, problem, 0, numbers[:1], values)) == 0


def test_lines_give_up_at_the_first_disjunct_that_stays_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cheapest_first, "rows_per_chunk", lambda *arguments: 1)
    graph, problem = setting("dense", "relu", [-0.2, 0.9, -0.1])
    values = interval_bounds(graph, problem.box)
    order = hardest_first(graph, problem, 0)
    assert order.tolist() == [1, 2, 0]  # the larger the bound that is asked for, the nearer
    assert open_by_lines(graph, problem, 0, order, values, LATER).tolist() == [True, False, False]
    assert open_by_lines(graph, problem, 0, order, values, LATER, all_or_none=True).tolist() == [True, True, True]
    assert open_by_lines(graph, problem, 0, order, values, Deadline.after(-1)).all()


def test_nothing_dearer_runs_where_cheap_bounds_suffice(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*arguments: object, **options: object) -> list[Interval]:
        raise AssertionError("bounds of the nodes by lines are not needed")

    graph, problem = setting("dense", "relu", [-0.1, 0.05])
    monkeypatch.setattr(split_activations, "bound_nodes", forbidden)
    assert len(open_over_intervals(graph, problem, 0, NEVER)[0]) == 0
    result = split_activations.split_activations(
        graph, problem, LATER, lambda points: None, lambda progress: None, lambda: None
    )
    assert result.verdict == "unsat"


def test_rows_in_parts_have_the_same_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, problem = setting("convolutional", "relu", [0.1, 0.2, 0.5, 0.9, 1.5], boxes=3)
    boxes = initial_boxes(problem)
    whole = bound_boxes.bound_boxes(graph, problem.specification, boxes, "crown")
    passes: list[int] = []

    def counted(*arguments: Any, **options: Any) -> LinearBound:
        passes.append(1)
        return backward(*arguments, **options)

    monkeypatch.setattr(bound_boxes, "ROWS_BYTES", 1)
    monkeypatch.setattr(bound_boxes, "backward", counted)
    parts = bound_boxes.bound_boxes(graph, problem.specification, boxes, "crown")
    assert len(passes) == 5
    assert torch.allclose(parts.margin, whole.margin) and torch.allclose(parts.linear.weight, whole.linear.weight)
    assert parts.disjuncts.tolist() == whole.disjuncts.tolist()


def test_roots_in_parts_are_the_same_roots(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, problem = setting("dense", "relu", [0.2, 0.9, -0.2, 1.5, 1.2])
    values = bound_nodes(graph, problem.box)
    task = roots.Task.of(graph, problem, 0, torch.arange(5), values)
    whole = roots.open_domains(task, LATER, 5)
    assert whole is not None and 0 < len(whole) < 5
    monkeypatch.setattr(roots, "ROOTS_BYTES", 2 * task.bytes_per_domain())
    parts = roots.open_domains(task, LATER, 5)
    assert parts is not None and parts.root.tolist() == whole.root.tolist()
    assert (parts.margin <= 0).all()
    monkeypatch.setattr(roots, "ROOTS_BYTES", task.bytes_per_domain())
    monkeypatch.setattr(roots, "KEPT", 1)
    assert roots.open_domains(task, LATER, 5) is None
