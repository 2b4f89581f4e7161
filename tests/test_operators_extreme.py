"""Functions of one variable on intervals of all magnitudes: what lines lack is less than a verdict's margin."""

from __future__ import annotations

import pytest
import torch
from one_variable import FUNCTIONS, NAMES, cut
from operator_checks import inside, random_slopes
from torch import Tensor

from lirpa_verify.operators.base import Interval
from lirpa_verify.operators.softmax import Softmax
from lirpa_verify.operators.univariate import Univariate

COUNT, POINTS = 3000, 61


def magnitudes(g: torch.Generator, low: int, high: int) -> Tensor:
    return 10.0 ** torch.randint(low, high + 1, (1, COUNT), generator=g).double()


def extreme_intervals(g: torch.Generator) -> Interval:
    """Around tiny to huge numbers, from a few units in the last place wide to far across 0; some end at 0."""
    centre = torch.randn(1, COUNT, generator=g, dtype=torch.float64) * magnitudes(g, -160, 150)
    centre[:, ::2] *= magnitudes(g, -40, 40)[:, ::2] / centre[:, ::2].abs()
    across, kind = torch.rand(2, 1, COUNT, generator=g, dtype=torch.float64)
    radius = torch.where(across < 0.3, magnitudes(g, -40, 40), centre.abs() * magnitudes(g, -16, 0))
    share = torch.rand(2, 1, COUNT, generator=g, dtype=torch.float64)
    lower, upper = centre - radius * share[0], centre + radius * share[1]
    ends = torch.where(kind < 0.1, 0, lower), torch.where(kind > 0.9, 0, upper)
    return Interval(torch.minimum(*ends), torch.maximum(*ends))


def points_of(g: torch.Generator, interval: Interval) -> Tensor:
    """(POINTS, COUNT): the ends, points near them, and uniform ones."""
    share = torch.rand(POINTS, COUNT, generator=g, dtype=torch.float64)
    share[0], share[1] = 0, 1
    share[2:20] = 10 ** (-20 * share[2:20])
    share[20:40] = 1 - 10 ** (-18 * share[20:40])
    x = interval.lower + share * (interval.upper - interval.lower)
    return torch.minimum(torch.maximum(x, interval.lower), interval.upper)


@pytest.mark.parametrize("function, domain", FUNCTIONS, ids=NAMES)
def test_lines_hold_up_to_the_margin(function: Univariate, domain: tuple[float, float]) -> None:
    """A bound of a row with the coefficient 1 is only trusted beyond 1e-11 of its terms."""
    g = torch.Generator().manual_seed(17)
    interval = cut(extreme_intervals(g), domain)
    x = points_of(g, interval)
    values = function.forward(x)
    reach = torch.maximum(interval.lower.abs(), interval.upper.abs())[0]
    size = torch.stack([end.abs() for end in function.interval(interval)]).amax((0, 1))
    for slopes in (None, random_slopes(g, function, (interval,), 1)):
        lines = function.relaxation(interval, slopes)
        below, below_offset, above, above_offset = (t.expand(1, 1, COUNT)[0, 0] for t in lines[:4])
        crossed = torch.maximum(below * x + below_offset - values, values - above * x - above_offset)
        margin = 1e-12 * (1e-3 + size + torch.maximum(below.abs(), above.abs()) * reach)
        wrong = ~(crossed <= margin) & torch.isfinite(values)
        assert not bool(wrong.any()), interval.lower[0, wrong.any(0)]


def test_planes_of_softmax_over_wide_boxes() -> None:
    """Coefficients are differences of nearly equal numbers, which count where they meet wide intervals."""
    g = torch.Generator().manual_seed(18)
    lower, upper = torch.tensor([[0.0, 2.7e17, 0.0], [0.0, 2.7071e17, 1.1e29]]).double().split(1)
    points = inside(g, Interval(lower, upper), 100)[0]
    rows = torch.randn(1, 30, 3, generator=g, dtype=torch.float64)
    found = Softmax().backward(rows, (Interval(lower, upper),), None)
    (coefficients,) = found.coefficients
    assert coefficients is not None
    size = 1 + points.abs() @ coefficients[0].abs().mT
    bound = found.offset + points @ coefficients[0].mT
    assert bool((bound <= torch.softmax(points, -1) @ rows[0].mT + 1e-11 * size).all())
