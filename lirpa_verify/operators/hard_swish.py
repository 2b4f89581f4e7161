"""The hard swish function."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lirpa_verify.operators.base import Interval
from lirpa_verify.operators.univariate import Univariate, largest, smallest


@dataclass(frozen=True)
class HardSwish(Univariate):
    """``x * min(max(x / 6 + 1/2, 0), 1)``: 0 below -3, a parabola, x above 3 (arXiv:1905.02244)."""

    turning: ClassVar[tuple[float, ...]] = (-1.5,)

    def forward(self, *arguments: Tensor) -> Tensor:
        return arguments[0] * (arguments[0] / 6 + 0.5).clamp(0, 1)

    def derivative(self, x: Tensor) -> Tensor:
        return torch.where(x < -3, 0.0, torch.where(x > 3, 1.0, x / 3 + 0.5))

    def derivative_range(self, interval: Interval) -> Interval:
        """At -3 and 3 the derivative jumps, from 0 to -1/2 and from 3/2 to 1."""
        lower, upper = interval
        ends = [self.derivative(lower), self.derivative(upper)]
        inner = [self.derivative(end.clamp(-3, 3)) for end in interval]
        meets = (upper >= -3) & (lower <= 3)
        low, high = smallest(ends), largest(ends)
        return Interval(
            torch.where(meets, torch.minimum(low, inner[0]), low),
            torch.where(meets, torch.maximum(high, inner[1]), high),
        )

    def stationary(self, slope: Tensor, interval: Interval, below: bool) -> tuple[Tensor, ...]:
        kinks = torch.full_like(interval.lower, -3.0), torch.full_like(interval.lower, 3.0)
        return ((3 * slope - 1.5).clamp(-3, 3),) if below else kinks
