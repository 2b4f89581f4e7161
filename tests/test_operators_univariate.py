"""Functions of one variable: every line encloses the function, with the chosen slope and any other in range."""

from __future__ import annotations

import math

import pytest
import torch
from operator_checks import check_operator, inside, random_intervals

from lirpa_verify.operators.absolute import Absolute
from lirpa_verify.operators.base import Interval, Lines, Slopes
from lirpa_verify.operators.clip import Clip, SoftShrink
from lirpa_verify.operators.elu import ELU
from lirpa_verify.operators.erf import Erf
from lirpa_verify.operators.exponential import Exponential, Logarithm, Softplus
from lirpa_verify.operators.gate import GELU, Mish, SiLU, TanhGELU
from lirpa_verify.operators.hard_swish import HardSwish
from lirpa_verify.operators.hyperbolic import (
    HyperbolicCosine,
    HyperbolicSine,
    InverseHyperbolicCosine,
    InverseHyperbolicSine,
    InverseHyperbolicTangent,
)
from lirpa_verify.operators.inverse_trigonometric import Arcsine, Arctangent
from lirpa_verify.operators.power import EvenPower, NegativePower, OddPower, RealPower
from lirpa_verify.operators.relu import ReLU
from lirpa_verify.operators.sigmoid import Sigmoid
from lirpa_verify.operators.sign import Sign, Step, Threshold
from lirpa_verify.operators.softsign import Softsign
from lirpa_verify.operators.staircase import Staircase
from lirpa_verify.operators.tanh import Tanh
from lirpa_verify.operators.trigonometric import Sine, Tangent
from lirpa_verify.operators.univariate import Univariate

EVERYWHERE = (-math.inf, math.inf)
FUNCTIONS: list[tuple[Univariate | ReLU, tuple[float, float]]] = [
    (ReLU(), EVERYWHERE),
    (ReLU(0.1), EVERYWHERE),
    (Sigmoid(), EVERYWHERE),
    (Tanh(), EVERYWHERE),
    (Arctangent(), EVERYWHERE),
    (Erf(), EVERYWHERE),
    (Softsign(), EVERYWHERE),
    (InverseHyperbolicSine(), EVERYWHERE),
    (HyperbolicSine(), (-9, 9)),
    (HyperbolicCosine(), (-9, 9)),
    (Arcsine(), (-0.9999, 0.9999)),
    (InverseHyperbolicTangent(), (-0.999, 0.999)),
    (InverseHyperbolicCosine(), (1, math.inf)),
    (Exponential(), (-60, 9)),
    (Softplus(), EVERYWHERE),
    (Logarithm(), (1e-3, math.inf)),
    (EvenPower(2), EVERYWHERE),
    (EvenPower(4), EVERYWHERE),
    (OddPower(3), EVERYWHERE),
    (OddPower(5), EVERYWHERE),
    (NegativePower(1), (0.05, math.inf)),
    (NegativePower(1), (-math.inf, -0.05)),
    (NegativePower(2), (0.05, math.inf)),
    (NegativePower(3), (-math.inf, -0.1)),
    (RealPower(0.5), (0, math.inf)),
    (RealPower(-0.5), (0.01, math.inf)),
    (RealPower(1.7), (0, math.inf)),
    (RealPower(0.2), (0, math.inf)),
    (Absolute(), EVERYWHERE),
    (Clip(0.0, 6.0), EVERYWHERE),
    (Clip(-1.0, 1.0), EVERYWHERE),
    (SoftShrink(0.5), EVERYWHERE),
    (ELU(1.0, 1.0, 1.0), EVERYWHERE),
    (ELU(1.758, 1.0507, 1.0), EVERYWHERE),
    (ELU(0.5, 1.0, 2.0), EVERYWHERE),
    (ELU(0.3, 1.0, 1.0), EVERYWHERE),
    (GELU(), EVERYWHERE),
    (TanhGELU(), EVERYWHERE),
    (SiLU(), EVERYWHERE),
    (Mish(), EVERYWHERE),
    (HardSwish(), EVERYWHERE),
    (Sine(), EVERYWHERE),
    (Sine(math.pi / 2), EVERYWHERE),
    (Tangent(), (-1.5, 1.5)),
    (Tangent(), (1.7, 4.6)),
    (Sign(), EVERYWHERE),
    (Step(True), EVERYWHERE),
    (Step(False), EVERYWHERE),
    (Threshold(0.7, 0.0), EVERYWHERE),
    (Threshold(-0.2, 1.0), EVERYWHERE),
    (Staircase("floor"), EVERYWHERE),
    (Staircase("ceil"), EVERYWHERE),
    (Staircase("round"), EVERYWHERE),
]
NAMES = [f"{i}-{type(f).__name__}" for i, (f, _) in enumerate(FUNCTIONS)]


