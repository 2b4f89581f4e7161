"""The absolute value."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lirpa_verify.operators.base import Interval
from lirpa_verify.operators.piecewise import PiecewiseLinear


@dataclass(frozen=True)
class Absolute(PiecewiseLinear):
    """``|x|``; the line below has a free slope in [-1, 1]."""

    @property
    def breakpoints(self) -> tuple[float, ...]:
        return (0.0,)

    @property
    def rounded_terms(self) -> int:
        return 0

    @property
    def pieces(self) -> tuple[float, ...]:
        return (-1.0, 1.0)

    def forward(self, *arguments: Tensor) -> Tensor:
        return arguments[0].abs()

    def least_area_slope(self, interval: Interval, below: bool) -> Tensor:
        lower, upper = interval
        tangent = torch.where(lower + upper > 0, 1.0, -1.0).to(lower.dtype)
        return tangent if below else self.chord_slope(lower, upper, tangent)
