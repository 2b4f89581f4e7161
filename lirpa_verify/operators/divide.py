"""The quotient of two values, jointly.

On a box with y > 0 the quotient is linear in x, so its convex envelope mixes points of the two sides
x = lower and x = upper. There it is a function of y alone: convex where x is positive, else bounded from
below by its chord (Tawarmalani and Sahinidis, Convexification and global optimization in continuous and
mixed-integer nonlinear programming, 2002). The plane of least volume touches the envelope at the middle of
the box. Quotients by negative values are those of both values negated; the plane above is the one below
of the quotient with x negated.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lirpa_verify.operators.base import Interval, Slopes
from lirpa_verify.operators.bivariate import Bivariate, Point
from lirpa_verify.operators.univariate import largest, smallest


@dataclass(frozen=True)
class Divide(Bivariate):
    """``x / y`` entry by entry; unbounded where the interval of y holds 0."""

    def forward(self, *arguments: Tensor) -> Tensor:
        return arguments[0] / arguments[1]

    def regular(self, x: Interval, y: Interval) -> Tensor:
        return (y.lower > 0) | (y.upper < 0)

    def interval(self, *arguments: Interval) -> Interval:
        x, y = arguments
        corners = [u / v for u in x for v in y]
        regular = self.regular(x, y)
        return Interval(
            torch.where(regular, smallest(corners), -torch.inf), torch.where(regular, largest(corners), torch.inf)
        )

    def stationary(self, a: Tensor, b: Tensor, x: Interval, y: Interval) -> list[Point]:
        """Inside there are saddles only; on a side x = u the slope -u / y^2 in y is b."""
        sign = torch.where(y.lower > 0, 1.0, -1.0).to(a.dtype)
        return [(u, sign * torch.sqrt((-u / b).clamp(min=0))) for u in x]

    def default_slopes(self, *intervals: Interval) -> Slopes:
        (lx, ux), (ly, uy) = (torch.broadcast_tensors(*i) for i in intervals)
        negative = uy < 0
        y = Interval(torch.where(negative, -uy, ly), torch.where(negative, -ly, uy))
        x = Interval(torch.where(negative, -ux, lx), torch.where(negative, -lx, ux))
        turn = torch.where(negative, -1.0, 1.0).to(lx.dtype)
        below, above = supporting(x, y), supporting(Interval(-x.upper, -x.lower), y)
        low = torch.stack([turn * below[0], turn * below[1]], -1)
        high = torch.stack([turn * above[0], -turn * above[1]], -1)
        return Slopes(low.unsqueeze(1), high.unsqueeze(1))

    def slope_range(self, *intervals: Interval) -> tuple[Slopes, Slopes]:
        """The ranges of the partial derivatives 1 / y and -x / y^2."""
        x, y = intervals
        regular = self.regular(x, y)
        ends = [torch.where(regular, 1 / end, 0) for end in y]
        corners = [-u * v.square() for u in x for v in ends]
        low = torch.stack(torch.broadcast_tensors(torch.minimum(*ends), smallest(corners)), -1).unsqueeze(1)
        high = torch.stack(torch.broadcast_tensors(torch.maximum(*ends), largest(corners)), -1).unsqueeze(1)
        return Slopes(low, low), Slopes(high, high)


def supporting(x: Interval, y: Interval) -> tuple[Tensor, Tensor]:
    """Slopes of a plane that supports the convex envelope of x / y, y > 0, at the middle of the box.

    With u on the side x = lower and v on the side x = upper, u + v the sum of the ends of y, the envelope
    there is half the least sum of both sides' functions; the slope in y is one that both share.
    """
    (lx, ux), (ly, uy) = x, y
    # Where both functions curve, their slopes lx / u^2 and ux / v^2 agree; else the ends decide.
    left, right = lx.clamp(min=0).sqrt(), ux.clamp(min=0).sqrt()
    total = left + right
    u = torch.where(total > 0, (ly + uy) * left / torch.where(total > 0, total, 1), ly)
    u = torch.maximum(torch.minimum(torch.maximum(u, ly), uy), ly)
    v = ly + uy - u
    chord = 1 / (ly * uy)
    steepest = torch.where(lx > 0, -lx / u.square(), -lx * chord)  # slopes in y up to this hold on the left
    least = torch.where(ux > 0, -ux / v.square(), -ux * chord)  # and from this on the right
    b = (steepest + least) / 2
    width = ux - lx
    wide = width > 0
    a = (ux / v - lx / u - b * (v - u)) / torch.where(wide, width, 1)
    return torch.where(wide, a, 2 / (ly + uy)), b
