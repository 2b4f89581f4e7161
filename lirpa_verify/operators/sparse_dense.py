"""Multiplication with a constant matrix that is mostly zero, stored by its nonzero entries."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from lirpa_verify.operators.base import Linear

SPARSE_SIZE, SPARSE_DENSITY = 2**15, 0.05  # from when on a matrix product by nonzero entries is faster


@dataclass(frozen=True)
class SparseDense(Linear):
    """``y = x @ weight + bias`` over the last dimension of x, like `Dense`."""

    weight: Tensor  # (inputs, outputs), compressed sparse rows
    turned: Tensor  # its transpose, (outputs, inputs)
    magnitude: Tensor  # absolute values of `turned`
    bias: Tensor | None = None  # broadcastable to (*node)

    @staticmethod
    def of(weight: Tensor, bias: Tensor | None) -> SparseDense:
        row, column = weight.nonzero(as_tuple=True)  # row by row
        values = weight[row, column]
        order = torch.argsort(column, stable=True)
        turned = column[order], row[order], values[order], (weight.shape[1], weight.shape[0])
        magnitude = compressed(turned[0], turned[1], turned[2].abs(), turned[3])
        return SparseDense(compressed(row, column, values, tuple(weight.shape)), compressed(*turned), magnitude, bias)

    @cached_property
    def one_signed(self) -> tuple[Tensor, Tensor] | None:
        start, values = self.turned.crow_indices(), self.turned.values()
        masks = []
        for wrong in (values < 0, values > 0):
            before = torch.cat([start.new_zeros(1), wrong.cumsum(0)])  # how many there are before an entry
            masks.append(before[start[1:]] == before[start[:-1]])
        return (masks[0], masks[1]) if bool((masks[0] | masks[1]).any()) else None

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


def compressed(row: Tensor, column: Tensor, values: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The compressed sparse rows of a matrix given by its nonzero entries, sorted by row."""
    start = torch.zeros(shape[0] + 1, dtype=torch.int64, device=row.device)
    torch.cumsum(torch.bincount(row, minlength=shape[0]), 0, out=start[1:])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch calls its compressed formats a beta feature
        return torch.sparse_csr_tensor(start, column, values, shape)


def product(x: Tensor, matrix: Tensor) -> Tensor:
    """``x @ matrix.T`` over the last dimension of x, for a sparse ``(outputs, inputs)`` matrix."""
    flat = x.reshape(-1, x.shape[-1])
    return (matrix @ flat.T).T.reshape(*x.shape[:-1], matrix.shape[0])
