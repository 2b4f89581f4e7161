"""The hyperbolic tangent."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lirpa_verify.operators.base import Interval
from lirpa_verify.operators.sigmoid import falling_from_zero
from lirpa_verify.operators.univariate import Univariate


@dataclass(frozen=True)
class Tanh(Univariate):
    """``tanh(x)``; the derivative is 1 - tanh(x)^2, falling in |x|."""

    def forward(self, *arguments: Tensor) -> Tensor:
        return torch.tanh(arguments[0])

    def stationary(self, slope: Tensor) -> tuple[Tensor, ...]:
        slope = slope.clamp(torch.finfo(slope.dtype).tiny, 1)
        # artanh(t) = log((1 + t) / (1 - t)) / 2 with 1 - t^2 = slope, without cancellation
        x = torch.log1p((1 - slope).sqrt()) - torch.log(slope) / 2
        return x, -x

    def derivative_range(self, interval: Interval) -> Interval:
        return falling_from_zero(interval, lambda x: 1 / torch.cosh(x.clamp(-300, 300)) ** 2)
