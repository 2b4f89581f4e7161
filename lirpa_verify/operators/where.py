"""A choice between two values by a condition that may vary."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lirpa_verify.operators.base import Backward, Interval, LinearForms, Operator, Slopes
from lirpa_verify.operators.planes import Planes, planes_backward, planes_compose
from lirpa_verify.operators.transforms import holds


@dataclass(frozen=True)
class Where(Operator):
    """``a`` where the condition (0 or 1) holds, ``b`` elsewhere; exact where it is decided."""

    @property
    def bounded(self) -> bool:
        return True

    @property
    def rounded_terms(self) -> int:
        return 0

    def forward(self, *arguments: Tensor) -> Tensor:
        condition, a, b = arguments
        return torch.where(condition != 0, a, b)

    def interval(self, *arguments: Interval) -> Interval:
        condition, a, b = arguments
        yes, no = decided(condition)
        lower = torch.where(yes, a.lower, torch.where(no, b.lower, torch.minimum(a.lower, b.lower)))
        upper = torch.where(yes, a.upper, torch.where(no, b.upper, torch.maximum(a.upper, b.upper)))
        return Interval(lower, upper)

    def undecided(self, interval: Interval, position: int) -> Tensor:
        if position == 0:
            yes, no = decided(interval)
            return ~(yes | no)
        return interval.upper > interval.lower

    def planes(self, intervals: tuple[Interval, ...]) -> Planes:
        low, high = (end.unsqueeze(1) for end in self.interval(*intervals))
        yes, no = (mask.unsqueeze(1) for mask in decided(intervals[0]))
        slopes = torch.zeros_like(low), yes.to(low.dtype).expand_as(low), no.to(low.dtype).expand_as(low)
        known = yes | no
        planes = Planes(slopes, torch.where(known, 0, low), slopes, torch.where(known, 0, high))
        unbounded = torch.isinf(planes.lower_offset).any() | torch.isinf(planes.upper_offset).any()
        return planes._replace(finite=False) if holds(unbounded) else planes

    def backward(self, rows: Tensor, intervals: tuple[Interval, ...], slopes: Slopes | None) -> Backward:
        result = planes_backward(rows, self.planes(intervals))
        return Backward((None, *result.coefficients[1:]), result.offset)  # no plane leans on the condition

    def compose(self, forms: tuple[LinearForms, ...], intervals: tuple[Interval, ...]) -> LinearForms:
        return planes_compose(forms, self.planes(intervals))


def decided(condition: Interval) -> tuple[Tensor, Tensor]:
    """Where a condition, which is 0 or 1, certainly holds and where it certainly does not."""
    return condition.lower > 0, condition.upper < 1
