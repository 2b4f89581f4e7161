"""Entries chosen by varying places from a vector that varies as well."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lirpa_verify.operators.base import Backward, Interval, LinearForms, Operator, Slopes
from lirpa_verify.operators.discrete import constant_backward, integers_in


@dataclass(frozen=True)
class Take(Operator):
    """``x[place[k]]`` along the last dimension: places ``(..., k)`` and x ``(..., n)`` to ``(..., k)``.

    Where the place is known this is x there, elsewhere anything between the least and the largest entry in reach.
    Where a place outside is in reach, it is anything: models fail there.
    """

    @property
    def bounded(self) -> bool:
        return True

    def forward(self, *arguments: Tensor) -> Tensor:
        place, x = arguments
        batch = max(place.shape[0], x.shape[0])
        place, x = (t.expand(batch, *t.shape[1:]) for t in (place, x))
        return x.gather(-1, place.long().clamp(0, x.shape[-1] - 1))

    def defined(self, *arguments: Tensor) -> bool:
        place, x = arguments
        return bool(((place >= 0) & (place < x.shape[-1])).all())

    def interval(self, *arguments: Interval) -> Interval:
        place, x = arguments
        first, last = (end.unsqueeze(-1) for end in integers_in(place))  # (batch, ..., k, 1)
        number = torch.arange(x.lower.shape[-1], device=x.lower.device)
        possible = (number >= first) & (number <= last)
        lower = torch.where(possible, x.lower.unsqueeze(-2), torch.inf).amin(-1)
        upper = torch.where(possible, x.upper.unsqueeze(-2), -torch.inf).amax(-1)
        covered = (first >= 0).squeeze(-1) & (last < len(number)).squeeze(-1) & (lower <= upper)
        return Interval(torch.where(covered, lower, -torch.inf), torch.where(covered, upper, torch.inf))

    def undecided(self, interval: Interval, position: int) -> Tensor:
        if position == 0:
            first, last = integers_in(interval)
            return first < last
        return interval.upper > interval.lower

    def known(self, place: Interval, size: int) -> tuple[Tensor, Tensor]:
        """(batch, ..., k): where the place is known, and it (0 where not)."""
        first, last = integers_in(place)
        known = (first == last) & (first >= 0) & (first < size)
        return known, torch.where(known, first, 0).long()

    def backward(self, rows: Tensor, intervals: tuple[Interval, ...], slopes: Slopes | None) -> Backward:
        known, place = (t.unsqueeze(1) for t in self.known(intervals[0], intervals[1].lower.shape[-1]))
        passed = torch.where(known, rows, 0)
        below = passed.new_zeros(*passed.shape[:-1], intervals[1].lower.shape[-1])
        below = below.scatter_add(-1, place.expand_as(passed), passed)
        rest = constant_backward(torch.where(known, 0, rows), self.interval(*intervals), 0)
        return Backward((None, below), rest.offset)

    def compose(self, forms: tuple[LinearForms, ...], intervals: tuple[Interval, ...]) -> LinearForms:
        known, place = self.known(intervals[0], intervals[1].lower.shape[-1])
        batch, n = forms[1].lower_weight.shape[:2]
        known, place = (t.expand(batch, *t.shape[1:]) for t in (known, place))
        wide = place.unsqueeze(1).expand(-1, n, *place.shape[1:])

        def side(weight: Tensor, offset: Tensor, constant: Tensor) -> tuple[Tensor, Tensor]:
            taken = torch.where(known.unsqueeze(1), weight.gather(-1, wide), 0)
            return taken, torch.where(known, offset.gather(-1, place), constant)

        lower, upper = self.interval(*intervals)
        form = forms[1]
        return LinearForms(
            *side(form.lower_weight, form.lower_offset, lower), *side(form.upper_weight, form.upper_offset, upper)
        )
