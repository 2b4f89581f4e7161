"""The logistic function."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lirpa_verify.operators.base import Interval
from lirpa_verify.operators.univariate import Univariate


@dataclass(frozen=True)
class Sigmoid(Univariate):
    """``1 / (1 + exp(-x))``; with s = f(x) the derivative is s (1 - s), at most 1/4 and falling in |x|."""

    def forward(self, *arguments: Tensor) -> Tensor:
        return torch.sigmoid(arguments[0])

    def stationary(self, slope: Tensor) -> tuple[Tensor, ...]:
        slope = slope.clamp(torch.finfo(slope.dtype).tiny, 0.25)
        s = 0.5 + (0.25 - slope).sqrt()  # and 1 - s = slope / s, without cancellation
        x = 2 * torch.log(s) - torch.log(slope)
        return x, -x

    def derivative_range(self, interval: Interval) -> Interval:
        return falling_from_zero(interval, lambda x: torch.sigmoid(x) * torch.sigmoid(-x))


def falling_from_zero(interval: Interval, derivative) -> Interval:  # type: ignore[no-untyped-def]
    """Range over an interval of an even function that falls with |x|."""
    lower, upper = interval
    nearest = torch.where((lower <= 0) & (upper >= 0), 0, torch.minimum(lower.abs(), upper.abs()))
    return Interval(derivative(torch.maximum(lower.abs(), upper.abs())), derivative(nearest))
