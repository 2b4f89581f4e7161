"""ReLUs of multiples of one value in one sum: the function stays, and what is left is as tight as the value itself."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from random_networks import dense_graph, generator, graph_of, normal
from torch import Tensor
from torch.nn.functional import leaky_relu

from lirpa_verify.bounds.intermediate import bound_nodes
from lirpa_verify.graph.graph import Graph
from lirpa_verify.operators.base import Interval
from lirpa_verify.operators.relu import ReLU

WEIGHT, BACK = normal(generator(1), 3, 4), normal(generator(2), 4, 2)
T = normal(generator(3), 4)


def split(f: Callable[[Tensor], Tensor]) -> Graph:
    return graph_of(lambda x: f(x @ WEIGHT) @ BACK, (1, 3))


def relus(graph: Graph) -> int:
    return sum(isinstance(node.operator, ReLU) for node in graph.nodes)


CASES: dict[str, tuple[Callable[[Tensor], Tensor], int]] = {
    "absolute value": (lambda z: torch.relu(z) + torch.relu(-z), 1),
    "the value itself": (lambda z: torch.relu(z - T) - torch.relu(T - z) + T, 0),
    "one within another": (lambda z: torch.relu(torch.relu(z - T) - torch.relu(T - z) + T) + z, 1),
    "multiples": (lambda z: torch.relu(2 * z) - torch.relu(-0.5 * z), 1),
    "nothing is left": (lambda z: torch.relu(2 * z) - torch.relu(2 * z) + z, 0),
    "leaky": (lambda z: leaky_relu(z, 0.1) + leaky_relu(-z, 0.1), 1),
    "different leaks": (lambda z: leaky_relu(z, 0.1) + leaky_relu(-z, 0.2), 2),
    "different shifts": (lambda z: torch.relu(z - T) + torch.relu(T - z + 1e-12), 2),
    "different factors": (lambda z: torch.relu(z * T) + torch.relu(-z), 2),
}


@pytest.mark.parametrize("case", CASES)
def test_the_function_stays_with_fewer_relus(case: str) -> None:
    f, left = CASES[case]
    graph = split(f)
    assert relus(graph) == left
    x = normal(generator(4), 500, 3, scale=3.0)
    assert torch.allclose(graph.forward(x), f(x @ WEIGHT) @ BACK, rtol=0, atol=1e-12)


def test_bounds_of_a_value_written_with_relus_are_its_own() -> None:
    box = Interval(torch.full((1, 3), -1.0, dtype=torch.float64), torch.full((1, 3), 2.0, dtype=torch.float64))
    written, itself = (
        bound_nodes(split(f), box)[-1] for f in (lambda z: torch.relu(z - T) - torch.relu(T - z) + T, lambda z: z)
    )
    assert torch.allclose(written.lower, itself.lower) and torch.allclose(written.upper, itself.upper)


def test_sums_of_other_relus_stay() -> None:
    assert relus(dense_graph(5, (3, 6, 6, 2))) == 2
    assert relus(split(lambda z: torch.nn.functional.prelu(z, T) + torch.nn.functional.prelu(-z, T))) > 0
    assert relus(graph_of(lambda x: torch.relu(x @ WEIGHT) + torch.relu(x @ WEIGHT.flip(0)), (1, 3))) == 2
