"""The relaxation shared by all functions of one variable.

The slope k of a line is the free parameter, its offset the exact extreme of f(x) - kx over the
interval, found among the end points and the stationary points f'(x) = k. Every slope therefore
gives a valid line, and by the envelope theorem the offset's derivative with respect to k is minus
the point where the extreme is taken.

Without given slopes the line of least area is used: the one that touches the convex (concave)
envelope of f at the middle of the interval.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lirpa_verify.operators.base import (
    Backward,
    Interval,
    LinearForms,
    Lines,
    Operator,
    Slopes,
    all_finite,
    lines_backward,
    lines_compose,
)
from lirpa_verify.operators.transforms import differentiated

ENVELOPE_STEPS = 5  # of a method that converges like Newton's; any slope is sound


@dataclass(frozen=True)
class Univariate(Operator):
    """A function f of one variable, applied to every entry.

    A subclass gives `forward`, `derivative`, `stationary` and the points below; intervals outside
    its domain are first cut by `domain`.
    """

    inflections: ClassVar[tuple[float, ...]] = ()  # where f' has its local extremes
    turning: ClassVar[tuple[float, ...]] = ()  # where f has its local extremes

    @property
    def bounded(self) -> bool:
        return True

    @property
    def exact_image(self) -> bool:
        return True

    @property
    def splittable(self) -> bool:
        return True

    def derivative(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def stationary(self, slope: Tensor, interval: Interval, below: bool) -> tuple[Tensor, ...]:
        """Points where f(x) - slope * x may have its least (`below`) or largest value inside the interval.

        Anything (finite) where there is none, or outside the interval; not differentiated.
        """
        raise NotImplementedError

    def nearly_stationary(self, slope: Tensor, interval: Interval, below: bool) -> tuple[Tensor, ...]:
        """Such points, roughly, for the choice of a slope."""
        return self.stationary(slope, interval, below)

    def domain(self, interval: Interval) -> Interval:
        """The part of the interval on which f is defined."""
        return interval

    def interval(self, *arguments: Interval) -> Interval:
        """Exact: the extremes lie at the ends or at turning points."""
        lower, upper = self.domain(arguments[0])
        values = [self.forward(lower), self.forward(upper)]
        values += [self.forward(torch.clamp(torch.full_like(lower, x), lower, upper)) for x in self.turning]
        if not self.turning:
            return Interval(*values) if self.rising(arguments[0]) else Interval(values[1], values[0])
        return Interval(smallest(values), largest(values))

    def rising(self, interval: Interval) -> bool:
        """Whether a function without turning points grows."""
        return True

    def derivative_range(self, interval: Interval) -> Interval:
        """Smallest and largest derivative on the interval: slopes beyond it never help."""
        lower, upper = self.domain(interval)
        values = [self.derivative(lower), self.derivative(upper)]
        values += [self.derivative(torch.clamp(torch.full_like(lower, x), lower, upper)) for x in self.inflections]
        return Interval(smallest(values), largest(values))

    def touching(
        self, slope: Tensor, interval: Interval, below: bool, inner: tuple[Tensor, ...]
    ) -> tuple[Tensor, Tensor]:
        """Where f(x) - slope * x is least (`below`) or largest at the ends and the `inner` points, and that value."""
        lower, upper = interval
        with torch.no_grad():
            where = lower.expand_as(slope)
            best = self.forward(lower) - slope * lower
            for x in (upper, *(torch.clamp(x, lower, upper) for x in inner)):
                value = self.forward(x) - slope * x
                better = value < best if below else value > best
                where = torch.where(better, x, where)
                best = torch.minimum(best, value) if below else torch.maximum(best, value)
        return where, best

    def offset(self, slope: Tensor, interval: Interval, below: bool) -> Tensor:
        """Exact minimum (`below`) or maximum of f(x) - slope * x over the interval."""
        lower, upper = interval
        with torch.no_grad():
            inner = self.stationary(slope, interval, below)
        x, best = self.touching(slope.detach(), Interval(lower.detach(), upper.detach()), below, inner)
        x, best = x.detach(), best.detach()
        if differentiated(lower, upper):
            x = torch.where(x == lower, lower, torch.where(x == upper, upper, x))
            return self.forward(x) - slope * x
        # Only the slope may have a gradient: that of the offset is -x.
        return best - (slope - slope.detach()) * x if differentiated(slope) else best

    def least_area_slope(self, interval: Interval, below: bool) -> Tensor:
        """Slope of the envelope's tangent at the middle of the interval.

        Where the tangent of f there does not support it, the middle lies under a straight part of
        the envelope, from `left` to `right`, each an end of the interval or a point where the line is
        tangent to f; moving such a point does not change the line's slope, to first order.
        """
        supports, left, right, slope = self.envelope(Interval(interval.lower.detach(), interval.upper.detach()), below)
        lower, upper = interval
        if not differentiated(lower, upper):
            return slope
        left, right = torch.where(left == lower, lower, left), torch.where(right == upper, upper, right)
        tangent = self.derivative((lower + upper) / 2)
        return torch.where(supports, tangent, self.chord_slope(left, right, tangent))

    @torch.no_grad()
    def envelope(self, interval: Interval, below: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Whether f's tangent at the middle supports f, else where the line over the middle begins and ends; its slope.

        Chords and the points that touch below them converge to the line.
        """
        lower, upper = interval
        middle = (lower + upper) / 2
        tangent = self.derivative(middle)
        at_middle = self.forward(middle) - tangent * middle
        x, best = self.touching(tangent, interval, below, self.nearly_stationary(tangent, interval, below))
        tolerance = 8 * torch.finfo(best.dtype).eps * (best.abs() + (tangent * middle).abs())
        supports = (at_middle - best if below else best - at_middle) <= tolerance
        left, right = lower, upper
        for step in range(ENVELOPE_STEPS):
            left, right = torch.where(x <= middle, x, left), torch.where(x >= middle, x, right)
            slope = self.chord_slope(left, right, tangent)
            if step < ENVELOPE_STEPS - 1:
                x, _ = self.touching(slope, interval, below, self.nearly_stationary(slope, interval, below))
        return supports, left, right, torch.where(supports, tangent, slope)

    def chord_slope(self, left: Tensor, right: Tensor, otherwise: Tensor) -> Tensor:
        """(f(right) - f(left)) / (right - left), `otherwise` where they coincide."""
        width = right - left
        apart = width > 0
        return torch.where(apart, (self.forward(right) - self.forward(left)) / torch.where(apart, width, 1), otherwise)

    def default_slopes(self, *intervals: Interval) -> Slopes:
        interval = self.domain(intervals[0])
        return Slopes(
            self.least_area_slope(interval, below=True).unsqueeze(1),
            self.least_area_slope(interval, below=False).unsqueeze(1),
        )

    def slope_range(self, *intervals: Interval) -> tuple[Slopes, Slopes] | None:
        low, high = (bound.unsqueeze(1) for bound in self.derivative_range(intervals[0]))
        return Slopes(low, low), Slopes(high, high)

    def gaps(self, interval: Interval, slopes: Slopes | None) -> tuple[Tensor, Tensor]:
        lower, lower_offset, upper, upper_offset = self.lines(interval, slopes)[:4]
        wide = self.wide(interval)
        return self.offset(lower, wide, False) - lower_offset, upper_offset - self.offset(upper, wide, True)

    def wide(self, interval: Interval) -> Interval:
        """The interval with a dimension for rows, within the domain."""
        lower, upper = self.domain(interval)
        return Interval(lower.unsqueeze(1), upper.unsqueeze(1))

    def lines(self, interval: Interval, slopes: Slopes | None) -> Lines:
        lower, upper = self.default_slopes(interval) if slopes is None else slopes
        wide = self.wide(interval)
        lines = Lines(lower, self.offset(lower, wide, True), upper, self.offset(upper, wide, False))
        return self.repaired(lines, interval)

    def repaired(self, lines: Lines, interval: Interval) -> Lines:
        """The same lines, but constants from the interval where an end or a line is not finite."""
        parts = (*(end.unsqueeze(1) for end in interval), *lines[:4])
        if all_finite(parts):
            return lines
        usable = torch.isfinite(parts[0])
        for part in parts[1:]:
            usable = usable & torch.isfinite(part)
        low, high = (end.unsqueeze(1) for end in self.interval(interval))
        low = torch.where(torch.isnan(low), -torch.inf, low)
        high = torch.where(torch.isnan(high), torch.inf, high)
        return Lines(
            torch.where(usable, lines.lower, 0), torch.where(usable, lines.lower_offset, low),
            torch.where(usable, lines.upper, 0), torch.where(usable, lines.upper_offset, high), False,
        )  # fmt: skip

    def backward(self, rows: Tensor, intervals: tuple[Interval, ...], slopes: Slopes | None) -> Backward:
        return lines_backward(rows, self.lines(intervals[0], slopes))

    def relaxation(self, interval: Interval, slopes: Slopes | None) -> Lines:
        return self.lines(interval, slopes)

    def compose(self, forms: tuple[LinearForms, ...], intervals: tuple[Interval, ...]) -> LinearForms:
        return lines_compose(forms[0], self.lines(intervals[0], None))


def smallest(values: list[Tensor]) -> Tensor:
    result = values[0]
    for value in values[1:]:
        result = torch.minimum(result, value)
    return result


def largest(values: list[Tensor]) -> Tensor:
    result = values[0]
    for value in values[1:]:
        result = torch.maximum(result, value)
    return result
