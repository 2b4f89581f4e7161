"""The angle of a point in the plane."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lirpa_verify.operators.base import Interval, Slopes
from lirpa_verify.operators.bivariate import Bivariate, Point
from lirpa_verify.operators.univariate import largest, smallest


@dataclass(frozen=True)
class Arctangent2(Bivariate):
    """``atan2(y, x)``; anything from -pi to pi where the box meets the origin or the half-line y = 0, x < 0."""

    def forward(self, *arguments: Tensor) -> Tensor:
        return torch.atan2(*arguments)

    def regular(self, x: Interval, y: Interval) -> Tensor:
        """The first argument is the ordinate."""
        return (y.lower > 0) | (x.lower > 0) | (x.upper < 0)

    def interval(self, *arguments: Interval) -> Interval:
        """Monotone on every side of a regular box, and without extremes inside."""
        y, x = arguments
        corners = [self.forward(u, v) for u in y for v in x]
        regular = self.regular(y, x)
        return Interval(
            torch.where(regular, smallest(corners), -math.pi), torch.where(regular, largest(corners), math.pi)
        )

    def stationary(self, a: Tensor, b: Tensor, x: Interval, y: Interval) -> list[Point]:
        """Partial derivatives are v / r^2 and -u / r^2 at (u, v), r its distance from 0; inside there are saddles."""
        points = []
        for u, v in zip(x, y, strict=True):
            along_v, along_u = torch.sqrt(-u / b - u.square()), torch.sqrt(v / a - v.square())
            points += [(u, along_v), (u, -along_v), (along_u, v), (-along_u, v)]
        return points

    def default_slopes(self, *intervals: Interval) -> Slopes:
        """Of some planes the one that is closest to the function at the middle, on either side."""
        candidates = torch.stack([self.at_middle(*intervals), self.between_corners(*intervals)]).unsqueeze(2)
        x, y = (Interval(i.lower.unsqueeze(1), i.upper.unsqueeze(1)) for i in intervals)
        middle = [(i.lower + i.upper) / 2 for i in (x, y)]

        def chosen(below: bool) -> Tensor:
            with torch.no_grad():
                heights = torch.stack([self.offset(c, x, y, below) + c[..., 0] * middle[0] + c[..., 1] * middle[1]
                                       for c in candidates])  # fmt: skip
            best = heights.argmax(0) if below else heights.argmin(0)
            return torch.where((best == 0).unsqueeze(-1), candidates[0], candidates[1])

        return Slopes(chosen(True), chosen(False))

    def at_middle(self, x: Interval, y: Interval) -> Tensor:
        """(batch, *node, 2): the gradient at the middle."""
        u, v = (x.lower + x.upper) / 2, (y.lower + y.upper) / 2
        square = u.square() + v.square()
        square = torch.where(square > 0, square, 1)
        return torch.stack([v / square, -u / square], -1)

    def between_corners(self, x: Interval, y: Interval) -> Tensor:
        """(batch, *node, 2): mean slopes of opposite sides."""
        corner = [[self.forward(u, v) for v in y] for u in x]
        along_x = corner[1][0] - corner[0][0] + corner[1][1] - corner[0][1]
        along_y = corner[0][1] - corner[0][0] + corner[1][1] - corner[1][0]
        tangent = self.at_middle(x, y).unbind(-1)
        slopes = []
        for rise, (lower, upper), otherwise in zip((along_x, along_y), (x, y), tangent, strict=True):
            width = (upper - lower).expand_as(rise)
            slopes.append(torch.where(width > 0, rise / torch.where(width > 0, 2 * width, 1), otherwise))
        return torch.stack(slopes, -1)

    def slope_range(self, *intervals: Interval) -> tuple[Slopes, Slopes]:
        """Around the slopes at the corners; sound whatever they are."""
        x, y = intervals
        found = []
        for u in x:
            for v in y:
                square = u.square() + v.square()
                square = torch.where(square > 0, square, 1)
                found.append(torch.stack([v / square, -u / square], -1))
        found += [self.at_middle(x, y), self.between_corners(x, y)]
        low, high = smallest(found).unsqueeze(1), largest(found).unsqueeze(1)
        return Slopes(low, low), Slopes(high, high)
