"""Continuous piecewise linear functions: the extremes of f(x) - kx lie at break points or ends."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lirpa_verify.operators.base import Interval
from lirpa_verify.operators.univariate import Univariate


@dataclass(frozen=True)
class PiecewiseLinear(Univariate):
    """A subclass gives `forward`, `breakpoints` and `pieces`."""

    @property
    def breakpoints(self) -> tuple[float, ...]:
        raise NotImplementedError

    @property
    def pieces(self) -> tuple[float, ...]:
        """Slopes left of, between and right of the break points."""
        raise NotImplementedError

    def stationary(self, slope: Tensor, interval: Interval, below: bool) -> tuple[Tensor, ...]:
        return tuple(torch.full_like(interval.lower, x) for x in self.breakpoints)

    def derivative(self, x: Tensor) -> Tensor:
        return torch.tensor(self.pieces).to(x)[self.piece(x)]

    def piece(self, x: Tensor) -> Tensor:
        count = torch.zeros_like(x, dtype=torch.int64)
        for b in self.breakpoints:
            count += x > b
        return count

    def met(self, interval: Interval) -> list[Tensor]:
        """Per piece a mask of the intervals that have more than a point of it, or lie in it."""
        ends = (-math.inf, *self.breakpoints, math.inf)
        lower, upper = interval
        return [
            ((lower < right) & (upper > left)) | ((lower == upper) & (lower >= left) & (lower <= right))
            for left, right in itertools.pairwise(ends)
        ]

    def derivative_range(self, interval: Interval) -> Interval:
        low = torch.full_like(interval.lower, math.inf)
        high = -low
        for met, slope in zip(self.met(interval), self.pieces, strict=True):
            low = torch.where(met, low.clamp(max=slope), low)
            high = torch.where(met, high.clamp(min=slope), high)
        return Interval(low, high)

    def interval(self, *arguments: Interval) -> Interval:
        lower, upper = arguments[0]
        points = [lower, upper, *(torch.clamp(torch.full_like(lower, x), lower, upper) for x in self.breakpoints)]
        values = torch.stack([self.forward(x) for x in points])
        return Interval(values.amin(0), values.amax(0))

    def undecided(self, interval: Interval, position: int) -> Tensor:
        inside = torch.zeros_like(interval.lower, dtype=torch.bool)
        for b in self.breakpoints:
            inside |= (interval.lower < b) & (interval.upper > b)
        return inside

    def split_point(self, interval: Interval) -> Tensor:
        """The break point inside that is nearest to the middle (the middle where there is none)."""
        middle = (interval.lower + interval.upper) / 2
        best = torch.where(self.undecided(interval, 0), math.inf, middle)
        for b in self.breakpoints:
            inside = (interval.lower < b) & (interval.upper > b)
            best = torch.where(inside & ((b - middle).abs() < (best - middle).abs()), b, best)
        return best
