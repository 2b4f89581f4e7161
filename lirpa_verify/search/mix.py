"""Rows of a conjunction taken together: the mixture of them that is nearest to a proof.

A violation satisfies all rows of its disjunct, and so every mixture of them. Linear bounds of two rows may each
be negative somewhere in a box, but nowhere both: then a mixture is positive everywhere. (These are the multipliers of
the rows in the linear program that asks for a point where all bounds are at most 0.) The minimum over the box is
concave in the shares of the rows, and the rows' values where it is attained are its slopes: dual averaging with
exponential weights (Nesterov, Mathematical Programming 2009), which needs no step size of the problem's scale.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lirpa_verify.bounds.rounding import RELATIVE
from lirpa_verify.operators.base import Interval

STEPS = 16
RATE = 2.0


def with_mixture(box: Interval, weight: Tensor, offset: Tensor) -> tuple[Tensor, Tensor]:
    """The rows and, where disjuncts have several, the mixture with the largest minimum over the box.

    Args:
        box: ``(batch, inputs)`` ends.
        weight: ``(batch, disjuncts, rows, inputs)``.
        offset: ``(batch, disjuncts, rows)``; -inf for a row that says nothing.

    Returns:
        ``(batch, disjuncts, rows + 1, inputs)`` and ``(batch, disjuncts, rows + 1)``, or what was given.
    """
    if weight.shape[2] < 2:
        return weight, offset
    lower, upper = box.lower[:, None], box.upper[:, None]  # (batch, 1, inputs)
    usable = torch.isfinite(offset)
    count = usable.sum(2, keepdim=True).clamp(min=1)
    rows, constants = weight * usable.unsqueeze(3), offset.masked_fill(~usable, 0.0)
    gathered, scale = torch.zeros_like(offset), torch.zeros_like(offset[..., :1])
    best = torch.full_like(offset[..., 0], -torch.inf)
    best_weight, best_offset = torch.zeros_like(weight[:, :, 0]), best
    for _ in range(STEPS):
        step = scale.sqrt().clamp(min=torch.finfo(scale.dtype).tiny)
        shares = (RATE * gathered / step).masked_fill(~usable, -torch.inf).softmax(2)
        mixed, constant = (shares.unsqueeze(2) @ rows).squeeze(2), (shares * constants).sum(2)
        least = minima(mixed, constant, lower, upper)
        better = least > best
        best = torch.where(better, least, best)
        best_offset = torch.where(better, constant, best_offset)
        best_weight = torch.where(better.unsqueeze(2), mixed, best_weight)
        corner = torch.where(mixed > 0, lower, upper)  # where the mixture is least
        values = (rows @ corner.unsqueeze(3)).squeeze(3) + constants
        values = (values - values.sum(2, keepdim=True) / count).masked_fill(~usable, 0.0)
        gathered, scale = gathered + values, scale + values.square().amax(2, keepdim=True)
    # Large terms may have cancelled, which what is left does not show.
    size = (rows.abs() * torch.maximum(lower.abs(), upper.abs()).unsqueeze(2)).sum(3) + constants.abs()
    best_offset = best_offset - RELATIVE[offset.dtype] * size.amax(2)
    return torch.cat([weight, best_weight.unsqueeze(2)], 2), torch.cat([offset, best_offset.unsqueeze(2)], 2)


def minima(weight: Tensor, offset: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    """Least values of linear functions over boxes: (..., inputs) -> (...)."""
    return torch.minimum(weight * lower, weight * upper).sum(-1) + offset
