"""Operators bounded by their interval alone: comparisons, truncation, arg-max, sorting, look-ups.

Their values jump, so no linear part is kept; where the intervals of the arguments decide the value,
the bound is exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from lirpa_verify.operators.base import Backward, Interval, LinearForms, Operator, Slopes, flat


@dataclass(frozen=True)
class Discrete(Operator):
    """A subclass gives `forward` and `interval`."""

    @property
    def bounded(self) -> bool:
        return True

    @property
    def opaque(self) -> bool:
        return True

    @property
    def rounded_terms(self) -> int:
        return 0

    def backward(self, rows: Tensor, intervals: tuple[Interval, ...], slopes: Slopes | None) -> Backward:
        return constant_backward(rows, self.interval(*intervals), len(intervals))

    def compose(self, forms: tuple[LinearForms, ...], intervals: tuple[Interval, ...]) -> LinearForms:
        lower, upper = self.interval(*intervals)
        batch, inputs = forms[0].lower_weight.shape[:2]
        weight = lower.new_zeros(batch, inputs, *lower.shape[1:])
        lower, upper = (end.expand(batch, *end.shape[1:]) for end in (lower, upper))
        return LinearForms(weight, lower, weight, upper)


def constant_backward(rows: Tensor, interval: Interval, arguments: int) -> Backward:
    """No linear part, only the interval of the result; a zero coefficient cancels an infinite end."""
    lower, upper = (end.unsqueeze(1) for end in interval)
    lower, upper = torch.where(torch.isnan(lower), -torch.inf, lower), torch.where(torch.isnan(upper), torch.inf, upper)
    chosen = torch.where(rows > 0, lower, upper)
    offset = torch.where(rows == 0, 0, rows * torch.where(rows == 0, 0, chosen))
    return Backward((None,) * arguments, flat(offset).sum(2))


def integers_in(interval: Interval) -> Interval:
    """From the least to the largest integer in it: this undoes any rounding outward of integers."""
    return Interval(torch.ceil(interval.lower), torch.floor(interval.upper))


@dataclass(frozen=True)
class Truncate(Discrete):
    """Rounding towards zero: the cast of a real number to an integer."""

    def forward(self, *arguments: Tensor) -> Tensor:
        return torch.trunc(arguments[0])

    def interval(self, *arguments: Interval) -> Interval:
        return Interval(*(torch.trunc(end) for end in arguments[0]))

    def undecided(self, interval: Interval, position: int) -> Tensor:
        return torch.trunc(interval.lower) < torch.trunc(interval.upper)


@dataclass(frozen=True)
class Compare(Discrete):
    """``x < y``, ``x <= y`` or ``x == y`` as 0 or 1; `whole` says that both sides are integers."""

    kind: Literal["lt", "le", "eq"]
    whole: bool = False

    def forward(self, *arguments: Tensor) -> Tensor:
        x, y = arguments
        result = x < y if self.kind == "lt" else x <= y if self.kind == "le" else x == y
        return result.to(x.dtype)

    def interval(self, *arguments: Interval) -> Interval:
        x, y = (integers_in(argument) for argument in arguments) if self.whole else arguments
        if self.kind == "lt":
            never, always = x.lower >= y.upper, x.upper < y.lower
        elif self.kind == "le":
            never, always = x.lower > y.upper, x.upper <= y.lower
        else:
            never = (x.lower > y.upper) | (x.upper < y.lower)
            always = (x.lower == x.upper) & (y.lower == y.upper) & (x.lower == y.lower)
        return Interval(always.to(x.lower.dtype), (~never).to(x.lower.dtype))


@dataclass(frozen=True)
class ArgMax(Discrete):
    """Index of the largest entry along the last dimension."""

    def forward(self, *arguments: Tensor) -> Tensor:
        return arguments[0].argmax(-1).to(arguments[0].dtype)

    def interval(self, *arguments: Interval) -> Interval:
        """The first and the last entry that can be the largest."""
        lower, upper = arguments[0]
        possible = upper >= lower.amax(-1, keepdim=True)
        number = torch.arange(lower.shape[-1], dtype=lower.dtype, device=lower.device)
        none = torch.isnan(lower).any(-1) | torch.isnan(upper).any(-1)
        first = torch.where(possible, number, lower.shape[-1] - 1).amin(-1)
        last = torch.where(possible, number, 0).amax(-1)
        return Interval(torch.where(none, 0, first), torch.where(none, lower.shape[-1] - 1, last))


@dataclass(frozen=True)
class Lookup(Discrete):
    """Rows of a constant table, chosen by a varying index: (m,) to (m, columns)."""

    table: Tensor  # (rows, columns)

    def forward(self, *arguments: Tensor) -> Tensor:
        return self.table[arguments[0].long().clamp(0, len(self.table) - 1)]

    def defined(self, *arguments: Tensor) -> bool:
        return bool(((arguments[0] >= 0) & (arguments[0] < len(self.table))).all())

    def interval(self, *arguments: Interval) -> Interval:
        """Of the rows in reach; anything if an index outside of the table is in reach, where models fail."""
        first, last = (end.unsqueeze(-1) for end in integers_in(arguments[0]))
        number = torch.arange(len(self.table), device=self.table.device)
        possible = ((number >= first) & (number <= last)).unsqueeze(-1)
        lower = torch.where(possible, self.table, torch.inf).amin(-2)
        upper = torch.where(possible, self.table, -torch.inf).amax(-2)
        covered = (first >= 0) & (last < len(self.table)) & (lower <= upper)
        return Interval(torch.where(covered, lower, -torch.inf), torch.where(covered, upper, torch.inf))


@dataclass(frozen=True)
class Scatter(Discrete):
    """Constants written into a constant vector at varying places, a later one over an earlier one: (m,) to (n,)."""

    base: Tensor  # (n,)
    source: Tensor  # (m,)

    def forward(self, *arguments: Tensor) -> Tensor:
        result = self.base.repeat(len(arguments[0]), 1)
        for k, place in enumerate(arguments[0].long().unbind(1)):
            result.scatter_(1, place.unsqueeze(1), self.source[k].expand(len(result), 1))
        return result

    def interval(self, *arguments: Interval) -> Interval:
        """Each write may or may not hit an entry; one at a known place certainly does."""
        first, last = integers_in(arguments[0])
        lower = upper = self.base.repeat(len(first), 1)
        known = (first == last) & (first >= 0) & (first < len(self.base))
        anywhere = ((first <= 0) & (last >= len(self.base) - 1)).all(0)
        if not bool(known.all()):
            upper = lower.clone()
        for k in range(len(self.source)):
            value, hit = self.source[k].expand(len(lower), 1), known[:, k : k + 1]
            if bool(hit.all()):
                for end in (lower,) if lower is upper else (lower, upper):
                    end.scatter_(1, first[:, k : k + 1].long(), value)
            elif bool(anywhere[k]):
                lower, upper = lower.minimum(value), upper.maximum(value)
            else:
                possible = self.reach(first[:, k], last[:, k])
                certain = possible & hit
                lower = torch.where(certain, value, torch.where(possible, lower.minimum(value), lower))
                upper = torch.where(certain, value, torch.where(possible, upper.maximum(value), upper))
        return Interval(lower, upper)

    def reach(self, first: Tensor, last: Tensor) -> Tensor:
        """(batch, n): the entries from the first to the last place (batch,)."""
        number = torch.arange(len(self.base), device=self.base.device)
        return (number >= first.unsqueeze(1)) & (number <= last.unsqueeze(1))
