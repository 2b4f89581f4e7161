"""Exponential linear units: ELU, SELU and CELU."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lirpa_verify.operators.base import Interval
from lirpa_verify.operators.univariate import Univariate


@dataclass(frozen=True)
class ELU(Univariate):
    """``scale * x`` for x > 0 and ``height * (exp(rate * x) - 1)`` elsewhere; all positive.

    Where ``height * rate`` exceeds `scale` the kink at 0 is concave (SELU).
    """

    height: float
    scale: float
    rate: float

    def forward(self, *arguments: Tensor) -> Tensor:
        x = arguments[0]
        return self.scale * x.clamp(min=0) + self.height * torch.expm1(self.rate * x.clamp(max=0))

    def derivative(self, x: Tensor) -> Tensor:
        curved = self.height * self.rate * torch.exp(self.rate * x.clamp(max=0))
        return torch.where(x > 0, self.scale, curved)

    def derivative_range(self, interval: Interval) -> Interval:
        low, high = super().derivative_range(interval)
        crossing = (interval.lower < 0) & (interval.upper > 0)
        kink = self.height * self.rate  # the derivative left of 0
        return Interval(
            torch.where(crossing, low.clamp(max=kink), low), torch.where(crossing, high.clamp(min=kink), high)
        )

    def stationary(self, slope: Tensor, interval: Interval, below: bool) -> tuple[Tensor, ...]:
        kink = torch.zeros_like(interval.lower)
        if not below:
            return (kink,)
        ratio = slope / (self.height * self.rate)
        return kink, torch.log(ratio.clamp(4 * torch.finfo(slope.dtype).tiny, 1)) / self.rate
