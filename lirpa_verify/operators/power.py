"""Powers with a constant exponent: squares, roots and reciprocals among them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lirpa_verify.operators.base import Interval, Operator
from lirpa_verify.operators.curved import Curved
from lirpa_verify.operators.s_shaped import SShaped


def power(exponent: float) -> Operator:
    """The operator for ``x ** exponent``; exponents 0 and 1 are not nonlinear and have none."""
    if exponent != int(exponent):
        return RealPower(exponent)
    if exponent < 0:
        return NegativePower(int(-exponent))
    return EvenPower(int(exponent)) if exponent % 2 == 0 else OddPower(int(exponent))


@dataclass(frozen=True)
class EvenPower(Curved):
    """``x^n`` with n = 2, 4, ..., convex."""

    turning: ClassVar[tuple[float, ...]] = (0.0,)
    n: int = 2

    def convex(self, interval: Interval) -> bool:
        return True

    def forward(self, *arguments: Tensor) -> Tensor:
        return arguments[0].square() if self.n == 2 else arguments[0] ** self.n

    def derivative(self, x: Tensor) -> Tensor:
        return 2 * x if self.n == 2 else self.n * x ** (self.n - 1)


@dataclass(frozen=True)
class OddPower(SShaped):
    """``x^n`` with n = 3, 5, ..., concave left of 0 and convex right of it."""

    convex_left: ClassVar[bool] = False
    n: int = 3

    def forward(self, *arguments: Tensor) -> Tensor:
        return arguments[0] ** self.n

    def derivative(self, x: Tensor) -> Tensor:
        return self.n * x ** (self.n - 1)

    def inverse_derivative(self, slope: Tensor) -> Tensor:
        root = slope.clamp(min=0) / self.n
        return root.sqrt() if self.n == 3 else root ** (1 / (self.n - 1))


@dataclass(frozen=True)
class NegativePower(Curved):
    """``x^-n`` with n = 1, 2, ...: a pole at 0, falling right of it; unbounded where the interval holds 0."""

    n: int = 1

    def forward(self, *arguments: Tensor) -> Tensor:
        return 1 / arguments[0] if self.n == 1 else arguments[0] ** -self.n

    def derivative(self, x: Tensor) -> Tensor:
        return -self.n * x ** (-self.n - 1)

    def convex(self, interval: Interval) -> bool | Tensor:
        return True if self.n % 2 == 0 else interval.lower > 0

    def regular(self, interval: Interval) -> Tensor:
        return (interval.lower > 0) | (interval.upper < 0)

    def interval(self, *arguments: Interval) -> Interval:
        regular = self.regular(arguments[0])
        values = [self.forward(end) for end in arguments[0]]
        below = 0.0 if self.n % 2 == 0 else -torch.inf
        return Interval(
            torch.where(regular, torch.minimum(*values), below), torch.where(regular, torch.maximum(*values), torch.inf)
        )


@dataclass(frozen=True)
class RealPower(Curved):
    """``x^p`` for x >= 0 with p neither 0 nor 1: concave for p in (0, 1), else convex; falling for p < 0."""

    p: float = 0.5

    def forward(self, *arguments: Tensor) -> Tensor:
        if self.p == 0.5:
            return torch.sqrt(arguments[0])
        return torch.rsqrt(arguments[0]) if self.p == -0.5 else arguments[0] ** self.p

    def tangency(self, point: Tensor) -> Tensor:
        return point.clamp(min=torch.finfo(point.dtype).tiny ** 0.25)

    def derivative(self, x: Tensor) -> Tensor:
        return self.p * x ** (self.p - 1)

    def convex(self, interval: Interval) -> bool:
        return not 0 < self.p < 1

    def domain(self, interval: Interval) -> Interval:
        return Interval(interval.lower.clamp(min=0), interval.upper)

    def rising(self, interval: Interval) -> bool:
        return self.p > 0
