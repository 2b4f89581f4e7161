"""The relaxation shared by functions of two variables whose extremes over a box are known in closed form.

As for functions of one variable the slopes of a plane are free and its offset is the exact extreme of
``f(x, y) - a x - b y`` over the box, found among the corners and the stationary points on the sides and
inside. Every pair of slopes gives a valid plane, and by the envelope theorem the offset's derivative with
respect to the slopes is minus the point where the extreme is taken.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lirpa_verify.operators.base import Backward, Interval, LinearForms, Operator, Slopes
from lirpa_verify.operators.planes import Planes, planes_backward, planes_compose, repaired

Point = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Bivariate(Operator):
    """A function f of two arguments, entry by entry.

    A subclass gives `forward`, `interval`, `regular`, `stationary`, `default_slopes` and `slope_range`.
    Slopes are ``(batch, rows or 1, *node, 2)``.
    """

    @property
    def bounded(self) -> bool:
        return True

    def regular(self, x: Interval, y: Interval) -> Tensor:
        """Mask of the boxes on which f is smooth; elsewhere the interval is all that is known."""
        raise NotImplementedError

    def stationary(self, a: Tensor, b: Tensor, x: Interval, y: Interval) -> list[Point]:
        """Points on the sides and inside where ``f(x, y) - a x - b y`` may have an extreme.

        Coordinates outside the box are moved into it; anything where there is none, numbers or not.
        """
        raise NotImplementedError

    def default_slopes(self, *intervals: Interval) -> Slopes:
        raise NotImplementedError

    def offset(self, slope: Tensor, x: Interval, y: Interval, below: bool) -> Tensor:
        """Exact minimum (`below`) or maximum of f less the plane; ends are ``(batch, 1, *node)``."""
        a, b = slope.unbind(-1)
        with torch.no_grad():
            px, py = self.touching(a, b, x, y, below)
        # Where the extreme is taken at an end of an interval, it moves with that end.
        px = torch.where(px == x.lower, x.lower, torch.where(px == x.upper, x.upper, px))
        py = torch.where(py == y.lower, y.lower, torch.where(py == y.upper, y.upper, py))
        return self.forward(px, py) - a * px - b * py

    def touching(self, a: Tensor, b: Tensor, x: Interval, y: Interval, below: bool) -> Point:
        corners = [(u, v) for u in x for v in y]
        points = [*corners, *self.stationary(a, b, x, y)]
        zero = torch.zeros_like(a)
        best, best_x, best_y = zero + (torch.inf if below else -torch.inf), zero + x.lower, zero + y.lower
        for u, v in points:
            u = torch.clamp(torch.nan_to_num(u + zero), x.lower, x.upper)
            v = torch.clamp(torch.nan_to_num(v + zero), y.lower, y.upper)
            value = self.forward(u, v) - a * u - b * v
            better = value < best if below else value > best
            best, best_x, best_y = (
                torch.where(better, new, old) for new, old in ((value, best), (u, best_x), (v, best_y))
            )
        return best_x, best_y

    def planes(self, intervals: tuple[Interval, ...], slopes: Slopes | None) -> Planes:
        x, y = (Interval(i.lower.unsqueeze(1), i.upper.unsqueeze(1)) for i in intervals)
        low, high = self.default_slopes(*intervals) if slopes is None else slopes
        regular = self.regular(x, y)
        below = self.offset(low, x, y, True).masked_fill(~regular, torch.nan)
        above = self.offset(high, x, y, False).masked_fill(~regular, torch.nan)
        planes = Planes((low[..., 0], low[..., 1]), below, (high[..., 0], high[..., 1]), above)
        return repaired(planes, intervals, self.interval(*intervals))

    def backward(self, rows: Tensor, intervals: tuple[Interval, ...], slopes: Slopes | None) -> Backward:
        return planes_backward(rows, self.planes(intervals, slopes))

    def compose(self, forms: tuple[LinearForms, ...], intervals: tuple[Interval, ...]) -> LinearForms:
        return planes_compose(forms, self.planes(intervals, None))
