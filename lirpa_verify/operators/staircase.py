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
    """Steps of height 1; lines of any slope in [0, 1] touch the corners of the first or the last step.

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
        ends = first - slope * lower, last - slope * upper
        # The upper corners of steps lie at n + edge, their values less slope * x grow with n; the lower ones
        # at n + 1 + edge.
        corner = (1 - slope) * first - slope * (1 + edge) if below else (1 - slope) * last - slope * edge
        best = torch.minimum(*ends) if below else torch.maximum(*ends)
        reached = torch.minimum(best, corner) if below else torch.maximum(best, corner)
        return torch.where(first < last, reached, best)

    def slope_range(self, *intervals: Interval) -> tuple[Slopes, Slopes]:
        zero = torch.zeros_like(intervals[0].lower).unsqueeze(1)
        high = (self.forward(intervals[0].lower) < self.forward(intervals[0].upper)).to(zero.dtype).unsqueeze(1)
        return Slopes(zero, zero), Slopes(high, high)

    def default_slopes(self, *intervals: Interval) -> Slopes:
        """Of smaller area: flat where the middle lies on the first step (the last one, for the line above)."""
        lower, upper = (end.detach() for end in intervals[0])
        first, last, middle, edge = self.forward(lower), self.forward(upper), (lower + upper) / 2, EDGES[self.kind]
        below, above = (first < last) & (middle > first + 1 + edge), (first < last) & (middle < last + edge)
        return Slopes(*(side.to(lower.dtype).unsqueeze(1) for side in (below, above)))

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
