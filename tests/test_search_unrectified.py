"""Comparisons of outputs behind a ReLU, as comparisons of its arguments."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from random_networks import Row, generator, graph_of, make_property, normal, problem_of

from lirpa_verify.graph.graph import Graph
from lirpa_verify.search.specification import Problem
from lirpa_verify.search.unrectified import unrectified

UNIT = ([-1.0, -1.0], [1.0, 1.0])
WEIGHT = normal(generator(0), 2, 3)
RECTIFIED = graph_of(lambda x: torch.relu(x @ WEIGHT), (1, 2))
# outputs are variables 2, 3 and 4
COMPARISONS: dict[str, Row] = {
    "two outputs": ({2: 1.0, 3: -1.0}, 0.0),
    "two outputs with a difference": ({2: 1.0, 3: -1.0}, 1.0),
    "two outputs with weights": ({2: 2.0, 4: -3.0}, 1.0),
    "at most 0": ({3: 1.0}, 0.0),
    "at most": ({3: 2.0}, 2.0),
    "at least": ({4: -1.0}, -1.0),
}
OTHERS: dict[str, list[Row]] = {
    "above another by more than nothing": [({2: 1.0, 3: -1.0}, -1.0)],
    "at least nothing": [({2: -1.0}, 0.0)],
    "at most less than nothing": [({2: 1.0}, -1.0)],
    "a sum": [({2: 1.0, 3: 1.0}, 1.0)],
    "above a sum": [({2: 1.0, 3: -1.0, 4: -1.0}, 0.0)],
    "a row without coefficients": [({2: 0.0}, 1.0)],
    "a conjunction": [({2: 1.0, 3: -1.0}, 0.0), ({2: 1.0, 4: -1.0}, 0.0)],
    "inputs": [({0: 1.0, 2: 1.0}, 0.0)],
    "no rows": [],
}


def posed(*disjuncts: list[Row]) -> Problem:
    return problem_of(make_property(2, 3, [UNIT, UNIT], [(b, rows) for b in (0, 1) for rows in disjuncts]))


def violated(problem: Problem, y: torch.Tensor) -> torch.Tensor:
    margins = problem.specification.margins(y[:, :2], y, torch.ones(len(y), dtype=torch.int64))
    return (margins <= 0).all(2).any(1)


@pytest.mark.parametrize("name", COMPARISONS)
def test_the_same_arguments_violate(name: str) -> None:
    """Of a grid with many ties."""
    z = torch.tensor(list(product((-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 3.0), repeat=3)), dtype=torch.float64)
    problem = posed([COMPARISONS[name]])
    _, found = unrectified(RECTIFIED, problem)
    expected = violated(problem, z.clamp(min=0))
    assert torch.equal(violated(found, z), expected)
    assert bool(expected.any()) and not bool(expected.all())


def test_the_relu_is_gone() -> None:
    graph, _ = unrectified(RECTIFIED, posed([COMPARISONS["two outputs"]]))
    x = normal(generator(1), 20, 2)
    assert torch.equal(graph.forward(x).clamp(min=0), RECTIFIED.forward(x))
    assert bool((graph.forward(x) < 0).any())


def test_the_case_below_the_relu_is_one_for_all_comparisons() -> None:
    _, problem = unrectified(RECTIFIED, posed([({2: 1.0, 3: -1.0}, 0.0)], [({2: 1.0, 4: -1.0}, 0.0)]))
    rows = problem.specification.rows
    assert rows.shape == (2, 3, 1)
    for box in rows[..., 0]:
        coefficients = problem.specification.output[problem.specification.kind[box]].tolist()
        assert sorted(coefficients) == [[1.0, -1.0, 0.0], [1.0, 0.0, -1.0], [1.0, 0.0, 0.0]]


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_no_comparison_stays(name: str) -> None:
    problem = posed([COMPARISONS["two outputs"]], OTHERS[name])
    assert unrectified(RECTIFIED, problem) == (RECTIFIED, problem)


@pytest.mark.parametrize(
    "graph",
    [
        graph_of(lambda x: torch.nn.functional.leaky_relu(x @ WEIGHT, 0.1), (1, 2)),
        graph_of(lambda x: torch.relu(x @ WEIGHT) + 0.5, (1, 2)),
        graph_of(lambda x: torch.sigmoid(x @ WEIGHT), (1, 2)),
    ],
    ids=["leaky", "sum", "sigmoid"],
)
def test_other_outputs_stay(graph: Graph) -> None:
    problem = posed([COMPARISONS["two outputs"]])
    assert unrectified(graph, problem) == (graph, problem)