def cut(interval: Interval, domain: tuple[float, float]) -> Interval:
    return Interval(*(end.clamp(*domain) for end in interval))


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


SMOOTH = [case for case in FUNCTIONS if not isinstance(case[0], ReLU | Sign | Step | Threshold | Staircase)]


@pytest.mark.parametrize("function, domain", SMOOTH, ids=[f"{i}-{type(f).__name__}" for i, (f, _) in enumerate(SMOOTH)])
def test_chosen_lines_have_nearly_least_area(function: Univariate, domain: tuple[float, float]) -> None:
    """At the middle no line of any slope in a fine grid lies closer than the chosen one."""
    generator = torch.Generator().manual_seed(9)
    interval = cut(random_intervals(generator, 60, (1,), 2.0), domain)
    middle = (interval.lower + interval.upper) / 2
    lines = function.lines(interval, None)
    low, high = Univariate.slope_range(function, interval)  # type: ignore[misc]
    share = torch.linspace(0, 1, 200).double().reshape(1, -1, 1)
    grid = low.lower + share * (high.lower - low.lower)
    grid = torch.nan_to_num(grid, posinf=1e6)
    wide = function.wide(interval)
    points = (wide.lower + share * (wide.upper - wide.lower)).unsqueeze(2)
    for sign, slope, offset in ((1, lines.lower, lines.lower_offset), (-1, lines.upper, lines.upper_offset)):
        values = sign * (function.forward(points) - grid.unsqueeze(1) * points)
        best = (values.amin(1) + sign * grid * middle.unsqueeze(1)).amax(1)
        chosen = (sign * (slope * middle.unsqueeze(1) + offset)).squeeze(1)
        width = interval.upper - interval.lower
        assert not (chosen < best - 0.02 * width.clamp(max=1) * (1 + best.abs()) - 1e-6).any()


PIECES = [f for f, _ in FUNCTIONS if isinstance(f, ReLU | Sign | Step | Threshold | Staircase)]


@pytest.mark.parametrize("function", PIECES, ids=[f"{i}-{f}" for i, f in enumerate(PIECES)])
def test_lines_of_piecewise_functions_are_no_looser_than_others(function: Univariate) -> None:
    """At the middle, which is what the area between a line and the function depends on: constants, and other slopes."""
    generator = torch.Generator().manual_seed(12)
    interval = random_intervals(generator, 200, (1,), 2.0)
    middle = ((interval.lower + interval.upper) / 2).unsqueeze(1)
    own = function.relaxation(interval, None)
    limits = function.slope_range(interval)
    assert own is not None and limits is not None
    low, high = function.interval(interval)
    others = [Lines(torch.zeros_like(middle), low.unsqueeze(1), torch.zeros_like(middle), high.unsqueeze(1))]
    for share in torch.linspace(0, 1, 11).tolist():
        slopes = Slopes(*(a + share * (b - a) for a, b in zip(*limits, strict=True)))
        lines = function.relaxation(interval, slopes)
        assert lines is not None
        others.append(lines)
    for other in others:
        below = own.lower * middle + own.lower_offset - other.lower * middle - other.lower_offset
        above = other.upper * middle + other.upper_offset - own.upper * middle - own.upper_offset
        assert bool((below >= -1e-9).all()) and bool((above >= -1e-9).all())


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
