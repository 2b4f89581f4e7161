"""Step functions with one jump: the sign, comparison with 0, and ReLU with a threshold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lirpa_verify.operators.base import Interval, Slopes
from lirpa_verify.operators.univariate import Univariate


@dataclass(frozen=True)
class Jump(Univariate):
    """A function that jumps at one point; elsewhere it is linear. Lines turn about the corners of the jump."""

    @property
    def point(self) -> float:
        return 0.0

    @property
    def rounded_terms(self) -> int:
        return 0

    def sides(self, slope: Tensor) -> tuple[Tensor, Tensor]:
        """f(x) - slope * x just left and just right of the jump."""
        raise NotImplementedError

    def undecided(self, interval: Interval, position: int) -> Tensor:
        return (interval.lower < self.point) & (interval.upper > self.point)

    def offset(self, slope: Tensor, interval: Interval, below: bool) -> Tensor:
        """Least or largest value of f(x) - slope * x over the closure of the pieces that the interval meets."""
        lower, upper = interval
        extreme = torch.minimum if below else torch.maximum
        best = extreme(self.forward(lower) - slope * lower, self.forward(upper) - slope * upper)
        left, right = self.sides(slope)
        best = torch.where((lower < self.point) & (upper >= self.point), extreme(best, left), best)
        return torch.where((lower <= self.point) & (upper > self.point), extreme(best, right), best)

    def gaps(self, interval: Interval, slopes: Slopes | None) -> tuple[Tensor, Tensor]:
        """Nothing is gained by cutting where the jump is at an end already."""
        below, above = super().gaps(interval, slopes)
        crossing = self.undecided(interval, 0).unsqueeze(1)
        return torch.where(crossing, below, 0), torch.where(crossing, above, 0)

    def split_point(self, interval: Interval) -> Tensor:
        return torch.full_like(interval.lower, self.point)


@dataclass(frozen=True)
class Corner(Jump):
    """Two levels with a jump at 0; the line above passes through the upper corner, the one below through the lower."""

    levels: ClassVar[tuple[float, float]]

    def sides(self, slope: Tensor) -> tuple[Tensor, Tensor]:
        low, high = self.levels
        return torch.full_like(slope, low), torch.full_like(slope, high)

    def steepest(self, interval: Interval) -> Slopes:
        """The slopes whose lines just reach the function at the ends of the interval."""
        lower, upper = interval
        rise = self.levels[1] - self.levels[0]
        crossing = self.undecided(interval, 0)
        return Slopes(
            torch.where(crossing, rise / torch.where(crossing, upper, 1), 0),
            torch.where(crossing, -rise / torch.where(crossing, lower, -1), 0),
        )

    def default_slopes(self, *intervals: Interval) -> Slopes:
        """Of smaller area: flat where the line would leave the function on the wider side."""
        lower, upper = intervals[0]
        below, above = self.steepest(intervals[0])
        wide_left = -lower > upper
        return Slopes(torch.where(wide_left, 0, below).unsqueeze(1), torch.where(wide_left, above, 0).unsqueeze(1))

    def slope_range(self, *intervals: Interval) -> tuple[Slopes, Slopes]:
        high = Slopes(*(side.unsqueeze(1) for side in self.steepest(intervals[0])))
        return Slopes(torch.zeros_like(high.lower), torch.zeros_like(high.upper)), high


@dataclass(frozen=True)
class Sign(Corner):
    """-1, 0 or 1."""

    levels: ClassVar[tuple[float, float]] = (-1.0, 1.0)

    def forward(self, *arguments: Tensor) -> Tensor:
        return torch.sign(arguments[0])


@dataclass(frozen=True)
class Step(Corner):
    """1 where x > 0 (`strict`) or x >= 0, else 0."""

    levels: ClassVar[tuple[float, float]] = (0.0, 1.0)
    strict: bool

    def forward(self, *arguments: Tensor) -> Tensor:
        x = arguments[0]
        return (x > 0 if self.strict else x >= 0).to(x.dtype)


@dataclass(frozen=True)
class Threshold(Jump):
    """``x`` where x > threshold, `value` elsewhere."""

    threshold: float
    value: float

    @property
    def point(self) -> float:
        return self.threshold

    def forward(self, *arguments: Tensor) -> Tensor:
        return torch.where(arguments[0] > self.threshold, arguments[0], self.value)

    def sides(self, slope: Tensor) -> tuple[Tensor, Tensor]:
        return self.value - slope * self.threshold, (1 - slope) * self.threshold

    def interval(self, *arguments: Interval) -> Interval:
        lower, upper = arguments[0]
        values = self.forward(lower), self.forward(upper)
        crossing = (lower <= self.threshold) & (upper > self.threshold)
        least, most = min(self.value, self.threshold), max(self.value, self.threshold)
        low, high = torch.minimum(*values), torch.maximum(*values)
        return Interval(
            torch.where(crossing, low.clamp(max=least), low), torch.where(crossing, high.clamp(min=most), high)
        )

    def slope_range(self, *intervals: Interval) -> tuple[Slopes, Slopes]:
        lower, upper = intervals[0]
        high = ((upper > self.threshold).to(lower.dtype)).unsqueeze(1)
        low = ((lower > self.threshold).to(lower.dtype)).unsqueeze(1)
        return Slopes(low, low), Slopes(high, high)

    def default_slopes(self, *intervals: Interval) -> Slopes:
        """Of smallest area: a chord between an end and the other one or the corner of the jump."""
        least, most = min(self.value, self.threshold), max(self.value, self.threshold)
        below, above = self.closest(intervals[0], least, True), self.closest(intervals[0], most, False)
        return Slopes(below.unsqueeze(1), above.unsqueeze(1))

    def closest(self, interval: Interval, corner: float, below: bool) -> Tensor:
        """The chord's slope whose line is closest to the function at the middle."""
        lower, upper = interval
        crossing, middle = self.undecided(interval, 0), (lower + upper) / 2
        whole = self.chord_slope(lower, upper, (lower > self.threshold).to(lower.dtype))
        pieces = [
            (corner - self.forward(lower)) / torch.where(crossing, self.threshold - lower, 1),
            (self.forward(upper) - corner) / torch.where(crossing, upper - self.threshold, 1),
        ]
        best, reached = whole, self.height(whole, middle, interval, below)
        for piece in pieces:
            slope = torch.where(crossing, piece, whole)
            height = self.height(slope, middle, interval, below)
            best, reached = torch.where(height > reached, slope, best), torch.maximum(height, reached)
        return best

    def height(self, slope: Tensor, middle: Tensor, interval: Interval, below: bool) -> Tensor:
        """Of the line of a slope at the middle, negated above: the larger the closer to the function."""
        height = self.offset(slope, interval, below) + slope * middle
        return height if below else -height
