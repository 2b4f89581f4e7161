"""Activation splits, round by round: children cover their parents, and every margin holds on its domain."""

from __future__ import annotations

import pytest
import torch
from random_networks import generator, graph_of, make_property, network, normal, problem_of, samples

from lirpa_verify.bounds.intermediate import bound_nodes
from lirpa_verify.deadline import Deadline
from lirpa_verify.graph.graph import Graph
from lirpa_verify.search.activation_split import Choice, bound_children, feasible, make_roots, root_domains, split
from lirpa_verify.search.branching import splittable
from lirpa_verify.search.domains import Domains
from lirpa_verify.search.specification import Problem

LATER = Deadline.after(1e6)
KINDS = [
    ("dense", "relu"),
    ("residual", "leaky"),
    ("concat", "relu"),
    ("dense", "tanh"),
    ("residual", "sin"),
    ("product", "relu"),
]


def members(domains: Domains, values: list[torch.Tensor]) -> torch.Tensor:
    """(points, domains): which points lie in which domain, by its intervals and its splits."""
    inside = torch.ones(len(values[0]), len(domains), dtype=torch.bool)
    for i, (lower, upper) in domains.intervals().items():
        slack = 1e-9 * (1 + values[i].abs()).unsqueeze(1)
        value = values[i].unsqueeze(1)
        inside &= ((value >= lower - slack) & (value <= upper + slack)).flatten(2).all(2)
    splits = domains.splits()
    for z, sign in splits.sign.items():
        beyond = sign * (values[z].unsqueeze(1) - splits.point[z])
        inside &= (beyond <= 1e-9 * (1 + values[z].abs()).unsqueeze(1)).flatten(2).all(2)
    return inside


def setting(kind: str, activation: str, seed: int) -> tuple[Graph, Problem, torch.Tensor]:
    """A network, two disjuncts of different lengths on one box, and sampled points."""
    graph = graph_of(*network(kind, activation, seed))
    n, m = graph.n_inputs, graph.n_outputs
    g = generator(seed)
    middle = normal(g, n)
    box = ((middle - 0.7).tolist(), (middle + 0.7).tolist())
    rows = [({n + j: float(c) for j, c in enumerate(normal(g, m))}, float(normal(g, 1))) for _ in range(4)]
    problem = problem_of(make_property(n, m, [box], [(0, rows[:1]), (0, rows[1:3]), (0, rows[3:])]))
    return graph, problem, samples(g, problem.box, 1500)[:, 0]


@pytest.mark.parametrize(("kind", "activation"), KINDS)
def test_children_cover_their_parents_and_margins_hold(kind: str, activation: str) -> None:
    graph, problem, points = setting(kind, activation, 31)
    values = [v.expand(len(points), *v.shape[1:]) for v in graph.evaluate(points)]
    margins = problem.specification.margins(points, values[-1], torch.zeros(len(points), dtype=torch.int64))
    roots = make_roots(graph, problem, 0, torch.arange(3))
    layout = splittable(graph)
    domains = root_domains(graph, layout, roots, bound_nodes(graph, problem.box), problem.box, LATER)
    covered = members(domains, values)
    assert bool(covered.all())
    for _ in range(4):
        inside = members(domains, values)
        value = margins.amax(2)[:, domains.root]  # a conjunction holds as far as its largest row allows
        least = value.masked_fill(~inside, torch.inf).amin(0)
        assert bool((domains.margin <= least + 1e-9 * (1 + domains.margin.abs())).all())
        for d in range(3):
            assert bool(inside[:, domains.root == d].any(1).all()), "points are lost"
        domains = bound_children(graph, roots, layout, domains, LATER)[:400]
        if len(domains) == 400:
            break


def test_rows_of_one_disjunct_are_not_those_of_another() -> None:
    """The first row of all is impossible; a shorter disjunct must not inherit it where it has none."""
    graph = graph_of(lambda x: torch.relu(x) - torch.relu(-x), (1, 2))
    disjuncts = [(0, [({2: 1.0}, -9.0), ({3: 1.0}, 5.0)]), (0, [({2: 1.0}, 0.5)]), (0, [])]
    problem = problem_of(make_property(2, 2, [([0.0, 0.0], [1.0, 1.0])], disjuncts))
    roots = make_roots(graph, problem, 0, torch.arange(3))
    domains = root_domains(graph, splittable(graph), roots, bound_nodes(graph, problem.box), problem.box, LATER)
    assert (domains.margin > 0).tolist() == [True, False, False]
    alone = make_roots(graph, problem, 0, torch.tensor([1]))
    assert alone.rhs.tolist() == [[0.5]]


def test_boxes_are_halved_where_no_relaxation_costs_anything() -> None:
    graph, problem, points = setting("dense", "relu", 32)
    layout = splittable(graph)
    roots = make_roots(graph, problem, 0, torch.arange(3))
    domains = root_domains(graph, layout, roots, bound_nodes(graph, problem.box), problem.box, LATER)
    values = [v.expand(len(points), *v.shape[1:]) for v in graph.evaluate(points)]
    choice = Choice(torch.tensor([-1, 0, -1]), torch.tensor([0, 1, 3]))
    children = split(graph, layout, domains, choice)
    assert len(children) == 6 and bool(feasible(children).all())
    inside = members(children, values)
    for d in range(3):
        assert bool(inside[:, [d, d + 3]].any(1).all())
    widths = children.intervals()[0].upper - children.intervals()[0].lower
    assert torch.allclose(widths[0, 0], torch.tensor(0.7, dtype=torch.float64))
    assert torch.allclose(widths[1], torch.tensor(1.4, dtype=torch.float64))


def test_ends_that_are_no_numbers_exclude_nothing() -> None:
    graph, problem, _ = setting("dense", "relu", 33)
    roots = make_roots(graph, problem, 0, torch.arange(3))
    domains = root_domains(graph, splittable(graph), roots, bound_nodes(graph, problem.box), problem.box, LATER)
    z = splittable(graph).nodes[0]
    broken = domains.updated({("lower", z): torch.full_like(domains.fields["lower", z], torch.nan)})
    assert bool(feasible(broken).all())
