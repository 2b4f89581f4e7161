"""Values that are known up to a radius: what was computed once, with its rounding errors."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lirpa_verify.operators.base import Backward, Interval, LinearForms, Operator, Slopes, pair


@dataclass(frozen=True)
class Uncertain(Operator):
    """Anything that is at most `radius` away from the argument; the argument itself where it is evaluated."""

    radius: Tensor  # (*node), at least 0

    @property
    def bounded(self) -> bool:
        return True

    @property
    def rounded_terms(self) -> int:
        return 2

    @property
    def settled(self) -> bool:
        return True

    def undecided(self, interval: Interval, position: int) -> Tensor:
        return torch.zeros_like(interval.lower, dtype=torch.bool)

    def forward(self, *arguments: Tensor) -> Tensor:
        return arguments[0]

    def interval(self, *arguments: Interval) -> Interval:
        return Interval(arguments[0].lower - self.radius, arguments[0].upper + self.radius)

    def backward(self, rows: Tensor, intervals: tuple[Interval, ...], slopes: Slopes | None) -> Backward:
        return Backward((rows,), -pair(rows.abs(), self.radius))

    def compose(self, forms: tuple[LinearForms, ...], intervals: tuple[Interval, ...]) -> LinearForms:
        form = forms[0]
        return form._replace(lower_offset=form.lower_offset - self.radius, upper_offset=form.upper_offset + self.radius)
