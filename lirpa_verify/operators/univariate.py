"""The relaxation shared by all functions of one variable.

The slope k of a line is the free parameter, its offset the exact extreme of f(x) - kx over the
interval, found among the end points and the stationary points f'(x) = k. Every slope therefore
gives a valid line, and by the envelope theorem the offset's derivative with respect to k is minus
the point where the extreme is taken, which is what autograd computes here.

Without given slopes the line of least area is used: the one that touches the convex (concave)
envelope of f at the middle of the interval. It is found by bisection on k, since the touching point
moves monotonically with k.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lirpa_verify.operators.base import (
    Backward,
    Interval,
    LinearForms,
    Lines,
    Operator,
    Slopes,
    lines_backward,
    lines_compose,
)

BISECTIONS = 24  # the slope is then known to 1e-7 of its range; any slope is sound


@dataclass(frozen=True)
class Univariate(Operator):
    """A function f of one variable, applied to every entry.

    A subclass gives `forward`, `derivative_range` and `stationary`, and `interval` where f is not monotone.
    """

    @property
    def bounded(self) -> bool:
        return True

    @property
    def splittable(self) -> bool:
        return True

    def stationary(self, slope: Tensor) -> tuple[Tensor, ...]:
        """Points x with f'(x) = slope, anything (finite) where there is none; not differentiated."""
        raise NotImplementedError

    def derivative_range(self, interval: Interval) -> Interval:
        """Smallest and largest derivative on the interval: slopes beyond it never help."""
        raise NotImplementedError

    def interval(self, *arguments: Interval) -> Interval:
        """For non-decreasing functions."""
        return Interval(self.forward(arguments[0].lower), self.forward(arguments[0].upper))

    def candidates(self, slope: Tensor, interval: Interval) -> list[Tensor]:
        """Points of the interval among which f(x) - slope * x takes its extremes."""
        lower, upper = interval
        with torch.no_grad():
            inner = [torch.clamp(x, lower, upper) for x in self.stationary(slope)]
        return [lower.expand_as(slope), upper.expand_as(slope), *inner]

    def offset(self, slope: Tensor, interval: Interval, below: bool) -> Tensor:
        """Exact minimum (`below`) or maximum of f(x) - slope * x over the interval."""
        points = self.candidates(slope, interval)
        values = [self.forward(x) - slope * x for x in points]
        best = values[0]
        for value in values[1:]:
            best = torch.minimum(best, value) if below else torch.maximum(best, value)
        return best

    def touching(self, slope: Tensor, interval: Interval, below: bool) -> Tensor:
        """A point where the line of this slope touches f from below (or above)."""
        points = self.candidates(slope, interval)
        where, best = points[0], self.forward(points[0]) - slope * points[0]
        for x in points[1:]:
            value = self.forward(x) - slope * x
            better = value < best if below else value > best
            where, best = torch.where(better, x, where), torch.where(better, value, best)
        return where

    @torch.no_grad()
    def least_area_slope(self, interval: Interval, below: bool) -> Tensor:
        """Slope of the envelope's tangent at the middle of the interval."""
        low, high = self.derivative_range(interval)
        middle = (interval.lower + interval.upper) / 2
        for _ in range(BISECTIONS):
            slope = (low + high) / 2
            right = self.touching(slope, interval, below) > middle
            # The convex envelope's slope grows to the right, the concave one's falls.
            too_large = right if below else ~right
            low, high = torch.where(too_large, low, slope), torch.where(too_large, slope, high)
        return (low + high) / 2

    def default_slopes(self, *intervals: Interval) -> Slopes:
        interval = intervals[0]
        return Slopes(
            self.least_area_slope(interval, below=True).unsqueeze(1),
            self.least_area_slope(interval, below=False).unsqueeze(1),
        )

    def slope_range(self, *intervals: Interval) -> tuple[Slopes, Slopes]:
        low, high = (bound.unsqueeze(1) for bound in self.derivative_range(intervals[0]))
        return Slopes(low, low), Slopes(high, high)

    def gaps(self, interval: Interval, slopes: Slopes | None) -> tuple[Tensor, Tensor]:
        lower, upper = self.default_slopes(interval) if slopes is None else slopes
        wide = Interval(interval.lower.unsqueeze(1), interval.upper.unsqueeze(1))
        below = self.offset(lower, wide, False) - self.offset(lower, wide, True)
        return below, self.offset(upper, wide, False) - self.offset(upper, wide, True)

    def lines(self, interval: Interval, slopes: Slopes | None) -> Lines:
        lower, upper = self.default_slopes(interval) if slopes is None else slopes
        wide = Interval(interval.lower.unsqueeze(1), interval.upper.unsqueeze(1))
        return Lines(lower, self.offset(lower, wide, True), upper, self.offset(upper, wide, False))

    def backward(self, rows: Tensor, intervals: tuple[Interval, ...], slopes: Slopes | None) -> Backward:
        return lines_backward(rows, self.lines(intervals[0], slopes))

    def compose(self, forms: tuple[LinearForms, ...], intervals: tuple[Interval, ...]) -> LinearForms:
        return lines_compose(forms[0], self.lines(intervals[0], None))
