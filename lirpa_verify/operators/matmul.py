"""The product of two matrices that both vary.

Every scalar product is a sum of products, each between the same planes as in `multiply.py`. The mix
is shared by all products that one entry of the left matrix takes part in; then all sums over the
planes are matrix products themselves, and nothing of size (i, k, j) is formed.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lirpa_verify.operators.base import Backward, Interval, LinearForms, Operator, Slopes, all_finite, flat
from lirpa_verify.operators.discrete import constant_backward
from lirpa_verify.operators.multiply import corner_product

CHUNK = 2**22  # entries of the (batch, i, k, j) products in interval arithmetic at once


@dataclass(frozen=True)
class MatMul(Operator):
    """``x @ y`` of nodes ``(..., i, k)`` and ``(..., k, j)`` with equal leading dimensions."""

    @property
    def bounded(self) -> bool:
        return True

    @property
    def adds_up(self) -> bool:
        return True

    def forward(self, *arguments: Tensor) -> Tensor:
        return arguments[0] @ arguments[1]

    def interval(self, *arguments: Interval) -> Interval:
        x, y = arguments
        rows = x.lower.shape[-2]
        per_row = x.lower[..., :1, :].numel() * y.lower.shape[-1] * max(1, y.lower.shape[0] // x.lower.shape[0])
        step = max(1, CHUNK // max(1, per_row))
        lower, upper = [], []
        for start in range(0, rows, step):
            ends = [end[..., start : start + step, :].unsqueeze(-1) for end in x]  # (batch, ..., i, k, 1)
            corners = [corner_product(a, b.unsqueeze(-3)) for a in ends for b in y]
            low, high = torch.minimum(corners[0], corners[1]), torch.maximum(corners[0], corners[1])
            for corner in corners[2:]:
                low, high = torch.minimum(low, corner), torch.maximum(high, corner)
            lower.append(low.sum(-2))
            upper.append(high.sum(-2))
        return Interval(torch.cat(lower, -2), torch.cat(upper, -2))

    def default_slopes(self, *intervals: Interval) -> Slopes:
        half = torch.full_like(intervals[0].lower, 0.5).unsqueeze(1)
        return Slopes(half, half)

    def slope_range(self, *intervals: Interval) -> tuple[Slopes, Slopes]:
        half, _ = self.default_slopes(*intervals)
        zero, one = torch.zeros_like(half), torch.ones_like(half)
        return Slopes(zero, zero), Slopes(one, one)

    def backward(self, rows: Tensor, intervals: tuple[Interval, ...], slopes: Slopes | None) -> Backward:
        if not all_finite((*intervals[0], *intervals[1]), otherwise=True):
            return constant_backward(rows, self.interval(*intervals), len(intervals))
        (lx, ux), (ly, uy) = ((i.lower.unsqueeze(1), i.upper.unsqueeze(1)) for i in intervals)
        low, high = self.default_slopes(*intervals) if slopes is None else slopes
        negative = rows.clamp(max=0)
        positive = rows - negative
        # Below: mix (ly, lx) with (uy, ux); above: (uy, lx) with (ly, ux). Sums over j first:
        below, above = (positive @ ly.mT, positive @ uy.mT), (negative @ uy.mT, negative @ ly.mT)
        left = torch.lerp(below[1], below[0], low) + torch.lerp(above[1], above[0], high)
        right = torch.lerp(ux, lx, low).mT @ positive + torch.lerp(ux, lx, high).mT @ negative
        offset = torch.lerp(ux * below[1], lx * below[0], low) + torch.lerp(ux * above[1], lx * above[0], high)
        return Backward((left, right), -flat(offset).sum(2))

    def compose(self, forms: tuple[LinearForms, ...], intervals: tuple[Interval, ...]) -> LinearForms:
        """With equal mixes the slopes are the middles of the factors."""
        (lx, ux), (ly, uy) = intervals
        x, y = forms
        slope_x, slope_y = (ly + uy) / 2, (lx + ux) / 2

        def through(side: int, extra: int, dimension: tuple[int, ...]) -> Tensor:
            """The weights (extra 0) or offsets (extra 1) that bound below (side 0) or above (side 2)."""
            sx, sy = (s.reshape(s.shape[0], *dimension, *s.shape[1:]) for s in (slope_x, slope_y))
            left = x[side + extra] @ sx.clamp(min=0) + x[2 - side + extra] @ sx.clamp(max=0)
            return left + sy.clamp(min=0) @ y[side + extra] + sy.clamp(max=0) @ y[2 - side + extra]

        lower, upper = -(lx @ ly + ux @ uy) / 2, -(lx @ uy + ux @ ly) / 2
        return LinearForms(
            through(0, 0, (1,)), through(0, 1, ()) + lower, through(2, 0, (1,)), through(2, 1, ()) + upper
        )
