"""Sine, cosine and tangent.

Which points touch a line of a given slope is periodic; of each family the first and the last inside
the interval matter, since f(x) - kx changes by the same amount from each to the next.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lirpa_verify.operators.base import Interval, Slopes
from lirpa_verify.operators.univariate import Univariate

TURN = 2 * math.pi


@dataclass(frozen=True)
class Sine(Univariate):
    """``sin(x + phase)`` with phase 0 or pi / 2 (cosine)."""

    phase: float = 0.0

    def forward(self, *arguments: Tensor) -> Tensor:
        return torch.cos(arguments[0]) if self.phase else torch.sin(arguments[0])

    def derivative(self, x: Tensor) -> Tensor:
        return -torch.sin(x) if self.phase else torch.cos(x)

    def interval(self, *arguments: Interval) -> Interval:
        return self.range(arguments[0], self.forward, math.pi / 2 - self.phase)

    def derivative_range(self, interval: Interval) -> Interval:
        return self.range(interval, self.derivative, -self.phase)

    def range(self, interval: Interval, wave, peak: float) -> Interval:  # type: ignore[no-untyped-def]
        """Range of a wave of period 2 pi that has a maximum at `peak`."""
        lower, upper = interval
        values = wave(lower), wave(upper)
        low = torch.where(meets(interval, peak + math.pi), -1.0, torch.minimum(*values))
        high = torch.where(meets(interval, peak), 1.0, torch.maximum(*values))
        return Interval(low.to(lower.dtype), high.to(lower.dtype))

    def domain(self, interval: Interval) -> Interval:
        """No numbers far from 0."""
        here = near(interval)
        return Interval(*(torch.where(here, end, torch.nan) for end in interval))

    def gaps(self, interval: Interval, slopes: Slopes | None) -> tuple[Tensor, Tensor]:
        """At most from -1 to 1 where the lines are constants."""
        below, above = super().gaps(interval, slopes)
        return torch.where(torch.isfinite(below), below, 2), torch.where(torch.isfinite(above), above, 2)

    def stationary(self, slope: Tensor, interval: Interval, below: bool) -> tuple[Tensor, ...]:
        """cos(x + phase) = slope with a sine below 0 (minima) or above it."""
        angle = torch.acos(slope.clamp(-1, 1))
        point = (-angle if below else angle) - self.phase
        lower, upper = interval
        first, last = torch.ceil((lower - point) / TURN), torch.floor((upper - point) / TURN)
        return tuple(torch.nan_to_num(point + TURN * n) for n in (first, last))


def near(interval: Interval) -> Tensor:
    """Where values at rounded places are as good as rounded values: they differ by the square of a place's error."""
    lower, upper = interval
    return torch.maximum(lower.abs(), upper.abs()) <= torch.finfo(lower.dtype).eps ** -0.5


def meets(interval: Interval, point: float) -> Tensor:
    """Whether ``point + 2 pi n`` lies in the interval for some n, in case of doubt (rounding, no ends) yes."""
    lower, upper = interval
    slack = 4 * torch.finfo(lower.dtype).eps * (1 + torch.maximum(lower.abs(), upper.abs()))
    last = torch.floor((upper + slack - point) / TURN)
    return ~(point + TURN * last < lower - slack)


@dataclass(frozen=True)
class Tangent(Univariate):
    """``tan(x)``; unbounded where the interval holds a pole."""

    def forward(self, *arguments: Tensor) -> Tensor:
        return torch.tan(arguments[0])

    def derivative(self, x: Tensor) -> Tensor:
        return 1 + torch.tan(x).square()

    def centre(self, interval: Interval) -> Tensor:
        """The zero nearest to the interval's middle."""
        return math.pi * torch.round((interval.lower + interval.upper) / TURN)

    def regular(self, interval: Interval) -> Tensor:
        half, centre = math.pi / 2 * (1 - 1e-6), self.centre(interval)
        return (interval.lower > centre - half) & (interval.upper < centre + half) & near(interval)

    def interval(self, *arguments: Interval) -> Interval:
        regular = self.regular(arguments[0])
        lower, upper = (self.forward(end) for end in arguments[0])
        return Interval(torch.where(regular, lower, -torch.inf), torch.where(regular, upper, torch.inf))

    def derivative_range(self, interval: Interval) -> Interval:
        lower, upper = interval
        values = self.derivative(lower), self.derivative(upper)
        nearest = self.derivative(torch.clamp(self.centre(interval), lower, upper))
        return Interval(torch.minimum(nearest, torch.minimum(*values)), torch.maximum(*values))

    def stationary(self, slope: Tensor, interval: Interval, below: bool) -> tuple[Tensor, ...]:
        angle = torch.acos(slope.clamp(min=1).rsqrt())
        return (self.centre(interval) + (angle if below else -angle),)

    def domain(self, interval: Interval) -> Interval:
        """Nothing (no numbers) where there is a pole."""
        regular = self.regular(interval)
        return Interval(*(torch.where(regular, end, torch.nan) for end in interval))
