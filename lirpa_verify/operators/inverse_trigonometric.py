"""Arc tangent and arc sine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lirpa_verify.operators.base import Interval
from lirpa_verify.operators.s_shaped import SShaped


@dataclass(frozen=True)
class Arctangent(SShaped):
    """``atan(x)`` with derivative 1 / (1 + x^2)."""

    def forward(self, *arguments: Tensor) -> Tensor:
        return torch.atan(arguments[0])

    def derivative(self, x: Tensor) -> Tensor:
        return 1 / (1 + x * x)

    def inverse_derivative(self, slope: Tensor) -> Tensor:
        slope = slope.clamp(4 * torch.finfo(slope.dtype).tiny, 1)
        return ((1 - slope) / slope).sqrt()


@dataclass(frozen=True)
class Arcsine(SShaped):
    """``asin(x)`` on [-1, 1] with derivative 1 / sqrt(1 - x^2), which grows with |x|."""

    convex_left: ClassVar[bool] = False

    def forward(self, *arguments: Tensor) -> Tensor:
        return torch.asin(arguments[0])

    def domain(self, interval: Interval) -> Interval:
        return Interval(interval.lower.clamp(min=-1), interval.upper.clamp(max=1))

    def derivative(self, x: Tensor) -> Tensor:
        edge = 16 * torch.finfo(x.dtype).eps  # keeps the range of slopes finite
        return (1 - x * x).clamp(min=edge).rsqrt()

    def inverse_derivative(self, slope: Tensor) -> Tensor:
        return (1 - 1 / slope.clamp(min=1).square()).sqrt()
