"""Multiplication with a constant matrix: the last dimension of the node times a weight, plus a bias."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from lirpa_verify.operators.base import Linear
from lirpa_verify.operators.transforms import holds


@dataclass(frozen=True)
class Dense(Linear):
    """``y = x @ weight + bias`` over the last dimension of x."""

    weight: Tensor  # (inputs, outputs), or with leading dimensions for a batched product
    bias: Tensor | None = None  # broadcastable to (*node)

    @property
    def rounded_terms(self) -> int:
        return self.weight.shape[-2] + 1

    @cached_property
    def one_signed(self) -> tuple[Tensor, Tensor] | None:
        return columns_of_one_sign(self.weight)

    def forward(self, *arguments: Tensor) -> Tensor:
        y = self.linear(*arguments)
        return y if self.bias is None else y + self.bias

    def linear(self, *arguments: Tensor) -> Tensor:
        return arguments[0] @ self.weight

    def constant(self) -> Tensor | None:
        return self.bias

    def absolute(self, *arguments: Tensor) -> Tensor:
        return arguments[0] @ self.weight.abs()

    def transpose(self, rows: Tensor) -> tuple[Tensor, ...]:
        return (rows @ self.weight.mT,)


def columns_of_one_sign(weight: Tensor) -> tuple[Tensor, Tensor] | None:
    """Which columns of ``(..., inputs, outputs)`` have no negative and no positive entries: (..., 1, outputs)."""
    positive, negative = (weight >= 0).all(-2, keepdim=True), (weight <= 0).all(-2, keepdim=True)
    return (positive, negative) if holds((positive | negative).any()) else None
