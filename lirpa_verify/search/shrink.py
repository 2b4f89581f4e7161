"""Cutting away the part of a box where a violation is impossible (as in Clip-and-Verify, Zhou et al., NeurIPS 2025).

A violation in the box satisfies ``weight . x + offset <= 0`` for every row of some disjunct that is
not closed. Each such half-space bounds each coordinate, given the best the others can do. The box
that is left is the hull over the disjuncts.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lirpa_verify.bounds.rounding import RELATIVE
from lirpa_verify.operators.base import Interval

PASSES = 2


def shrink(box: Interval, weight: Tensor, offset: Tensor, open_disjuncts: Tensor) -> Interval:
    """The smallest box found that keeps every possible violation.

    Args:
        box: ``(batch, inputs)`` ends.
        weight: ``(batch, disjuncts, rows, inputs)``.
        offset: ``(batch, disjuncts, rows)``, +inf never; -inf for a row that says nothing.
        open_disjuncts: ``(batch, disjuncts)`` bool; others constrain nothing and keep nothing.

    Returns:
        Ends with lower > upper in some input where no disjunct leaves anything.
    """
    lower = box.lower[:, None].expand(-1, weight.shape[1], -1)  # (batch, disjuncts, inputs)
    upper = box.upper[:, None].expand_as(lower)
    least, slack, _ = minima(lower, upper, weight, offset)
    for _ in range(PASSES):
        lower, upper = cut(lower, upper, weight, offset)
    # A row that hardly depends on the inputs may be positive without bounding any of them.
    shut = (~open_disjuncts | (lower > upper).any(2) | (least.sum(3) + offset > slack).any(2)).unsqueeze(2)
    low = lower.masked_fill(shut, torch.inf).amin(1)
    high = upper.masked_fill(shut, -torch.inf).amax(1)
    return Interval(low, high)


def minima(lower: Tensor, upper: Tensor, weight: Tensor, offset: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The terms of the rows' minima without the offset (batch, disjuncts, rows, inputs), their rounding, their size."""
    low, high = lower.unsqueeze(2), upper.unsqueeze(2)  # (batch, disjuncts, 1, inputs)
    magnitude = (weight.abs() * torch.maximum(low.abs(), high.abs())).sum(3) + offset.abs()
    return torch.minimum(weight * low, weight * high), RELATIVE[weight.dtype] * (magnitude + 1e-3), magnitude


def cut(lower: Tensor, upper: Tensor, weight: Tensor, offset: Tensor) -> tuple[Tensor, Tensor]:
    """One pass: every coordinate against every row. Ends move inward only, padded outward for rounding."""
    least, slack, magnitude = minima(lower, upper, weight, offset)
    total = least.sum(3, keepdim=True) + offset.unsqueeze(3)
    limit = (slack.unsqueeze(3) - (total - least)) / weight  # where weight > 0: x <= limit
    usable = weight.abs() > 1e-12 * magnitude.unsqueeze(3)
    limit_up = torch.where(usable & (weight > 0), limit, torch.inf).amin(2)
    limit_down = torch.where(usable & (weight < 0), limit, -torch.inf).amax(2)
    pad = RELATIVE[weight.dtype] * torch.maximum(lower.abs(), upper.abs())
    return torch.fmax(lower, limit_down - pad), torch.fmin(upper, limit_up + pad)
