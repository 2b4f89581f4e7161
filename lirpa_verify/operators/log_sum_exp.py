"""The logarithm of a sum of exponentials: convex, and below the logarithm of a sum of chords, which is concave."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lirpa_verify.operators.base import Backward, Interval, LinearForms, Operator, Slopes
from lirpa_verify.operators.grouped import GroupPlanes, group_backward, group_compose


@dataclass(frozen=True)
class LogSumExp(Operator):
    """``log(sum_j exp(x_j))`` over the last dimension; the points where both planes touch are free."""

    @property
    def bounded(self) -> bool:
        return True

    def forward(self, *arguments: Tensor) -> Tensor:
        return torch.logsumexp(arguments[0], -1)

    def interval(self, *arguments: Interval) -> Interval:
        return Interval(*(torch.logsumexp(end, -1) for end in arguments[0]))

    def default_slopes(self, *intervals: Interval) -> Slopes:
        middle = ((intervals[0].lower + intervals[0].upper) / 2).unsqueeze(1)
        return Slopes(middle, middle)

    def slope_range(self, *intervals: Interval) -> tuple[Slopes, Slopes]:
        lower, upper = (end.unsqueeze(1) for end in intervals[0])
        return Slopes(lower, lower), Slopes(upper, upper)

    def planes(self, interval: Interval, slopes: Slopes | None) -> GroupPlanes:
        points = self.default_slopes(interval) if slopes is None else slopes
        lower, upper = (end.unsqueeze(1) for end in interval)
        shift = upper.amax(-1, keepdim=True)
        ends = torch.exp(lower - shift), torch.exp(upper - shift)
        width = upper - lower
        chord = torch.where(width > 0, (ends[1] - ends[0]) / torch.where(width > 0, width, 1), ends[0])
        total = (ends[1] + chord * (points.upper - upper)).sum(-1, keepdim=True)
        above = chord / total
        above_value = (shift + torch.log(total)).squeeze(-1)
        below = torch.softmax(points.lower, -1)
        below_value = torch.logsumexp(points.lower, -1)
        return GroupPlanes(
            below, below_value - (below * points.lower).sum(-1), above, above_value - (above * points.upper).sum(-1)
        )

    def backward(self, rows: Tensor, intervals: tuple[Interval, ...], slopes: Slopes | None) -> Backward:
        return group_backward(rows, self.planes(intervals[0], slopes), intervals[0], self.interval(*intervals))

    def compose(self, forms: tuple[LinearForms, ...], intervals: tuple[Interval, ...]) -> LinearForms:
        return group_compose(forms[0], self.planes(intervals[0], None), intervals[0], self.interval(*intervals))
