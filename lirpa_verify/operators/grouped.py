"""Functions of groups of entries, the last dimension, with one value per group, enclosed by planes."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from lirpa_verify.operators.base import Backward, Interval, LinearForms, all_finite, contract


class GroupPlanes(NamedTuple):
    """``<lower, x> + lower_offset <= f(x) <= <upper, x> + upper_offset`` for every group.

    Slopes are ``(batch, rows or 1, *groups, entries)``, offsets ``(batch, rows or 1, *groups)``.
    """

    lower: Tensor
    lower_offset: Tensor
    upper: Tensor
    upper_offset: Tensor
    finite: bool = True


def repaired(planes: GroupPlanes, interval: Interval, constant: Interval) -> GroupPlanes:
    """The same planes, but constants for groups where an end or a plane is not finite."""
    if all_finite((*interval, *planes[:4])):
        return planes
    usable = torch.isfinite(planes.lower_offset) & torch.isfinite(planes.upper_offset)
    for part in (*(end.unsqueeze(1) for end in interval), planes.lower, planes.upper):
        usable = usable & torch.isfinite(part).all(-1)
    low, high = (end.unsqueeze(1) for end in constant)
    low = torch.where(torch.isnan(low), -torch.inf, low)
    high = torch.where(torch.isnan(high), torch.inf, high)
    return GroupPlanes(
        torch.where(usable.unsqueeze(-1), planes.lower, 0), torch.where(usable, planes.lower_offset, low),
        torch.where(usable.unsqueeze(-1), planes.upper, 0), torch.where(usable, planes.upper_offset, high), False,
    )  # fmt: skip


def group_backward(rows: Tensor, planes: GroupPlanes, interval: Interval, constant: Interval) -> Backward:
    planes = repaired(planes, interval, constant)
    negative = rows.clamp(max=0)
    positive = rows - negative
    coefficients = positive.unsqueeze(-1) * planes.lower + negative.unsqueeze(-1) * planes.upper
    below, above = (
        contract(positive, planes.lower_offset, planes.finite),
        contract(negative, planes.upper_offset, planes.finite),
    )
    return Backward((coefficients,), below + above)


def group_compose(form: LinearForms, planes: GroupPlanes, interval: Interval, constant: Interval) -> LinearForms:
    """Forward rule; planes have rows = 1."""
    planes = repaired(planes, interval, constant)

    def through(slope: Tensor, offset: Tensor, side: int) -> tuple[Tensor, Tensor]:
        up, down = slope.clamp(min=0), slope.clamp(max=0)
        weight = (up * form[side] + down * form[2 - side]).sum(-1)
        base = (up.squeeze(1) * form[side + 1] + down.squeeze(1) * form[3 - side]).sum(-1)
        return weight, base + offset.squeeze(1)

    return LinearForms(*through(planes.lower, planes.lower_offset, 0), *through(planes.upper, planes.upper_offset, 2))
