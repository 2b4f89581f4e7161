"""Intervals of sums with constant coefficients: neither end drowns in the rounding of the other one."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from deciders import split_inputs, split_neurons
from random_networks import generator, graph_of, make_property, normal
from torch import Tensor

from lirpa_verify.bounds.interval import interval_step
from lirpa_verify.graph.graph import Node
from lirpa_verify.operators.base import Interval, Linear
from lirpa_verify.operators.convolution import Convolution
from lirpa_verify.operators.dense import Dense
from lirpa_verify.operators.joint_dense import JointDense
from lirpa_verify.operators.matmul import MatMul
from lirpa_verify.operators.sparse_dense import SparseDense

INPUTS, COUNT = 6, 60


def sums(g: torch.Generator, weight: Tensor, kernel: Tensor, bias: Tensor) -> list[Linear]:
    """All operators that add up terms of either sign, with biases where there are outputs enough for them."""
    none = torch.zeros(weight.shape[1], dtype=torch.float64)
    plain = ((1,), (0,), (1,))
    return [
        Dense(weight, bias),
        SparseDense.of(weight * (normal(g, *weight.shape) > -0.5), bias),
        JointDense(weight, bias, none, (2, INPUTS - 2)),
        Convolution(kernel, bias[:2], *plain, False, (0,), 1, (1, 1, INPUTS)),
        Convolution(kernel, bias[:2], *plain, False, (0,), 2, (1, 2, INPUTS // 2)),
        Convolution(kernel, bias[:2], *plain, True, (0,), 2, (1, 2, INPUTS // 2)),
    ]


def arguments_of(operator: Linear, box: Interval) -> list[Interval]:
    if isinstance(operator, JointDense):
        lower, upper = (end.split(operator.parts, 1) for end in box)
        return [Interval(*ends) for ends in zip(lower, upper)]
    shape = operator.argument_shape if isinstance(operator, Convolution) else (INPUTS,)
    return [Interval(*(end.reshape(-1, *shape) for end in box))]


def bounds_of(operator: Linear, box: Interval) -> Interval:
    """(boxes, outputs) each."""
    arguments = arguments_of(operator, box)
    node = Node(operator, tuple(range(len(arguments))), (), "sum")
    return Interval(*(end.flatten(1) for end in interval_step(node, arguments)))


def matrix_of(operator: Linear) -> tuple[Tensor, Tensor]:
    """(inputs, outputs) coefficients and the constant part (outputs,)."""
    points = torch.eye(INPUTS, dtype=torch.float64)
    values = [a.lower for a in arguments_of(operator, Interval(points, points))]
    linear, constant = operator.linear(*values).flatten(1), operator.forward(*(0 * v[:1] for v in values)).flatten()
    return linear, constant


def extreme_boxes(g: torch.Generator) -> Interval:
    """With ends of all magnitudes and many that are 0."""
    scale = 10.0 ** torch.randint(-30, 31, (2, COUNT, INPUTS), generator=g).double()
    ends = scale * (torch.rand(2, COUNT, INPUTS, generator=g, dtype=torch.float64) - 0.3)
    ends = torch.where(torch.rand(2, COUNT, INPUTS, generator=g) < 0.4, 0, ends)
    return Interval(torch.minimum(*ends), torch.maximum(*ends))


@pytest.mark.parametrize("seed", range(4))
def test_ends_that_are_attained_are_inside(seed: int) -> None:
    """Against rational arithmetic."""
    g = generator(seed)
    box = extreme_boxes(g)
    for operator in sums(g, normal(g, INPUTS, 4), normal(g, 2, 1, 2), normal(g, 4) * 10.0**-seed):
        weight, constant = matrix_of(operator)
        found = bounds_of(operator, box)
        for j, column in enumerate(weight.mT):
            least = torch.where(column > 0, *box)
            most = torch.where(column > 0, box.upper, box.lower)
            for k in range(COUNT):
                low, high = (
                    sum(map(Fraction.__mul__, map(Fraction, column.tolist()), map(Fraction, point[k].tolist())))
                    + Fraction(float(constant[j]))
                    for point in (least, most)
                )
                below, above = float(found.lower[k, j]), float(found.upper[k, j])
                assert below <= low and high <= above, (type(operator).__name__, k, j)


def test_products_that_cancel() -> None:
    """Of two factors that vary, here by nothing at all."""
    g = generator(11)
    x, y = normal(g, COUNT, 1, INPUTS, scale=1e8), normal(g, COUNT, INPUTS, 1)
    y[:, -1, 0] = -(x[:, 0, :-1] * y[:, :-1, 0]).sum(1) / x[:, 0, -1]
    found = interval_step(Node(MatMul(), (0, 1), (1, 1), "product"), [Interval(x, x), Interval(y, y)])
    for k in range(COUNT):
        exact = sum(
            map(Fraction.__mul__, map(Fraction, x[k].flatten().tolist()), map(Fraction, y[k].flatten().tolist()))
        )
        assert float(found.lower[k]) <= exact <= float(found.upper[k]), k


def test_zeros_stay_zeros_where_no_terms_cancel() -> None:
    """What is at least 0 is known to be, whatever the other ends are: roots and quotients want to know."""
    g = generator(7)
    lower, upper = (end.clamp(min=0) for end in extreme_boxes(g))
    box, none = Interval(lower, upper), torch.zeros(4, dtype=torch.float64)
    for sign in (1.0, -1.0):
        for operator in sums(g, sign * normal(g, INPUTS, 4).abs(), sign * normal(g, 2, 1, 2).abs(), none):
            found = bounds_of(operator, box)
            assert bool(((found.lower >= 0) if sign > 0 else (found.upper <= 0)).all()), type(operator).__name__
    shifted = bounds_of(Dense(normal(g, INPUTS, 4).abs(), none + 0.25), box)
    assert bool((shifted.lower >= 0.25 - 1e-14).all())


def test_a_sign_that_the_larger_term_hides() -> None:
    """``x - y`` is below 0 in a corner, by far less than x varies."""
    weight = torch.tensor([[1.0], [-1.0]], dtype=torch.float64)
    graph = graph_of(lambda x: torch.sign(x @ weight), (1, 2))
    prop = make_property(2, 1, [([0.0, 0.0], [1e10, 1e-10])], [(0, [({2: 1.0}, -0.5)])])
    for decide in (split_inputs, split_neurons):
        assert decide(graph, prop, seconds=0.3).verdict != "unsat"
