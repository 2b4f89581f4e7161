"""Multiplication with a constant matrix that is mostly zero, stored by its nonzero entries."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

from torch import Tensor

from lirpa_verify.operators.base import Linear


@dataclass(frozen=True)
class SparseDense(Linear):
    """``y = x @ weight + bias`` over the last dimension of x, like `Dense`."""

    weight: Tensor  # (inputs, outputs), compressed sparse rows
    turned: Tensor  # its transpose, (outputs, inputs)
    magnitude: Tensor  # absolute values of `turned`
    bias: Tensor | None = None  # broadcastable to (*node)

    @staticmethod
    def of(weight: Tensor, bias: Tensor | None) -> SparseDense:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyTorch calls its compressed formats a beta feature
            turned = weight.T.contiguous().to_sparse_csr()
            return SparseDense(weight.to_sparse_csr(), turned, weight.T.abs().contiguous().to_sparse_csr(), bias)

    def forward(self, *arguments: Tensor) -> Tensor:
        y = self.linear(*arguments)
        return y if self.bias is None else y + self.bias

    def linear(self, *arguments: Tensor) -> Tensor:
        return product(arguments[0], self.turned)

    def absolute(self, *arguments: Tensor) -> Tensor:
        return product(arguments[0], self.magnitude)

    def constant(self) -> Tensor | None:
        return self.bias

    def transpose(self, rows: Tensor) -> tuple[Tensor, ...]:
        return (product(rows, self.weight),)


def product(x: Tensor, matrix: Tensor) -> Tensor:
    """``x @ matrix.T`` over the last dimension of x, for a sparse ``(outputs, inputs)`` matrix."""
    flat = x.reshape(-1, x.shape[-1])
    return (matrix @ flat.T).T.reshape(*x.shape[:-1], matrix.shape[0])


