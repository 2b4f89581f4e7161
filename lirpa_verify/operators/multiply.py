"""The product of two values (McCormick's planes; mixing them as in Shi et al., arXiv:2002.06622)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lirpa_verify.operators.base import Backward, Interval, LinearForms, Operator, Slopes
from lirpa_verify.operators.planes import Planes, planes_backward, planes_compose, repaired
from lirpa_verify.operators.univariate import largest, smallest


@dataclass(frozen=True)
class Multiply(Operator):
    """``x * y`` entry by entry, both of the node's shape.

    Two planes below (through the lower ends and through the upper ends of both factors) and two above
    are tight at corners; every mix of the two holds, and how much of the first is the free parameter.
    """

    @property
    def bounded(self) -> bool:
        return True

    @property
    def rounded_terms(self) -> int:
        return 1

    def forward(self, *arguments: Tensor) -> Tensor:
        return arguments[0] * arguments[1]

    def interval(self, *arguments: Interval) -> Interval:
        corners = [corner_product(x, y) for x in arguments[0] for y in arguments[1]]
        return Interval(smallest(corners), largest(corners))

    def default_slopes(self, *intervals: Interval) -> Slopes:
        like = torch.maximum(intervals[0].lower, intervals[1].lower)  # batch dimensions may differ
        half = torch.full_like(like, 0.5).unsqueeze(1)
        return Slopes(half, half)

    def slope_range(self, *intervals: Interval) -> tuple[Slopes, Slopes]:
        half, _ = self.default_slopes(*intervals)
        zero, one = torch.zeros_like(half), torch.ones_like(half)
        return Slopes(zero, zero), Slopes(one, one)

    def planes(self, intervals: tuple[Interval, ...], slopes: Slopes | None) -> Planes:
        (lx, ux), (ly, uy) = ((i.lower.unsqueeze(1), i.upper.unsqueeze(1)) for i in intervals)
        low, high = self.default_slopes(*intervals) if slopes is None else slopes
        mix = torch.lerp
        planes = Planes(
            (mix(uy, ly, low), mix(ux, lx, low)), -mix(ux * uy, lx * ly, low),
            (mix(ly, uy, high), mix(ux, lx, high)), -mix(ux * ly, lx * uy, high),
        )  # fmt: skip
        return repaired(planes, intervals, self.interval(*intervals))

    def backward(self, rows: Tensor, intervals: tuple[Interval, ...], slopes: Slopes | None) -> Backward:
        return planes_backward(rows, self.planes(intervals, slopes))

    def compose(self, forms: tuple[LinearForms, ...], intervals: tuple[Interval, ...]) -> LinearForms:
        return planes_compose(forms, self.planes(intervals, None))


def corner_product(x: Tensor, y: Tensor) -> Tensor:
    """x * y, where 0 times an infinite end is 0: the limit of 0 times finite values."""
    return torch.nan_to_num(x * y, nan=0.0, posinf=torch.inf, neginf=-torch.inf)
