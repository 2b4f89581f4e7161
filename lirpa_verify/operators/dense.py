"""Multiplication with a constant matrix: the last dimension of the node times a weight, plus a bias."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from lirpa_verify.operators.base import Linear


@dataclass(frozen=True)
class Dense(Linear):
    """``y = x @ weight + bias`` over the last dimension of x."""

    weight: Tensor  # (inputs, outputs), or with leading dimensions for a batched product
    bias: Tensor | None = None  # broadcastable to (*node)

    @property
    def rounded_terms(self) -> int:
        return self.weight.shape[-2] + 1

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
