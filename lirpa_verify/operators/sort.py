"""Entries in order, and the places they come from.

The entry of rank r (the largest has rank 0) is at most the largest of any n - r entries, and at least the
least of any r + 1 entries. Taking those with the smallest upper ends, and those with the largest lower
ends, leaves maxima and minima, which have planes (`maximum.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lirpa_verify.operators.base import Backward, Interval, LinearForms, Operator, Slopes
from lirpa_verify.operators.discrete import Discrete
from lirpa_verify.operators.grouped import GroupPlanes, group_backward, group_compose


@dataclass(frozen=True)
class Sort(Operator):
    """The entries along the last dimension in order."""

    descending: bool

    @property
    def bounded(self) -> bool:
        return True

    def forward(self, *arguments: Tensor) -> Tensor:
        return arguments[0].sort(-1, descending=self.descending).values

    def interval(self, *arguments: Interval) -> Interval:
        """The k-th is at least the k-th of the lower ends."""
        return Interval(*(self.forward(end) for end in arguments[0]))

    def planes(self, interval: Interval) -> GroupPlanes:
        """Planes of every rank: slopes (batch, 1, *groups, ranks, entries)."""
        rank = torch.arange(interval.lower.shape[-1], device=interval.lower.device)
        rank = rank if self.descending else rank.flip(0)
        upper, upper_offset = top(interval, rank)
        lower, lower_offset = top(Interval(-interval.upper, -interval.lower), rank.flip(0))
        return GroupPlanes(
            lower.unsqueeze(1), -lower_offset.unsqueeze(1), upper.unsqueeze(1), upper_offset.unsqueeze(1)
        )

    def backward(self, rows: Tensor, intervals: tuple[Interval, ...], slopes: Slopes | None) -> Backward:
        result = group_backward(rows, self.planes(intervals[0]), *self.by_rank(intervals[0]))
        (coefficients,) = result.coefficients
        assert coefficients is not None
        return Backward((coefficients.sum(-2),), result.offset)

    def compose(self, forms: tuple[LinearForms, ...], intervals: tuple[Interval, ...]) -> LinearForms:
        form = LinearForms(*(part.unsqueeze(-2) for part in forms[0]))
        return group_compose(form, self.planes(intervals[0]), *self.by_rank(intervals[0]))

    def by_rank(self, interval: Interval) -> tuple[Interval, Interval]:
        """The argument's interval with a dimension for ranks, and the result's."""
        return Interval(*(end.unsqueeze(-2) for end in interval)), self.interval(interval)


def top(interval: Interval, rank: Tensor) -> tuple[Tensor, Tensor]:
    """Planes above the entries of some ranks: slopes (batch, ..., ranks, n) and offsets (batch, ..., ranks).

    Of the n - rank entries with the smallest upper ends only the one whose upper end is largest has a slope:
    the plane passes through the second largest of these ends (or through the largest of their lower ends).
    """
    lower, upper = interval
    n = upper.shape[-1]
    ordered, place = upper.sort(-1, descending=True)
    number = place.index_select(-1, rank)  # the entry whose upper end is the largest of those kept
    highest = ordered.index_select(-1, rank)
    following = torch.cat([ordered[..., 1:], torch.full_like(ordered[..., :1], -torch.inf)], -1).index_select(-1, rank)
    reach = lower.gather(-1, place).flip(-1).cummax(-1).values.flip(-1)  # largest lower end from this rank on
    level = torch.maximum(following, reach.index_select(-1, rank))
    low = lower.gather(-1, number)
    width = highest - low
    steep = torch.where(width > 0, (highest - level).clamp(min=0) / torch.where(width > 0, width, 1), 1).clamp(max=1)
    slope = torch.zeros(*steep.shape, n, dtype=upper.dtype, device=upper.device)
    slope = slope.scatter(-1, number.unsqueeze(-1), steep.unsqueeze(-1))
    # Largest is the steep entry high and the others low, or it low and another high.
    offset = torch.maximum(highest - steep * highest, following - steep * low)
    return slope, offset


@dataclass(frozen=True)
class SortedPlaces(Discrete):
    """The places along the last dimension of the entries in order."""

    descending: bool

    def forward(self, *arguments: Tensor) -> Tensor:
        return arguments[0].argsort(dim=-1, descending=self.descending, stable=True).to(arguments[0].dtype)

    def interval(self, *arguments: Interval) -> Interval:
        """An entry can have a rank if so many can be before it and so many after it."""
        lower, upper = arguments[0]
        n = lower.shape[-1]
        above = (lower.unsqueeze(-2) > upper.unsqueeze(-1)).sum(-1, keepdim=True)  # (batch, ..., n, 1)
        below = (upper.unsqueeze(-2) < lower.unsqueeze(-1)).sum(-1, keepdim=True)
        rank = torch.arange(n, device=lower.device)
        rank = rank if self.descending else rank.flip(0)
        possible = (above <= rank) & (rank <= n - 1 - below)  # (batch, ..., entry, rank)
        number = torch.arange(n, dtype=lower.dtype, device=lower.device).unsqueeze(-1)
        return Interval(torch.where(possible, number, n - 1).amin(-2), torch.where(possible, number, 0).amax(-2))
