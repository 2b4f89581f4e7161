"""The largest of a group of entries: max pooling, maxima over dimensions.

Below, every convex combination of the entries. Above, the plane of any slopes w in [0, 1] with the
exact offset: over the box, ``max_i x_i - <w, x>`` is largest where one entry i is high and all others
are low. By default only the entry that can be largest by most has a slope, the one with which the
plane passes through the second largest upper end.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lirpa_verify.operators.base import Backward, Interval, LinearForms, Operator, Slopes
from lirpa_verify.operators.grouped import GroupPlanes, group_backward, group_compose

SHARE = 1e-6  # of the default entry in every combination, so that no combination is empty


@dataclass(frozen=True)
class Maximum(Operator):
    """``max_j x_j`` over the last dimension."""

    @property
    def bounded(self) -> bool:
        return True

    @property
    def exact_image(self) -> bool:
        return True

    @property
    def rounded_terms(self) -> int:
        return 0

    def needed(self, wanted: Tensor, interval: Interval) -> Tensor:
        return wanted.unsqueeze(-1) & (interval.upper >= interval.lower.amax(-1, keepdim=True))

    def forward(self, *arguments: Tensor) -> Tensor:
        return arguments[0].amax(-1)

    def interval(self, *arguments: Interval) -> Interval:
        return Interval(*(end.amax(-1) for end in arguments[0]))

    def undecided(self, interval: Interval, position: int) -> Tensor:
        """Entries that may be the largest, unless one certainly is."""
        possible = interval.upper > interval.lower.amax(-1, keepdim=True)
        return possible & (possible.sum(-1, keepdim=True) > 1)

    def best(self, interval: Interval) -> Tensor:
        """One-hot (batch, 1, *argument): the entry with the largest middle."""
        place = (interval.lower + interval.upper).argmax(-1, keepdim=True)
        return torch.zeros_like(interval.lower).scatter(-1, place, 1.0).unsqueeze(1)

    def default_slopes(self, *intervals: Interval) -> Slopes:
        lower, upper = intervals[0]
        level = lower.amax(-1, keepdim=True)
        if lower.shape[-1] > 1:
            level = torch.maximum(level, upper.topk(2, -1).values[..., 1:])
        width = upper - lower
        steep = torch.where(width > 0, (upper - level).clamp(min=0) / torch.where(width > 0, width, 1), 0).clamp(max=1)
        return Slopes(self.best(intervals[0]), steep.unsqueeze(1))

    def slope_range(self, *intervals: Interval) -> tuple[Slopes, Slopes]:
        lower, upper = intervals[0]
        possible = (upper >= lower.amax(-1, keepdim=True)).to(lower.dtype).unsqueeze(1)
        zero = torch.zeros_like(possible)
        return Slopes(zero, zero), Slopes(possible, possible)

    def planes(self, interval: Interval, slopes: Slopes | None) -> GroupPlanes:
        weights, steep = self.default_slopes(interval) if slopes is None else slopes
        if slopes is not None:
            weights = weights + SHARE * self.best(interval)
            weights = weights / weights.sum(-1, keepdim=True)
        lower, upper = (end.unsqueeze(1) for end in interval)
        highest = (upper - steep * (upper - lower)).amax(-1)
        return GroupPlanes(weights, torch.zeros_like(weights[..., 0]), steep, highest - (steep * lower).sum(-1))

    def backward(self, rows: Tensor, intervals: tuple[Interval, ...], slopes: Slopes | None) -> Backward:
        return group_backward(rows, self.planes(intervals[0], slopes), intervals[0], self.interval(*intervals))

    def compose(self, forms: tuple[LinearForms, ...], intervals: tuple[Interval, ...]) -> LinearForms:
        return group_compose(forms[0], self.planes(intervals[0], None), intervals[0], self.interval(*intervals))
