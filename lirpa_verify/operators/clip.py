"""Clipping to an interval (hard tanh, ReLU6), and the shrinking functions."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from lirpa_verify.operators.piecewise import PiecewiseLinear


@dataclass(frozen=True)
class Clip(PiecewiseLinear):
    """``min(max(x, low), high)``; both lines may be tilted about the corners they pass through."""

    low: float
    high: float

    @property
    def breakpoints(self) -> tuple[float, ...]:
        return (self.low, self.high)

    @property
    def rounded_terms(self) -> int:
        return 0

    @property
    def pieces(self) -> tuple[float, ...]:
        return (0.0, 1.0, 0.0)

    def forward(self, *arguments: Tensor) -> Tensor:
        return arguments[0].clamp(self.low, self.high)


@dataclass(frozen=True)
class SoftShrink(PiecewiseLinear):
    """``x - limit`` above the limit, ``x + limit`` below minus the limit, 0 between."""

    limit: float

    @property
    def breakpoints(self) -> tuple[float, ...]:
        return (-self.limit, self.limit)

    @property
    def pieces(self) -> tuple[float, ...]:
        return (1.0, 0.0, 1.0)

    def forward(self, *arguments: Tensor) -> Tensor:
        return arguments[0] - arguments[0].clamp(-self.limit, self.limit)
