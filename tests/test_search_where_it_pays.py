"""Entries that a property pays most for are bounded first, every bound holds, and what does not pay is left."""

from __future__ import annotations

import pytest
import torch
from random_networks import generator, graph_of, make_property, network, normal, problem_of, samples

import lirpa_verify.bounds.intermediate as intermediate
import lirpa_verify.search.where_it_pays as where_it_pays
from lirpa_verify.bounds.intermediate import bound_nodes
from lirpa_verify.bounds.interval import interval_bounds
from lirpa_verify.deadline import Deadline
from lirpa_verify.graph.graph import Graph
from lirpa_verify.search.branching import splittable
from lirpa_verify.search.specification import Problem
from lirpa_verify.search.where_it_pays import dearest, narrowed, payments

LATER = Deadline.after(1e6)
KINDS = [("dense", "relu"), ("residual", "leaky"), ("convolutional", "relu"), ("dense", "tanh")]
ALL = torch.arange(4)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the networks were large, with many inputs."""
    monkeypatch.setattr(where_it_pays, "FIRST", 2)
    monkeypatch.setattr(where_it_pays, "FEW", 0)
    monkeypatch.setattr(where_it_pays, "NEAR", 1e6)
    monkeypatch.setattr(intermediate, "FORWARD_INPUTS", 0)


def setting(kind: str, activation: str) -> tuple[Graph, Problem]:
    """Four disjuncts ``y_0 <= t`` between the bounds by intervals and those by lines over lines, and above these."""
    graph = graph_of(*network(kind, activation, 9))
    n, m = graph.n_inputs, graph.n_outputs
    middle = normal(generator(9), n)
    ends = ((middle - 0.4).tolist(), (middle + 0.4).tolist())
    box = problem_of(make_property(n, m, [ends], [(0, [({n: 1.0}, 0.0)])])).box
    loose = float(interval_bounds(graph, box)[graph.output].lower[0, 0])
    tight = float(bound_nodes(graph, box)[graph.output].lower[0, 0])
    rows = [(0, [({n: 1.0}, loose + s * (tight - loose))]) for s in (0.5, 0.9, 1.0, 1.5)]
    return graph, problem_of(make_property(n, m, [ends], rows))


@pytest.mark.parametrize(("kind", "activation"), KINDS)
def test_bounds_hold_and_are_nowhere_wider(kind: str, activation: str) -> None:
    graph, problem = setting(kind, activation)
    before = interval_bounds(graph, problem.box)
    left, values = narrowed(graph, problem, 0, ALL, before, LATER)
    points = samples(generator(2), problem.box, 300)[:, 0]
    for value, old, at in zip(values, before, graph.evaluate(points), strict=True):
        assert (value.lower >= old.lower).all() and (value.upper <= old.upper).all()
        assert (value.lower <= at + 1e-9).all() and (value.upper >= at - 1e-9).all()
    number = torch.zeros(len(points), dtype=torch.int64)
    reached = (problem.specification.margins(points, graph.forward(points), number) <= 0).all(2).any(0)
    assert torch.isin(reached.nonzero().flatten(), left).all()
    assert any((v.upper - v.lower < o.upper - o.lower).any() for v, o in zip(values, before, strict=True))


def test_the_first_round_bounds_what_is_paid_most_for(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, problem = setting("dense", "relu")
    before, layout = interval_bounds(graph, problem.box), splittable(graph)
    rounds: list[dict[int, torch.Tensor]] = []

    def watched(*arguments: object, **options: object) -> object:
        rounds.append(options["wanted"])  # type: ignore[arg-type]
        return bound_nodes(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(where_it_pays, "bound_nodes", watched)
    narrowed(graph, problem, 0, ALL, before, LATER)
    lacking, paid = payments(graph, problem, 0, ALL, before, layout)
    assert lacking > 0 and (paid >= 0).all()
    first = torch.cat([rounds[0][z][0] for z in layout.nodes])
    assert first.sum() == 2 and paid[first].min() >= paid[~first].max()
    assert all(sum(int(m.sum()) for m in masks.values()) <= 2 * 4**k for k, masks in enumerate(rounds))


def test_only_wanted_entries_are_bounded_by_lines() -> None:
    graph, problem = setting("dense", "relu")
    before, layout = interval_bounds(graph, problem.box), splittable(graph)
    z = layout.nodes[-1]
    wanted = torch.zeros(1, graph.nodes[z].size, dtype=torch.bool)
    wanted[0, ((before[z].lower < 0) & (before[z].upper > 0)).flatten().nonzero()[0]] = True
    after = bound_nodes(graph, problem.box, wanted={z: wanted})[z]
    changed = ((after.lower != before[z].lower) | (after.upper != before[z].upper)).reshape(1, -1)
    assert (changed == wanted).all()


def test_rounds_that_bring_little_are_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, problem = setting("dense", "relu")
    before = interval_bounds(graph, problem.box)
    calls = []

    def useless(*arguments: object, **options: object) -> object:
        calls.append(1)
        return before

    monkeypatch.setattr(where_it_pays, "bound_nodes", useless)
    left, values = narrowed(graph, problem, 0, ALL[3:], before, LATER)
    assert len(calls) == 1 and values is before and left.tolist() == [3]
    assert narrowed(graph, problem, 0, ALL[3:], before, Deadline.after(-1))[1] is before and len(calls) == 1


def test_entries_that_cost_nothing_are_not_chosen() -> None:
    graph, _ = setting("dense", "relu")
    layout = splittable(graph)
    paid = torch.zeros(sum(layout.size))
    paid[3] = 1.0
    chosen = torch.cat([m[0] for m in dearest(paid, 10, layout).values()])
    assert chosen.nonzero().flatten().tolist() == [3]


def test_bounds_that_are_far_from_a_proof_are_left_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, problem = setting("dense", "relu")
    before = interval_bounds(graph, problem.box)
    lacking, _ = payments(graph, problem, 0, ALL, before, splittable(graph))
    monkeypatch.setattr(where_it_pays, "NEAR", 0.99 * lacking)
    assert narrowed(graph, problem, 0, ALL, before, LATER)[1] is before
    monkeypatch.setattr(where_it_pays, "NEAR", 1.01 * lacking)
    assert narrowed(graph, problem, 0, ALL, before, LATER)[1] is not before
