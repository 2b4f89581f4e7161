"""Element-wise functions of several arguments enclosed by planes."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from lirpa_verify.operators.base import Backward, Interval, LinearForms, all_finite, contract


class Planes(NamedTuple):
    """``sum(lower[i] * x_i) + lower_offset <= f(x) <= sum(upper[i] * x_i) + upper_offset``.

    Each tensor is ``(batch, rows or 1, *node)``; `finite` as in `Lines`.
    """

    lower: tuple[Tensor, ...]
    lower_offset: Tensor
    upper: tuple[Tensor, ...]
    upper_offset: Tensor
    finite: bool = True


def planes_backward(rows: Tensor, planes: Planes) -> Backward:
    """Lower bound of ``<rows, f(x)>``."""
    negative = rows.clamp(max=0)
    positive = rows - negative
    coefficients = tuple(
        torch.addcmul(positive * below, negative, above)
        for below, above in zip(planes.lower, planes.upper, strict=True)
    )
    below, above = (
        contract(positive, planes.lower_offset, planes.finite),
        contract(negative, planes.upper_offset, planes.finite),
    )
    return Backward(coefficients, below + above)


def planes_compose(forms: tuple[LinearForms, ...], planes: Planes) -> LinearForms:
    """Forward rule; planes have rows = 1."""

    def through(slopes: tuple[Tensor, ...], offset: Tensor, side: int) -> tuple[Tensor, Tensor]:
        weight: Tensor | None = None
        total = offset.squeeze(1)
        for form, slope in zip(forms, slopes, strict=True):
            up, down = slope.clamp(min=0), slope.clamp(max=0)
            part = up * form[side] + down * form[2 - side]
            weight = part if weight is None else weight + part
            total = total + up.squeeze(1) * form[side + 1] + down.squeeze(1) * form[3 - side]
        assert weight is not None
        return weight, total

    return LinearForms(*through(planes.lower, planes.lower_offset, 0), *through(planes.upper, planes.upper_offset, 2))


def constant_planes(interval: Interval, count: int) -> Planes:
    """The ends of an interval as planes in `count` arguments."""
    zeros = (torch.zeros_like(interval.lower).unsqueeze(1),) * count
    planes = Planes(zeros, interval.lower.unsqueeze(1), zeros, interval.upper.unsqueeze(1))
    finite = all_finite((planes.lower_offset, planes.upper_offset))
    return planes if finite else planes._replace(finite=False)


def repaired(planes: Planes, intervals: tuple[Interval, ...], constant: Interval) -> Planes:
    """The same planes, but constants where an argument's interval or a plane is not finite."""
    ends = tuple(end.unsqueeze(1) for interval in intervals for end in interval)
    parts = (*ends, *planes.lower, planes.lower_offset, *planes.upper, planes.upper_offset)
    if all_finite(parts):
        return planes
    usable = torch.isfinite(parts[0])
    for part in parts[1:]:
        usable = usable & torch.isfinite(part)
    low, high = (end.unsqueeze(1) for end in constant)
    low = torch.where(torch.isnan(low), -torch.inf, low)
    high = torch.where(torch.isnan(high), torch.inf, high)
    return Planes(
        tuple(torch.where(usable, p, 0) for p in planes.lower), torch.where(usable, planes.lower_offset, low),
        tuple(torch.where(usable, p, 0) for p in planes.upper), torch.where(usable, planes.upper_offset, high), False,
    )  # fmt: skip
