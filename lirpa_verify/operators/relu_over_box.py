"""A (leaky) ReLU of an affine function of a box, bounded from above over the box instead of an interval.

The chord over the interval of ``z = weight @ x + bias`` forgets which x lead to which z. A linear function
``<share * weight, x> + c`` lies above the ReLU on the whole box if it lies above both of its pieces at every corner;
each choice of shares has a least such c, and all choices together make the convex hull (arXiv:1811.01988, section 3).
Equal shares give the chord, others may be found by gradient ascent, as slopes are (arXiv:2006.14076 solves for them).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from lirpa_verify.operators.base import (
    Backward,
    Interval,
    Lines,
    Relaxations,
    Slopes,
    contract,
    flat,
)
from lirpa_verify.operators.relu import ReLU


@dataclass(frozen=True)
class ReLUOverBox(ReLU):
    """``y = max(z, leak * z)`` of the arguments z and x, where ``z = weight @ x + bias`` in the box it was made for."""

    weight: Tensor = field(kw_only=True)  # (entries, inputs)
    low: Tensor = field(kw_only=True)  # (entries, inputs): the least value of each ``weight * x``
    high: Tensor = field(kw_only=True)  # (entries, inputs): the largest
    bias: Tensor = field(kw_only=True)  # (entries,)
    terms: Tensor = field(kw_only=True)  # (entries,): magnitudes of all that z is the sum of, for rounding

    @property
    def exact_image(self) -> bool:
        return False  # images are of one argument

    def undecided(self, interval: Interval, position: int) -> Tensor:
        return super().undecided(interval, position) if position == 0 else torch.zeros_like(interval.lower).bool()

    def term_sizes(self, *arguments: Tensor) -> Tensor:
        return self.terms.reshape(1, *arguments[0].shape[1:])

    def default_slopes(self, *intervals: Interval) -> Slopes:
        """The slopes of a ReLU; the shares are those of the chord."""
        share = self.chord(intervals[0])[0].clamp(self.leak, 1).unsqueeze(1).unsqueeze(-1)
        return Slopes(super().default_slopes(intervals[0]).lower, share.repeat_interleave(self.weight.shape[1], -1))

    def slope_range(self, *intervals: Interval) -> tuple[Slopes, Slopes]:
        low, high = super().slope_range(intervals[0])
        ends = (low.lower.new_full((1, 1, *low.lower.shape[2:], self.weight.shape[1]), end) for end in (self.leak, 1.0))
        return Slopes(low.lower, next(ends)), Slopes(high.lower, next(ends))

    def backward(self, rows: Tensor, intervals: tuple[Interval, ...], slopes: Slopes | None) -> Backward:
        z = intervals[0]
        slopes = slopes or self.default_slopes(z)
        crossing = ((z.lower < 0) & (z.upper > 0)).unsqueeze(1)
        negative = rows.clamp(max=0)
        above = torch.where(crossing, negative, 0)  # bounded over the box
        below = (rows - negative) * self.lower_slope(z, slopes) + (negative - above) * self.stable_slope(z).unsqueeze(1)
        share = slopes.upper.reshape(*slopes.upper.shape[:2], *self.weight.shape)  # (batch, rows or 1, entries, inputs)
        through = flat(above).unsqueeze(2) @ (share * self.weight)
        return Backward((below, through.squeeze(2)), contract(flat(above), self.constant(share)))

    def constant(self, share: Tensor) -> Tensor:
        """(batch, rows or 1, entries): how far ``<share * weight, x>`` has to be raised."""
        identity = self.high.sum(1) + self.bias - (share * self.high).sum(-1)
        leaking = self.leak * (self.low.sum(1) + self.bias) - (share * self.low).sum(-1)
        return torch.maximum(identity, leaking)

    def relaxation(self, interval: Interval, slopes: Slopes | None) -> Lines | None:
        return None  # it is a function of two arguments

    def relaxations(self, interval: Interval) -> Relaxations | None:
        return None
