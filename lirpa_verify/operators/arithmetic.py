"""Element-wise linear arithmetic: scaling and shifting by constants, sums and differences of nodes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lirpa_verify.operators.base import Interval, Linear


@dataclass(frozen=True)
class Scale(Linear):
    """``y = x * factor + shift`` with constants of the node's shape (or broadcastable to it)."""

    factor: Tensor | None
    shift: Tensor | None = None

    @property
    def exact_image(self) -> bool:
        return True

    @property
    def around_middle(self) -> bool:
        return False

    @property
    def rounded_terms(self) -> int:
        return 2

    def linear(self, *arguments: Tensor) -> Tensor:
        return arguments[0] if self.factor is None else arguments[0] * self.factor

    def forward(self, *arguments: Tensor) -> Tensor:
        y = self.linear(*arguments)
        return y if self.shift is None else y + self.shift

    def absolute(self, *arguments: Tensor) -> Tensor:
        return arguments[0] if self.factor is None else arguments[0] * self.factor.abs()

    def interval(self, *arguments: Interval) -> Interval:
        """End by end: with a middle and a radius a small end would drown in the rounding of a large one."""
        ends = self.linear(arguments[0].lower), self.linear(arguments[0].upper)
        lower, upper = ends if self.factor is None else (torch.minimum(*ends), torch.maximum(*ends))
        return Interval(lower, upper) if self.shift is None else Interval(lower + self.shift, upper + self.shift)

    def constant(self) -> Tensor | None:
        return self.shift

    def transpose(self, rows: Tensor) -> tuple[Tensor, ...]:
        return (rows if self.factor is None else rows * self.factor,)


@dataclass(frozen=True)
class Combine(Linear):
    """``y = sum(weight_i * x_i)`` of nodes of one shape; addition is (1, 1), subtraction (1, -1)."""

    weights: tuple[float, ...]

    @property
    def around_middle(self) -> bool:
        return False

    @property
    def rounded_terms(self) -> int:
        return len(self.weights)

    def forward(self, *arguments: Tensor) -> Tensor:
        return weighted_sum(arguments, self.weights)

    def absolute(self, *arguments: Tensor) -> Tensor:
        return weighted_sum(arguments, tuple(abs(w) for w in self.weights))

    def interval(self, *arguments: Interval) -> Interval:
        below = tuple(a.lower if w >= 0 else a.upper for a, w in zip(arguments, self.weights, strict=True))
        above = tuple(a.upper if w >= 0 else a.lower for a, w in zip(arguments, self.weights, strict=True))
        return Interval(self.forward(*below), self.forward(*above))

    def transpose(self, rows: Tensor) -> tuple[Tensor, ...]:
        return tuple(rows if w == 1 else rows * w for w in self.weights)


def weighted_sum(arguments: tuple[Tensor, ...], weights: tuple[float, ...]) -> Tensor:
    total = arguments[0] * weights[0] if weights[0] != 1 else arguments[0]
    for argument, weight in zip(arguments[1:], weights[1:], strict=True):
        total = total.add(argument, alpha=weight)
    return total
