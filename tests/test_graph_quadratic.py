"""Definite quadratic forms become sums of squares: the same function, bounded tightly from the convex side."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from random_networks import generator, graph_of, normal
from torch import Tensor

from lirpa_verify.bounds.crown import backward
from lirpa_verify.bounds.intermediate import bound_nodes
from lirpa_verify.graph.graph import Graph
from lirpa_verify.graph.quadratic import join_definite_forms
from lirpa_verify.graph.restrict import restrict
from lirpa_verify.operators.base import Interval
from lirpa_verify.operators.multiply import Multiply
from lirpa_verify.operators.power import EvenPower

N = 5


def form(seed: int, sign: float, used: int = N, shift: float = 0.7) -> Callable[[Tensor], Tensor]:
    """A definite form of the first entries, written as the scalar product of z - s with P (z - s)."""
    g = generator(seed)
    root = normal(g, N, N) * (torch.arange(N) < used).unsqueeze(1)
    matrix, middle = sign * root @ root.T, shift * normal(g, N)

    def function(z: Tensor) -> Tensor:
        moved = z - middle
        return ((moved @ matrix) * moved).sum(-1, keepdim=True)

    return function


def prepared(function: Callable[[Tensor], Tensor]) -> tuple[Graph, Graph]:
    graph = graph_of(function, (1, N))
    fixed = torch.zeros(N, dtype=torch.bool)
    return graph, restrict(graph, fixed, torch.zeros(N, dtype=torch.float64))


def kinds(graph: Graph) -> set[type]:
    return {type(node.operator) for node in graph.nodes}


def lower_bound(graph: Graph, box: Interval, sign: float = 1.0) -> Tensor:
    values = bound_nodes(graph, box)
    rows = torch.full((1, 1, 1), sign, dtype=torch.float64)
    return backward(graph, {graph.output: rows}, dict(enumerate(values))).lower(box)[:, 0]


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("used", [1, 3, N])
def test_the_function_is_the_same_and_its_convex_side_tight(sign: float, used: int) -> None:
    graph, rewritten = prepared(form(used, sign, used))
    assert EvenPower in kinds(rewritten) and Multiply not in kinds(rewritten)
    middle, radius = normal(generator(1), 200, N), 0.3 * torch.rand(200, N, generator=generator(2), dtype=torch.float64)
    box = Interval(middle - radius, middle + radius)
    points = middle + radius * (2 * torch.rand(100, 200, N, generator=generator(3), dtype=torch.float64) - 1)
    values = graph.forward(points.flatten(0, 1)).reshape(100, 200)
    assert torch.allclose(rewritten.forward(points.flatten(0, 1)).reshape(100, 200), values, atol=1e-10)
    for side in (1.0, -1.0):
        assert bool((lower_bound(rewritten, box, side) <= (side * values).amin(0) + 1e-9).all())
    convex, products = lower_bound(rewritten, box, sign), lower_bound(graph, box, sign)
    assert bool((convex >= products - 1e-9).all()) and float((convex - products).mean()) > 0.01


def test_the_bound_of_a_convex_form_is_its_tangent_plane() -> None:
    function = form(4, 1.0)
    _, rewritten = prepared(function)
    middle = normal(generator(5), 1, N)
    box = Interval(middle - 0.5, middle + 0.5)
    x = middle.clone().requires_grad_()
    (slope,) = torch.autograd.grad(function(x).sum(), x)
    tangent = function(middle)[0, 0] - 0.5 * slope.abs().sum()
    assert float(lower_bound(rewritten, box)) == pytest.approx(float(tangent), abs=1e-8)


def test_indefinite_forms_and_products_of_different_vectors_stay() -> None:
    g = generator(6)
    matrix = normal(g, N, N)
    other = normal(g, N, N)

    def indefinite(z: Tensor) -> Tensor:
        return ((z @ (matrix - matrix.T + torch.diag(torch.tensor([1.0, -1, 1, 1, 1], dtype=z.dtype)))) * z).sum(-1)[
            :, None
        ]

    def mixed(z: Tensor) -> Tensor:
        return (torch.relu(z @ matrix) * (z @ other)).sum(-1, keepdim=True)

    for function in (indefinite, mixed):
        graph, rewritten = prepared(function)
        assert Multiply in kinds(rewritten)
        assert join_definite_forms(graph) is graph


def test_two_matrix_products_of_the_input_are_found_too() -> None:
    matrix = normal(generator(8), N, N)
    _, rewritten = prepared(lambda z: ((z @ matrix) * (z @ (0.5 * matrix))).sum(-1, keepdim=True))
    assert EvenPower in kinds(rewritten) and Multiply not in kinds(rewritten)


def test_a_form_that_is_nearly_singular_is_not_taken_for_definite() -> None:
    """The second entry is squared with a factor of -9e-14: far away from zero that is most of the form."""
    first, second = torch.ones(2, N, dtype=torch.float64)
    first[1], second[1] = 1e-7, -9e-7
    graph, rewritten = prepared(lambda z: ((z * first) * (z * second)).sum(-1, keepdim=True))
    box = Interval(torch.zeros(1, N, dtype=torch.float64), torch.zeros(1, N, dtype=torch.float64))
    box.upper[0, 1] = 1e7
    assert float(lower_bound(rewritten, box)) <= float(graph.forward(box.upper)) == pytest.approx(-9)
