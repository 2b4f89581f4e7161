"""One affine map of several vectors taken together, which may itself come from rounded computations."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from lirpa_verify.operators.base import Interval, Linear
from lirpa_verify.operators.dense import columns_of_one_sign


@dataclass(frozen=True)
class JointDense(Linear):
    """``y = sum(x_k @ weight[part k]) + bias`` of vectors ``(size k,)``, up to an error of its coefficients.

    `terms` is the size of the terms that were added up to find one entry's coefficients, on the box where
    it is used: an entry differs by less than a small multiple of the unit roundoff times it from the exact map.
    """

    weight: Tensor  # (sum of the sizes, outputs)
    bias: Tensor  # (outputs,)
    terms: Tensor  # (outputs,)
    parts: tuple[int, ...]  # sizes of the arguments

    @cached_property
    def one_signed(self) -> tuple[Tensor, Tensor] | None:
        return columns_of_one_sign(self.weight)

    def forward(self, *arguments: Tensor) -> Tensor:
        return self.linear(*arguments) + self.bias

    def linear(self, *arguments: Tensor) -> Tensor:
        return joined(arguments) @ self.weight

    def constant(self) -> Tensor:
        return self.bias

    def absolute(self, *arguments: Tensor) -> Tensor:
        return joined(arguments) @ self.weight.abs()

    def term_sizes(self, *arguments: Tensor) -> Tensor:
        return super().term_sizes(*arguments) + self.terms

    def interval(self, *arguments: Interval) -> Interval:
        lower, upper = super().interval(*arguments)
        pad = self.terms * (64 * torch.finfo(lower.dtype).eps) * sum(self.parts)
        return Interval(lower - pad, upper + pad)

    def transpose(self, rows: Tensor) -> tuple[Tensor, ...]:
        return (rows @ self.weight.mT).split(self.parts, dim=-1)


def joined(arguments: tuple[Tensor, ...]) -> Tensor:
    """(batch, sum of the sizes); what does not depend on the batch is repeated."""
    batch = max(a.shape[0] for a in arguments)
    return torch.cat([a.expand(batch, -1) for a in arguments], dim=1)
