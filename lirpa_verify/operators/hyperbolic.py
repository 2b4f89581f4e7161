"""Hyperbolic functions but for tanh, and their inverses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lirpa_verify.operators.base import Interval
from lirpa_verify.operators.curved import Curved
from lirpa_verify.operators.s_shaped import SShaped


@dataclass(frozen=True)
class HyperbolicSine(SShaped):
    """``sinh(x)`` with derivative cosh(x)."""

    convex_left: ClassVar[bool] = False

    def forward(self, *arguments: Tensor) -> Tensor:
        return torch.sinh(arguments[0])

    def derivative(self, x: Tensor) -> Tensor:
        return torch.cosh(x)

    def inverse_derivative(self, slope: Tensor) -> Tensor:
        return torch.acosh(slope.clamp(min=1))


@dataclass(frozen=True)
class HyperbolicCosine(Curved):
    """``cosh(x)``, convex."""

    turning: ClassVar[tuple[float, ...]] = (0.0,)

    def convex(self, interval: Interval) -> bool:
        return True

    def forward(self, *arguments: Tensor) -> Tensor:
        return torch.cosh(arguments[0])

    def derivative(self, x: Tensor) -> Tensor:
        return torch.sinh(x)


@dataclass(frozen=True)
class InverseHyperbolicSine(SShaped):
    """``asinh(x)`` with derivative 1 / sqrt(1 + x^2)."""

    def forward(self, *arguments: Tensor) -> Tensor:
        return torch.asinh(arguments[0])

    def derivative(self, x: Tensor) -> Tensor:
        return 1 / torch.hypot(x, torch.ones_like(x))

    def inverse_derivative(self, slope: Tensor) -> Tensor:
        slope = slope.clamp(4 * torch.finfo(slope.dtype).tiny, 1)
        return ((1 - slope) * (1 + slope)).sqrt() / slope  # the slope's square may be 0


@dataclass(frozen=True)
class InverseHyperbolicCosine(Curved):
    """``acosh(x)`` for x >= 1, concave."""

    def convex(self, interval: Interval) -> bool:
        return False

    def forward(self, *arguments: Tensor) -> Tensor:
        return torch.acosh(arguments[0])

    def domain(self, interval: Interval) -> Interval:
        return Interval(interval.lower.clamp(min=1), interval.upper)

    def tangency(self, point: Tensor) -> Tensor:
        return point.clamp(min=1 + 1e3 * torch.finfo(point.dtype).eps)

    def derivative(self, x: Tensor) -> Tensor:
        return (x * x - 1).rsqrt()


@dataclass(frozen=True)
class InverseHyperbolicTangent(SShaped):
    """``atanh(x)`` on (-1, 1) with derivative 1 / (1 - x^2)."""

    convex_left: ClassVar[bool] = False

    def forward(self, *arguments: Tensor) -> Tensor:
        return torch.atanh(arguments[0])

    def domain(self, interval: Interval) -> Interval:
        return Interval(interval.lower.clamp(min=-1), interval.upper.clamp(max=1))

    def derivative(self, x: Tensor) -> Tensor:
        return 1 / (1 - x * x)

    def inverse_derivative(self, slope: Tensor) -> Tensor:
        return (1 - 1 / slope.clamp(min=1)).sqrt()
