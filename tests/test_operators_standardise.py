"""Normalisation: both factors come from the same values, and bounds may use that."""

from __future__ import annotations

import math

import pytest
import torch
from operator_checks import inside, random_intervals
from torch import Tensor

from lirpa_verify.operators.base import Interval
from lirpa_verify.operators.multiply import Multiply
from lirpa_verify.operators.standardise import Curve, Standardise

EPSILON = 1e-3


def factors(seed: int, scale: float, centred: bool, dtype: torch.dtype) -> tuple[Interval, Interval, Tensor, Tensor]:
    """Intervals of c and r, and points (boxes, points, 2, entries) of both in them."""
    generator = torch.Generator().manual_seed(seed)
    interval = random_intervals(generator, 120, (2, 5), scale)
    points = inside(generator, interval, 60)
    if centred:
        points = points - points.mean(-1, keepdim=True)
        interval = Interval(points.amin(1), points.amax(1))
    rate = torch.rsqrt(points.square().mean(-1, keepdim=True) + EPSILON).expand_as(points)
    around = Interval(rate.amin(1), rate.amax(1))
    intervals = [Interval(*(end.to(dtype) for end in i)) for i in (interval, around)]
    return intervals[0], intervals[1], points, rate


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("scale", [1e-3, 0.3, 2.0, 50.0])
def test_encloses(scale: float, centred: bool, dtype: torch.dtype) -> None:
    c, r, points, rate = factors(1, scale, centred, dtype)
    operator = Standardise(EPSILON, centred)
    value = points * rate
    slack = 1e-11 if dtype == torch.float64 else 1e-4
    found = operator.interval(c, r)
    assert bool((found.lower.unsqueeze(1) <= value + slack).all())
    assert bool((found.upper.unsqueeze(1) >= value - slack).all())
    planes = operator.planes((c, r), None)
    below = planes.lower_offset + planes.lower[0] * points + planes.lower[1] * rate
    above = planes.upper_offset + planes.upper[0] * points + planes.upper[1] * rate
    size = slack * (1 + value.abs() + (planes.lower[1] * rate).abs())
    assert bool((below <= value + size).all()) and bool((above >= value - size).all())


def test_never_looser_than_a_product() -> None:
    for centred in (True, False):
        c, r, _, _ = factors(2, 2.0, centred, torch.float64)
        joint, product = Standardise(EPSILON, centred).interval(c, r), Multiply().interval(c, r)
        assert bool((joint.lower >= product.lower).all()) and bool((joint.upper <= product.upper).all())
        assert bool((joint.upper <= math.sqrt(4 if centred else 5)).all())
        assert bool((joint.upper < product.upper - 0.1).any())


def test_curves_with_two_sides() -> None:
    """Lines of the S-shaped curve whose sides differ."""
    generator = torch.Generator().manual_seed(3)
    interval = random_intervals(generator, 1, (400,), 2.0)
    sides = torch.rand(2, 400, generator=generator, dtype=torch.float64) + 1e-3
    curve = Curve(sides[0], sides[1])
    lines = curve.lines(interval, None)
    points = inside(generator, interval, 100)
    value = curve.forward(points)
    assert bool((lines.lower * points + lines.lower_offset <= value + 1e-12).all())
    assert bool((lines.upper * points + lines.upper_offset >= value - 1e-12).all())
