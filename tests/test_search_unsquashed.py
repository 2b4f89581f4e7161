"""Comparisons and thresholds of outputs behind a softmax, a sigmoid or a tanh, as such of its arguments."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import pytest
import torch
from random_networks import Row, generator, graph_of, make_property, normal, problem_of
from torch import Tensor

from lirpa_verify.graph.graph import Graph
from lirpa_verify.search.specification import Problem
from lirpa_verify.search.unsquashed import unsquashed

UNIT = ([-1.0, -1.0], [1.0, 1.0])
WEIGHT = normal(generator(0), 2, 4)
FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "softmax": lambda z: torch.softmax(z, 1),
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
}
# outputs are variables 2, 3, 4 and 5
COMPARISONS: dict[str, list[Row]] = {
    "two outputs": [({2: 1.0, 3: -1.0}, 0.0)],
    "two outputs with a factor": [({5: -3.0, 3: 3.0}, 0.0)],
    "a conjunction": [({2: 1.0, 3: -1.0}, 0.0), ({2: 1.0, 4: -1.0}, 0.0)],
}
THRESHOLDS: dict[str, list[Row]] = {
    "at most": [({3: 2.0}, 1.5)],
    "at least": [({4: -1.0}, -0.25)],
    "near the limit": [({4: -1.0}, -0.99)],
    "a comparison and a threshold": [({2: 1.0, 3: -1.0}, 0.0), ({4: 1.0}, 0.6)],
}
OTHERS: dict[str, list[Row]] = {
    "by more than nothing": [({2: 1.0, 3: -1.0}, -0.5)],
    "with weights": [({2: 2.0, 3: -1.0}, 0.0)],
    "a sum": [({2: 1.0, 3: 1.0}, 1.0)],
    "a row without coefficients": [({2: 0.0}, 1.0)],
    "above the limit": [({2: 1.0}, 1.0)],
    "inputs": [({0: 1.0, 2: 1.0}, 0.0)],
}


def network(name: str) -> Graph:
    return graph_of(lambda x: FUNCTIONS[name](x @ WEIGHT), (1, 2))


def posed(*disjuncts: list[Row]) -> Problem:
    return problem_of(make_property(2, 4, [UNIT], [(0, rows) for rows in disjuncts]))


def margins(problem: Problem, y: Tensor) -> Tensor:
    at = torch.zeros(len(y), dtype=torch.int64)
    return problem.specification.margins(y[:, :2], y, at).amax(2).amin(1)


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("rows", [*COMPARISONS, *THRESHOLDS])
def test_the_same_arguments_violate(name: str, rows: str) -> None:
    """Of a grid with many ties, and of random ones."""
    if name == "softmax" and rows in THRESHOLDS:
        return
    grid = torch.tensor(list(product((-2.0, -0.5, 0.0, 0.5, 1.0), repeat=4)), dtype=torch.float64)
    z = torch.cat([grid, 3 * normal(generator(1), 500, 4)])
    problem = posed((COMPARISONS | THRESHOLDS)[rows])
    graph, found = unsquashed(network(name), problem)
    assert len(graph.nodes) < len(network(name).nodes)
    inner, outer = margins(found, z), margins(problem, FUNCTIONS[name](z))
    clear = outer.abs() > 1e-12  # the function itself is rounded
    assert torch.equal((inner <= 0)[clear], (outer <= 0)[clear])
    assert bool((inner <= 0)[outer == 0].all())
    assert bool((inner <= 0).any()) and not bool((inner <= 0).all())


@pytest.mark.parametrize("name", ["sigmoid", "tanh"])
@pytest.mark.parametrize("threshold", [1e-9, 0.1, 0.5, 0.7, 1 - 1e-9])
def test_thresholds_are_rounded_towards_more_violations(name: str, threshold: float) -> None:
    for row in ({2: 1.0}, threshold), ({2: -1.0}, -threshold):
        _, found = unsquashed(network(name), posed([row]))
        exact = torch.tensor(threshold, dtype=torch.float64)
        exact = torch.atanh(exact) if name == "tanh" else torch.logit(exact)
        rhs, expected = float(found.specification.rhs[found.specification.rows.item()]), float(exact) * row[0][2]
        assert expected < rhs < expected + 1e-5


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_function_is_gone(name: str) -> None:
    graph, _ = unsquashed(network(name), posed(COMPARISONS["two outputs"]))
    x = normal(generator(1), 20, 2)
    assert torch.equal(FUNCTIONS[name](graph.forward(x)), network(name).forward(x))


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("rows", OTHERS)
def test_what_is_neither_stays(name: str, rows: str) -> None:
    problem = posed(COMPARISONS["two outputs"], OTHERS[rows])
    graph = network(name)
    assert unsquashed(graph, problem) == (graph, problem)


def test_thresholds_behind_a_softmax_stay() -> None:
    problem, graph = posed(THRESHOLDS["at most"]), network("softmax")
    assert unsquashed(graph, problem) == (graph, problem)


def test_outputs_of_two_softmaxes_are_not_compared() -> None:
    weight, order = normal(generator(0), 2, 6), [1, 0, 2, 3, 4, 5]

    def two(x: Tensor) -> Tensor:
        return torch.softmax((x @ weight).reshape(-1, 2, 3), 2).flatten(1)[:, order]

    def ordered(i: int, j: int) -> Problem:
        return problem_of(make_property(2, 6, [UNIT], [(0, [({i: 1.0, j: -1.0}, 0.0)])]))

    graph = graph_of(two, (1, 2))
    across = ordered(2, 5)
    assert unsquashed(graph, across) == (graph, across)
    found, _ = unsquashed(graph, ordered(2, 4))
    x = normal(generator(1), 20, 2)
    assert torch.equal(found.forward(x), (x @ weight)[:, order])
