"""The joint relaxation of quotients: no looser than a product with a reciprocal, and the best planes at the middle."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from operator_checks import random_intervals
from scipy.optimize import linprog
from torch import Tensor

from lirpa_verify.operators.base import Interval
from lirpa_verify.operators.divide import Divide
from lirpa_verify.operators.multiply import Multiply
from lirpa_verify.operators.planes import Planes
from lirpa_verify.operators.power import NegativePower


def boxes(seed: int, sign: float) -> tuple[Interval, Interval]:
    generator = torch.Generator().manual_seed(seed)
    x = random_intervals(generator, 300, (1,), 2.0)
    centre = 0.2 + 3 * torch.rand(300, 1, generator=generator, dtype=torch.float64)
    radius = centre * torch.rand(300, 1, generator=generator, dtype=torch.float64) * 0.95
    ends = sorted((sign * (centre - radius), sign * (centre + radius)), key=lambda end: float(end[0]))
    return x, Interval(*ends)


def at_middle(planes: Planes, x: Interval, y: Interval) -> tuple[Tensor, Tensor]:
    u, v = ((i.lower + i.upper).unsqueeze(1) / 2 for i in (x, y))
    return (
        planes.lower[0] * u + planes.lower[1] * v + planes.lower_offset,
        planes.upper[0] * u + planes.upper[1] * v + planes.upper_offset,
    )


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_no_looser_than_a_product_with_the_reciprocal(sign: float) -> None:
    x, y = boxes(1, sign)
    below, above = at_middle(Divide().planes((x, y), None), x, y)
    inverse = NegativePower(1)
    lines, product = inverse.lines(y, None), Multiply().planes((x, inverse.interval(y)), None)
    u, v = ((i.lower + i.upper).unsqueeze(1) / 2 for i in (x, y))
    least, most = lines.lower * v + lines.lower_offset, lines.upper * v + lines.upper_offset
    product_below = product.lower[0] * u + product.lower_offset
    product_below = product_below + product.lower[1] * torch.where(product.lower[1] > 0, least, most)
    product_above = product.upper[0] * u + product.upper_offset
    product_above = product_above + product.upper[1] * torch.where(product.upper[1] > 0, most, least)
    slack = 1e-9 * (1 + product_below.abs() + product_above.abs())
    assert bool((below >= product_below - slack).all()) and bool((above <= product_above + slack).all())
    assert bool((above - below < 0.9 * (product_above - product_below)).any())


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_no_plane_is_closer_at_the_middle(sign: float) -> None:
    """The volume between a plane and f depends on its height there; a linear program over a grid finds the best."""
    x, y = boxes(2, sign)
    below, above = (side.flatten() for side in at_middle(Divide().planes((x, y), None), x, y))
    for k in range(25):
        (lx, ux), (ly, uy) = ([float(end[k]) for end in i] for i in (x, y))
        grid = np.stack([g.ravel() for g in np.meshgrid([lx, ux], np.linspace(ly, uy, 300))], 1)
        planes, values = np.column_stack([grid, np.ones(len(grid))]), grid[:, 0] / grid[:, 1]
        middle, free = np.array([(lx + ux) / 2, (ly + uy) / 2, 1.0]), [(None, None)] * 3
        highest = -linprog(-middle, planes, values, bounds=free).fun
        lowest = linprog(middle, -planes, -values, bounds=free).fun
        slack = 1e-3 * (lowest - highest) + 1e-7
        assert float(below[k]) >= highest - slack and float(above[k]) <= lowest + slack


def test_a_denominator_that_may_be_0_leaves_no_bound() -> None:
    x = Interval(torch.ones(1, 3).double(), 2 * torch.ones(1, 3).double())
    y = Interval(torch.tensor([[-1.0, 0.0, 0.5]]).double(), torch.tensor([[1.0, 1.0, 1.0]]).double())
    found = Divide().interval(x, y)
    assert found.lower.tolist() == [[-np.inf, -np.inf, 1.0]] and found.upper.tolist() == [[np.inf, np.inf, 4.0]]
    rows = torch.eye(3).double().unsqueeze(0)
    result = Divide().backward(torch.cat([rows, 0 * rows], 1), (x, y), None)
    assert torch.isinf(result.offset[0, :2]).all() and torch.isfinite(result.offset[0, 2:]).all()
