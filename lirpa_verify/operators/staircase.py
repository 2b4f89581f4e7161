"""Rounding to integers: floor, ceiling, and to the nearest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from lirpa_verify.operators.base import Interval, Slopes
from lirpa_verify.operators.univariate import Univariate

FUNCTIONS = {"floor": torch.floor, "round": torch.round, "ceil": torch.ceil}
EDGES = {"floor": 0.0, "round": -0.5, "ceil": -1.0}  # the step of value n begins at n + edge


@dataclass(frozen=True)
class Staircase(Univariate):
    """Steps of height 1; lines touch the corners of the first or the last step.

    Both values count at an edge, so it does not matter to which step it belongs.
    """

    kind: Literal["floor", "round", "ceil"]

    @property
    def rounded_terms(self) -> int:
        return 0

    def forward(self, *arguments: Tensor) -> Tensor:
        return FUNCTIONS[self.kind](arguments[0])

    def offset(self, slope: Tensor, interval: Interval, below: bool) -> Tensor:
        lower, upper = interval
        first, last = self.forward(lower), self.forward(upper)
        edge = EDGES[self.kind]
        # The upper corners of steps lie at n + edge, the lower ones at n + 1 + edge; along them the distance
        # from the line grows or falls, so that the first or the last is farthest.
        height, place = (last - 1, edge + 1) if below else (first + 1, edge)
        corners = [n - slope * (n + place) for n in (first if below else last, height)]
        extreme = torch.minimum if below else torch.maximum
        best = extreme(first - slope * lower, last - slope * upper)
        return torch.where(first < last, extreme(best, extreme(*corners)), best)

    def steepest(self, interval: Interval) -> Slopes:
        """Slopes of the lines from the last lower corner to the end, and from the start to the first upper corner."""
        lower, upper = interval
        first, last = self.forward(lower), self.forward(upper)
        widths = upper - (last + EDGES[self.kind]), first + 1 + EDGES[self.kind] - lower
        below, above = (
            torch.where(width > 0, 1 / torch.where(width > 0, width, 1), 1).clamp(min=1) for width in widths
        )
        return Slopes(torch.where(first < last, below, 0), torch.where(first < last, above, 0))

    def slope_range(self, *intervals: Interval) -> tuple[Slopes, Slopes]:
        high = Slopes(*(side.unsqueeze(1) for side in self.steepest(intervals[0])))
        return Slopes(torch.zeros_like(high.lower), torch.zeros_like(high.upper)), high

    def default_slopes(self, *intervals: Interval) -> Slopes:
        """Of least area: those of the convex (concave) hull of the steps at the middle, which has three parts."""
        lower, upper = (end.detach() for end in intervals[0])
        first, last = self.forward(lower), self.forward(upper)
        middle, begin, end = (lower + upper) / 2, first + 1 + EDGES[self.kind], last + EDGES[self.kind]
        steep = self.steepest(Interval(lower, upper))
        inner = (first < last).to(lower.dtype)
        below = torch.where(middle <= begin, 0, torch.where(middle <= end, inner, steep.lower))
        above = torch.where(middle >= end, 0, torch.where(middle >= begin, inner, steep.upper))
        return Slopes(below.unsqueeze(1), above.unsqueeze(1))

    def undecided(self, interval: Interval, position: int) -> Tensor:
        return self.forward(interval.lower) < self.forward(interval.upper)

    def gaps(self, interval: Interval, slopes: Slopes | None) -> tuple[Tensor, Tensor]:
        below, above = super().gaps(interval, slopes)
        inside = self.inner_edge(interval).unsqueeze(1)
        return torch.where(inside, below, 0), torch.where(inside, above, 0)

    def edge(self, interval: Interval) -> Tensor:
        """The edge nearest to the middle."""
        edge = EDGES[self.kind]
        return torch.round((interval.lower + interval.upper) / 2 - edge) + edge

    def inner_edge(self, interval: Interval) -> Tensor:
        edge = self.edge(interval)
        return (interval.lower < edge) & (edge < interval.upper)

    def split_point(self, interval: Interval) -> Tensor:
        return self.edge(interval)
