"""Functions of one variable: every line encloses the function, with the chosen slope and any other in range."""

from __future__ import annotations

import math

import pytest
import torch
from one_variable import FUNCTIONS, NAMES, cut
from operator_checks import check_operator, inside, random_intervals

from lirpa_verify.operators.base import Interval
from lirpa_verify.operators.hyperbolic import InverseHyperbolicCosine
from lirpa_verify.operators.power import RealPower
from lirpa_verify.operators.univariate import Univariate


@pytest.mark.parametrize("scale", [0.5, 3.0, 30.0])
@pytest.mark.parametrize("function, domain", FUNCTIONS, ids=NAMES)
def test_encloses(function: Univariate, domain: tuple[float, float], scale: float) -> None:
    generator = torch.Generator().manual_seed(3)
    check_operator(function, (cut(random_intervals(generator, 10, (30,), scale), domain),), seed=4)


@pytest.mark.parametrize("function, domain", FUNCTIONS, ids=NAMES)
def test_encloses_in_single_precision(function: Univariate, domain: tuple[float, float]) -> None:
    generator = torch.Generator().manual_seed(5)
    check_operator(function, (cut(random_intervals(generator, 8, (20,)), domain),), 6, torch.float32)


@pytest.mark.parametrize("function, domain", FUNCTIONS, ids=NAMES)
def test_breakpoints_at_the_ends(function: Univariate, domain: tuple[float, float]) -> None:
    """Intervals whose ends are small integers, halves and multiples of pi / 2."""
    ends = torch.tensor([-3.0, -2.0, -1.5, -1.0, -0.5, 0.0, 0.5, 0.7, 1.0, 3.0, 6.0, math.pi / 2, math.pi]).double()
    lower, upper = (end.reshape(1, -1) for end in torch.meshgrid(ends, ends, indexing="ij"))
    keep = (lower <= upper).squeeze(0)
    check_operator(function, (cut(Interval(lower[:, keep], upper[:, keep]), domain),), seed=7)


@pytest.mark.parametrize("function, domain", FUNCTIONS, ids=NAMES)
def test_unbounded_arguments(function: Univariate, domain: tuple[float, float]) -> None:
    """No slope is NaN, zero coefficients stay without effect, and finite points are enclosed."""
    ends = torch.tensor([[-math.inf, -1e30, -1e8, 0.6, 1.0, math.inf]]).double()
    lower, upper = (end.reshape(1, -1) for end in torch.meshgrid(ends[0], ends[0], indexing="ij"))
    keep = (lower <= upper).squeeze(0) & ~torch.isinf(upper + lower).squeeze(0).logical_and((lower == upper).squeeze(0))
    interval = Interval(lower[:, keep], upper[:, keep])
    n = interval.lower.shape[1]
    rows = torch.stack([torch.ones(n), -torch.ones(n), torch.zeros(n)]).double()
    result = function.backward(rows.unsqueeze(0), (interval,), None)
    assert not torch.isnan(result.coefficients[0]).any()
    assert result.offset[0, 2] == 0
    found = function.interval(interval)
    reach = Interval(interval.lower.clamp(-50, 50), interval.upper.clamp(-50, 50))
    points = inside(torch.Generator().manual_seed(8), cut(reach, domain), 50)
    met = (points >= interval.lower.unsqueeze(1)) & (points <= interval.upper.unsqueeze(1))
    values = function.forward(points)
    assert not (met & (values < found.lower.unsqueeze(1) - 1e-9)).any()
    assert not (met & (values > found.upper.unsqueeze(1) + 1e-9)).any()
    slopes = [c.expand(1, 3, n)[:, k].unsqueeze(1) for k in (0, 1) for c in result.coefficients]
    single = torch.eye(n).double().unsqueeze(0)
    for sign, slope in ((1, slopes[0]), (-1, slopes[1])):
        offset = function.backward(sign * single, (interval,), None).offset.unsqueeze(1)
        bound = slope * points + offset
        size = 1e-9 * (1 + (slope * points).abs() + torch.where(torch.isinf(offset), 0, offset.abs()))
        assert not (met & (bound > sign * values + size)).any()


@pytest.mark.parametrize("function, domain", FUNCTIONS, ids=NAMES)
def test_gaps_reach_the_function(function: Univariate, domain: tuple[float, float]) -> None:
    generator = torch.Generator().manual_seed(10)
    interval = cut(random_intervals(generator, 100, (1,), 2.0), domain)
    gaps = function.gaps(interval, None)
    assert gaps is not None
    for gap in gaps:
        assert gap.shape[0] == 100 and gap.shape[2:] == (1,)
        assert not (gap < -1e-9).any()


@pytest.mark.parametrize("function, domain", FUNCTIONS, ids=NAMES)
def test_gradient_of_the_offset(function: Univariate, domain: tuple[float, float]) -> None:
    """Gradients with respect to the free parameters and to the interval are finite (where f' is)."""
    if isinstance(function, RealPower | InverseHyperbolicCosine):
        domain = (1.001, math.inf)
    generator = torch.Generator().manual_seed(11)
    interval = cut(random_intervals(generator, 10, (5,), 1.0), domain)
    ends = [end.clone().requires_grad_() for end in interval]
    limits = function.slope_range(interval)
    assert limits is not None
    slopes = [((low + high) / 2).detach().requires_grad_() for low, high in zip(*limits, strict=True)]
    rows = torch.randn(10, 1, 5, generator=generator, dtype=torch.float64)
    result = function.backward(rows, (Interval(*ends),), type(limits[0])(*slopes))
    total = result.offset.sum() + (result.coefficients[0] * interval.lower.unsqueeze(1)).sum()
    wanted = [s for s in slopes if s.numel()] + ends
    for gradient in torch.autograd.grad(total, wanted, allow_unused=True):
        assert gradient is None or bool(torch.isfinite(gradient).all())
