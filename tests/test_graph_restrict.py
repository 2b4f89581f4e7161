"""Fixing inputs and joining linear steps leaves the function as it was."""

from __future__ import annotations

import pytest
import torch
from random_networks import Dense, generator, graph_of, network, normal
from torch import Tensor, nn

from lirpa_verify.bounds.intermediate import bound_nodes
from lirpa_verify.graph.graph import Graph
from lirpa_verify.graph.restrict import join_prefix, restrict, with_embed
from lirpa_verify.operators.base import Interval
from lirpa_verify.operators.dense import Dense as DenseOperator

KINDS = ["dense", "residual", "concat", "product", "conv"]


def assert_same(small: Graph, graph: Graph, fixed: Tensor, values: Tensor, seed: int = 0) -> None:
    x = values.expand(20, -1).clone()
    free = normal(generator(seed), 20, int((~fixed).sum()))
    x[:, ~fixed] = free
    assert small.n_inputs == free.shape[1]
    assert torch.allclose(small.forward(free), graph.forward(x), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_any_inputs_may_be_fixed(kind: str) -> None:
    for seed, activation in enumerate(("relu", "sin", "sigmoid")):
        graph = graph_of(*network(kind, activation, seed))
        g = generator(seed)
        for share in (0.0, 0.3, 0.6, 0.9):
            fixed = torch.rand(graph.n_inputs, generator=g) < share
            fixed[0] = False
            values = normal(g, graph.n_inputs)
            small = restrict(graph, fixed, values)
            assert_same(small, graph, fixed, values)
            if share:
                assert_same(with_embed(graph, fixed, values), graph, fixed, values)
            assert_same(join_prefix(graph), graph, torch.zeros_like(fixed), values)


def test_a_convolution_of_few_inputs_becomes_one_matrix() -> None:
    graph = graph_of(*network("conv", "relu", 1))
    fixed = torch.arange(16) >= 2
    small = restrict(graph, fixed, torch.zeros(16, dtype=torch.float64))
    assert isinstance(small.nodes[1].operator, DenseOperator)


def test_joined_steps_keep_small_slopes_beside_large_offsets() -> None:
    """A difference of two values of size 1e6 would leave ten digits of the slope, times inputs of size 1e6."""
    first = Dense(generator(2), (2, 4), "relu")
    first.biases[0] = first.biases[0] - 1e6 * first.weights[0].sum(0)
    second = normal(generator(4), 4, 4)
    graph = graph_of(lambda x: torch.relu(first(x) @ second), (1, 2))
    x = 1e6 + normal(generator(3), 50, 2)
    joined = restrict(graph, torch.zeros(2, dtype=torch.bool), torch.zeros(2, dtype=torch.float64))
    assert torch.allclose(joined.forward(x), graph.forward(x), rtol=0, atol=1e-8)


def test_outputs_that_no_varying_input_reaches() -> None:
    graph = graph_of(lambda x: torch.relu(x[:, :2]) * 2 + 1, (1, 3))
    fixed = torch.tensor([True, True, False])
    small = restrict(graph, fixed, torch.tensor([0.5, -1.0, 9.0], dtype=torch.float64))
    y = small.forward(torch.randn(7, 1, dtype=torch.float64))
    assert torch.equal(y, torch.tensor([2.0, 1.0], dtype=torch.float64).expand(7, 2))


def test_linear_networks_become_one_matrix_product() -> None:
    linear = nn.Linear(3, 2, dtype=torch.float64)
    graph = graph_of(lambda x: linear(x) + x[:, :2] - linear(x.flip(1)), (1, 3))
    small = restrict(graph, torch.zeros(3, dtype=torch.bool), torch.zeros(3, dtype=torch.float64))
    assert_same(small, graph, torch.zeros(3, dtype=torch.bool), torch.zeros(3, dtype=torch.float64))
    assert sum(isinstance(node.operator, DenseOperator) for node in small.nodes) == 1


@pytest.mark.parametrize("place", [3.0, -4.0])
@pytest.mark.parametrize("varies", [False, True])
def test_what_is_read_outside_of_a_table_is_not_made_up(place: float, varies: bool) -> None:
    """The place is fixed, so that the look-up could be folded; there models fail, or read what they please."""
    table = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    fixed, values = torch.tensor([True, False]), torch.tensor([place, 0.0], dtype=torch.float64)

    def f(x: Tensor) -> Tensor:
        rows = table + x[:, 1] if varies else table
        return rows[x[:, :1].reshape(1).long()].reshape(1, 1) + x[:, 1:]

    box = Interval(torch.zeros(1, 1, dtype=torch.float64), torch.ones(1, 1, dtype=torch.float64))
    for method in ("ibp", "forward", "crown"):
        lower, upper = bound_nodes(restrict(graph_of(f, (1, 2)), fixed, values), box, method)[-1]
        assert bool(torch.isinf(lower).all()) and bool(torch.isinf(upper).all())
