"""Bounds under the assumption of a violation enclose every violation, and are narrower than those without."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from random_networks import Row, generator, graph_of, make_property, network, normal, problem_of
from torch import Tensor

from lirpa_verify.bounds.collapse import collapse
from lirpa_verify.bounds.intermediate import bound_nodes
from lirpa_verify.bounds.optimised_nodes import Effort
from lirpa_verify.deadline import Deadline
from lirpa_verify.graph.graph import Graph
from lirpa_verify.operators.base import Interval
from lirpa_verify.search.cube import Cube
from lirpa_verify.search.cubes import Cubes
from lirpa_verify.search.halves import halved
from lirpa_verify.search.output_constraint import assume_violation, nothing_in, with_decided
from lirpa_verify.search.roots import Task, root_domains

LATER = Deadline.after(1e6)
EFFORT = Effort(10, LATER)


def points_of(graph: Graph, seed: int, radius: float, count: int = 20_000) -> tuple[Interval, Tensor]:
    g = generator(seed)
    middle = normal(g, graph.n_inputs)
    points = middle + radius * (2 * torch.rand(count, graph.n_inputs, generator=g, dtype=torch.float64) - 1)
    return Interval(middle - radius, middle + radius), points


def task_of(graph: Graph, box: Interval, rows: list[Row], collapsed: bool = True) -> Task:
    """The rows of one disjunct over the network, collapsed where it can be."""
    ends = (box.lower.tolist(), box.upper.tolist())
    problem = problem_of(make_property(graph.n_inputs, graph.n_outputs, [ends], [(0, rows)]))
    values = bound_nodes(graph, problem.box)
    small = collapse(graph, values) if collapsed else None
    if small is not None:
        graph, values = small.graph, small.values
    return Task.of(graph, problem, 0, torch.tensor([0]), values)


def lacking(task: Task) -> float:
    return -float(root_domains(task, LATER, 10).margin)


def sampled_rows(graph: Graph, points: Tensor, share: float) -> tuple[list[Row], Tensor]:
    """A conjunction (one row on outputs, one that mentions an input) that a share of the points fulfil."""
    y = graph.forward(points)
    first, second = y[:, 0], y[:, -1] + 0.5 * points[:, 0]
    limits = [float(values.quantile(share)) for values in (first, second)]
    n, last = graph.n_inputs, graph.n_inputs + graph.n_outputs - 1
    rows: list[Row] = [({n: 1.0}, limits[0]), ({last: 1.0, 0: 0.5}, limits[1])]
    return rows, (first <= limits[0]) & (second <= limits[1])


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("kind", "activation"),
    [("dense", "relu"), ("residual", "leaky"), ("dense", "tanh"), ("residual", "sin"), ("product", "relu")],
)
def test_every_violation_is_enclosed(kind: str, activation: str, seed: int) -> None:
    graph = graph_of(*network(kind, activation, seed))
    box, points = points_of(graph, seed, 0.8)
    rows, violated = sampled_rows(graph, points, 0.3)
    assert bool(violated.any())
    task = task_of(graph, box, rows)
    for _ in range(3):
        if lacking(task) <= 0:
            pytest.fail("a violation exists")
        values = assume_violation(task, lacking(task), EFFORT)
        assert values is not None
        for value, have in zip(task.graph.evaluate(points[violated]), values, strict=True):
            assert bool((value >= have.lower - 1e-9).all() and (value <= have.upper + 1e-9).all())
        task = replace(task, nodes=tuple(values), cuts=with_decided(task, values))


def test_a_violation_just_reached_is_enclosed() -> None:
    """The set of violations has a single point of the sample in it."""
    for seed in range(12):
        graph = graph_of(*network("dense", "relu", seed))
        box, points = points_of(graph, seed, 0.8)
        y = graph.forward(points)[:, 0]
        task = task_of(graph, box, [({graph.n_inputs: 1.0}, float(y.min()))])
        nearest = points[y.argmin()].unsqueeze(0)
        for _ in range(5):
            values = assume_violation(task, max(1e-6, lacking(task)), EFFORT)
            assert values is not None
            for value, have in zip(task.graph.evaluate(nearest), values, strict=True):
                assert bool((value >= have.lower - 1e-9).all() and (value <= have.upper + 1e-9).all())
            task = replace(task, nodes=tuple(values), cuts=with_decided(task, values))


def test_bounds_are_narrower_than_without_the_assumption() -> None:
    graph = graph_of(*network("dense", "relu", 61))
    box, points = points_of(graph, 61, 0.8)
    y = graph.forward(points)[:, 0]
    task = task_of(graph, box, [({graph.n_inputs: 1.0}, float(y.quantile(0.01)))])
    values = assume_violation(task, lacking(task), EFFORT)
    assert values is not None
    last = task.layout.nodes[-1]
    before, after = task.nodes[last], values[last]
    assert float((after.upper - after.lower).sum()) < 0.95 * float((before.upper - before.lower).sum())


def test_cuts_above_a_node_count() -> None:
    """In half of a cube, cut at the last layer, bounds enclose the violations of this half."""
    graph = graph_of(*network("residual", "relu", 64))
    box, points = points_of(graph, 64, 0.8)
    rows, violated = sampled_rows(graph, points, 0.4)
    task = task_of(graph, box, rows)
    entry = torch.tensor(sum(task.layout.size) - 1)
    for half in halved(task, entry):
        part = replace(task, nodes=tuple(half.values), cuts=half.cuts)
        every = task.graph.evaluate(points)
        inside = violated.clone()
        for z, sign in half.cuts.sign.items():
            inside &= (sign * (every[z] - half.cuts.point[z]) <= 0).all(1)
        values = assume_violation(part, max(1e-3, lacking(part)), EFFORT)
        if values is None:
            assert not bool(inside.any())
            continue
        for value, have in zip(every, values, strict=True):
            assert bool((value[inside] >= have.lower - 1e-9).all() and (value[inside] <= have.upper + 1e-9).all())


def test_intervals_empty_by_rounding_only_exclude_nothing() -> None:
    one = torch.ones(1, 2, dtype=torch.float64)
    assert not nothing_in([Interval(one, one * (1 - 1e-15))])
    assert not nothing_in([Interval(one * torch.nan, one)])
    assert nothing_in([Interval(one, one * 0.99)])


def test_sweeps_close_what_optimised_bounds_leave_open() -> None:
    """No search, no cuts: roots that alpha-CROWN leaves open are closed by repeated sweeps."""
    graph = graph_of(*network("dense", "relu", 61))
    box, points = points_of(graph, 61, 0.8)
    y = graph.forward(points)[:, 0]
    closed = 0
    for below in (0.05, 0.1, 0.2, 0.3, 0.4, 0.6):
        rows: list[Row] = [({graph.n_inputs: 1.0}, float(y.min() - below * (y.max() - y.min())))]
        ends = (box.lower.tolist(), box.upper.tolist())
        problem = problem_of(make_property(graph.n_inputs, graph.n_outputs, [ends], [(0, rows)]))
        task = task_of(graph, box, rows)
        domains = root_domains(task, LATER, 30)
        if len(domains.open_index):
            search = Cubes(problem, 0, LATER, lambda points: None, lambda progress: None, lambda: None)
            closed += search.narrow(Cube(task, torch.tensor([0]), domains, 0.01)) == []
    assert closed > 0
