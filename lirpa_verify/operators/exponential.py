"""The exponential function, its running sum (softplus), and the natural logarithm."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lirpa_verify.operators.base import Interval
from lirpa_verify.operators.curved import Curved


@dataclass(frozen=True)
class Exponential(Curved):
    """``exp(x)``, convex."""

    def convex(self, interval: Interval) -> bool:
        return True

    def forward(self, *arguments: Tensor) -> Tensor:
        return torch.exp(arguments[0])

    def derivative(self, x: Tensor) -> Tensor:
        return torch.exp(x)


@dataclass(frozen=True)
class Softplus(Curved):
    """``log(1 + exp(x))``, convex, with the logistic function as derivative."""

    def convex(self, interval: Interval) -> bool:
        return True

    def forward(self, *arguments: Tensor) -> Tensor:
        x = arguments[0]
        return x.clamp(min=0) + torch.log1p(torch.exp(-x.abs()))

    def derivative(self, x: Tensor) -> Tensor:
        return torch.sigmoid(x)


@dataclass(frozen=True)
class Logarithm(Curved):
    """``log(x)`` for x > 0, concave; unbounded below where the interval reaches 0."""

    def convex(self, interval: Interval) -> bool:
        return False

    def forward(self, *arguments: Tensor) -> Tensor:
        return torch.log(arguments[0])

    def domain(self, interval: Interval) -> Interval:
        return Interval(interval.lower.clamp(min=0), interval.upper)

    def tangency(self, point: Tensor) -> Tensor:
        return point.clamp(min=torch.finfo(point.dtype).tiny ** 0.25)

    def derivative(self, x: Tensor) -> Tensor:
        return 1 / x
