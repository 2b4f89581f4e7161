"""Networks that encode clauses are decided by propagation; what violations imply for neurons holds at all of them."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from deciders import judge
from random_networks import dense_graph, generator, graph_of, make_property, problem_of, random_boxes, samples

from lirpa_verify.bounds.intermediate import bound_nodes
from lirpa_verify.deadline import Deadline
from lirpa_verify.graph.graph import Graph
from lirpa_verify.search import propagation
from lirpa_verify.search.implied import implied
from lirpa_verify.search.propagation import decided_by_propagation
from lirpa_verify.search.roots import make_roots
from lirpa_verify.verdict import Result
from vnnlib import Property

Clause = tuple[int, ...]  # variables from 1 on, negative where they are negated


def clauses_network(variables: int, clauses: list[Clause]) -> Graph:
    """Outputs are 1 minus the number of clauses that a vertex violates, and how far the inputs are from a vertex."""
    weight, bias = torch.zeros(len(clauses), variables, dtype=torch.float64), []
    for i, clause in enumerate(clauses):
        for literal in clause:
            weight[i, abs(literal) - 1] = -1.0 if literal > 0 else 1.0
        bias.append(1.0 - sum(literal < 0 for literal in clause))
    eye = torch.eye(variables, dtype=torch.float64)
    first = torch.cat([weight, eye, 2 * eye]).T
    shift = torch.cat([torch.tensor(bias, dtype=torch.float64), torch.zeros(variables), -torch.ones(variables)])
    second = torch.zeros(len(shift), 2, dtype=torch.float64)
    second[: len(clauses), 0], second[len(clauses) : -variables, 1], second[-variables:, 1] = -1.0, 1.0, -1.0

    def network(x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x @ first + shift) @ second + torch.tensor([1.0, 0.0], dtype=torch.float64)

    return graph_of(network, (1, variables))


def satisfiable(variables: int) -> Property:
    box = ([0.0] * variables, [1.0] * variables)
    rows = [({variables: -1.0}, -1.0), ({variables + 1: 1.0}, 0.0)]
    return make_property(variables, 2, [box], [(0, rows)])


def decide(graph: Graph, prop: Property) -> Result | None:
    problem = problem_of(prop)
    return decided_by_propagation(graph, problem, Deadline.after(20), judge(graph, prop, problem))


def random_clauses(variables: int, count: int, g: torch.Generator) -> list[Clause]:
    found = []
    for _ in range(count):
        chosen = 1 + torch.randperm(variables, generator=g)[:3]
        found.append(tuple((chosen * (2 * torch.randint(0, 2, (3,), generator=g) - 1)).tolist()))
    return found


def tree_of_clauses(variables: int, count: int, g: torch.Generator) -> list[Clause]:
    """Contradictory: the clauses are the leaves of a tree that branches on a new variable everywhere."""
    clauses: list[Clause] = [(1,), (-1,)]
    while len(clauses) < count:
        clause = clauses.pop(int(torch.randint(0, len(clauses), (1,), generator=g)))
        new = next(v for v in (1 + torch.randperm(variables, generator=g)).tolist() if v not in map(abs, clause))
        clauses += [(*clause, new), (*clause, -new)]
    return clauses


def test_random_clauses_against_all_vertices() -> None:
    verdicts = []
    for seed in range(24):
        clauses = random_clauses(5, 12 + 2 * (seed % 12), generator(seed))
        truth = any(
            all(any(vertex[abs(v) - 1] == (v > 0) for v in clause) for clause in clauses)
            for vertex in itertools.product((False, True), repeat=5)
        )
        result = decide(clauses_network(5, clauses), satisfiable(5))
        assert result is not None and result.verdict == ("sat" if truth else "unsat"), seed
        verdicts.append(result.verdict)
    assert min(verdicts.count("sat"), verdicts.count("unsat")) >= 4


def test_contradictions_of_many_variables_take_few_boxes() -> None:
    for seed, variables, count in ((0, 40, 120), (1, 80, 200)):
        graph = clauses_network(variables, tree_of_clauses(variables, count, generator(seed)))
        result = decide(graph, satisfiable(variables))
        assert result is not None and result.verdict == "unsat"
        assert int(result.statistics["boxes"]) < 4 * count


def test_constraints_hold_at_every_violation() -> None:
    constrained = 0
    for seed in range(30):
        g = generator(seed)
        graph = dense_graph(seed, (3, 6, 6, 2))
        box = random_boxes(g, 1, 3)
        points = samples(g, box, 2000)[:, 0]
        y = graph.forward(points)
        rows = [({3: 1.0}, float(y[:, 0].quantile(0.05))), ({4: -1.0}, -float(y[:, 1].quantile(0.5)))]
        prop = make_property(3, 2, [(box.lower[0].tolist(), box.upper[0].tolist())], [(0, rows)])
        problem = problem_of(prop)
        roots = make_roots(graph, problem, 0, torch.tensor([0]))
        found = implied(graph, bound_nodes(graph, box), roots.start, roots.rhs[0])
        violations = ((y @ roots.start[graph.output][0].T) <= roots.rhs[0]).all(1)
        nodes = graph.evaluate(points[violations])
        for z, sign in found.sign.items():
            assert bool((sign * (nodes[z] - found.point[z]) <= 1e-9).all()), seed
            constrained += int((sign != 0).sum())
    assert constrained > 10


def test_other_problems_are_left_alone() -> None:
    graph = dense_graph(0, (3, 6, 6, 2))
    prop = make_property(3, 2, [([-1.0] * 3, [1.0] * 3)], [(0, [({3: 1.0}, 0.0)])])
    assert decide(graph, prop) is None


def wide(width: int) -> tuple[Graph, Property]:
    """A violation confines all neurons of a wide layer: their sum is small."""
    weight = torch.randn(8, width, generator=generator(0), dtype=torch.float64)

    def network(x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x @ weight).sum(1, keepdim=True)

    return graph_of(network, (1, 8)), make_property(8, 1, [([-1.0] * 8, [1.0] * 8)], [(0, [({8: 1.0}, 0.5)])])


def test_layers_too_wide_for_a_matrix_of_their_constraints_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    with_constraints = propagation.with_constraints

    def counted(*arguments: Any) -> Any:
        made.append(arguments)
        return with_constraints(*arguments)

    monkeypatch.setattr(propagation, "with_constraints", counted)
    decide(*wide(200))
    assert len(made) == 1
    decide(*wide(3000))
    assert len(made) == 1
