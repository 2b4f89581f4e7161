"""Softmax with a joint relaxation (Wei et al., AISTATS 2023, arXiv:2303.01713).

Below: with chords of exp in the place of the exponentials of the sum, ``exp(x_k) / S(x)`` with an
affine S is convex, so a tangent plane bounds it. Above: on values between p and P the exponential
of ``-(logsumexp(x) - x_k)`` lies under its chord, a concave function of x, so again a tangent plane.
The points of tangency are free within the box. Both Jacobians are a diagonal minus a rank-one matrix.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from lirpa_verify.operators.base import Backward, Interval, LinearForms, Operator, Slopes, all_finite, flat
from lirpa_verify.operators.discrete import constant_backward

FAR = 1e4  # below all others an entry has no weight
WIDEST = 1e4  # interval: over wider ones rounding of a plane's gradient counts, and the plane is worth nothing anyway


class Tangents(NamedTuple):
    """Plane k has gradient ``diagonal_k (e_k - direction)`` and value ``value_k`` at `point`.

    All are ``(batch, rows or 1, *node)``.
    """

    diagonal: Tensor
    direction: Tensor
    value: Tensor
    point: Tensor


@dataclass(frozen=True)
class Softmax(Operator):
    """``exp(x_k) / sum_j exp(x_j)`` over the last dimension; entries left out (by a mask) have the value 0.

    Their arguments are replaced by numbers so far below the others that their exponentials are 0 in any precision.
    """

    kept: Tensor | None = None  # (*node) bool, which entries take part; None for all

    @property
    def bounded(self) -> bool:
        return True

    def forward(self, *arguments: Tensor) -> Tensor:
        x = arguments[0]
        return torch.softmax(x if self.kept is None else x.masked_fill(~self.kept, -torch.inf), -1)

    def low(self, lower: Tensor) -> Tensor | None:
        """(batch, ..., 1): what stands for the entries left out."""
        if self.kept is None:
            return None
        return lower.masked_fill(~self.kept, torch.inf).amin(-1, keepdim=True) - FAR

    def masked(self, x: Tensor, low: Tensor | None) -> Tensor:
        return x if low is None or self.kept is None else torch.where(self.kept, x, low)

    def interval(self, *arguments: Interval) -> Interval:
        """Exact: smallest with this entry low and all others high."""
        low = self.low(arguments[0].lower)
        least, most = log_odds(Interval(*(self.masked(end, low) for end in arguments[0])))
        return Interval(torch.sigmoid(least), torch.sigmoid(most))

    def undecided(self, interval: Interval, position: int) -> Tensor:
        wide = interval.upper > interval.lower
        return wide if self.kept is None else wide & self.kept

    def default_slopes(self, *intervals: Interval) -> Slopes:
        middle = ((intervals[0].lower + intervals[0].upper) / 2).unsqueeze(1)
        return Slopes(middle, middle)

    def slope_range(self, *intervals: Interval) -> tuple[Slopes, Slopes]:
        lower, upper = (end.unsqueeze(1) for end in intervals[0])
        return Slopes(lower, lower), Slopes(upper, upper)

    def tangents(self, interval: Interval, slopes: Slopes | None) -> tuple[Tangents, Tangents]:
        points = self.default_slopes(interval) if slopes is None else slopes
        low = self.low(interval.lower)
        interval = Interval(*(self.masked(end, low) for end in interval))
        low = None if low is None else low.unsqueeze(1)
        points = Slopes(*(self.masked(point, low) for point in points))
        lower, upper = (end.unsqueeze(1) for end in interval)
        shift = upper.amax(-1, keepdim=True)  # softmax does not change, and no exponential is above 1
        ends = torch.exp(lower - shift), torch.exp(upper - shift)
        width = upper - lower
        slope = torch.where(width > 0, (ends[1] - ends[0]) / torch.where(width > 0, width, 1), ends[0])
        total = (ends[1] + slope * (points.lower - upper)).sum(-1, keepdim=True)
        below = torch.exp(points.lower - shift) / total
        odds = [z.unsqueeze(1) for z in log_odds(interval)]
        (least, most), (log_least, log_most) = map(torch.sigmoid, odds), map(logsigmoid, odds)
        ratio = log_most - log_least
        chord = torch.where(ratio > 1e-6, (most - least) / torch.where(ratio > 1e-6, ratio, 1), least)
        value = torch.softmax(points.upper, -1)
        # The exponential lies below the higher of two parallel lines through the ends, whatever their slope.
        log_value = torch.log_softmax(points.upper, -1)
        from_ends = least + chord * (log_value - log_least), most + chord * (log_value - log_most)
        wide = width.amax(-1, keepdim=True) > WIDEST

        def kept(plane: Tangents, constant: Tensor) -> Tangents:
            diagonal, direction = (t.masked_fill(wide, 0.0) for t in plane[:2])
            return Tangents(diagonal, direction, torch.where(wide, constant, plane.value), plane.point)

        return (
            kept(Tangents(below, slope / total, below, points.lower), least),
            kept(Tangents(chord, value, torch.maximum(*from_ends), points.upper), most),
        )

    def backward(self, rows: Tensor, intervals: tuple[Interval, ...], slopes: Slopes | None) -> Backward:
        below, above = self.tangents(intervals[0], slopes)
        if not all_finite((*intervals[0], *below, *above), otherwise=True):
            return constant_backward(rows, self.interval(*intervals), len(intervals))
        negative = rows.clamp(max=0)
        results = [push(part, tangents) for part, tangents in ((rows - negative, below), (negative, above))]
        return Backward((results[0][0] + results[1][0],), results[0][1] + results[1][1])

    def compose(self, forms: tuple[LinearForms, ...], intervals: tuple[Interval, ...]) -> LinearForms:
        form, interval = forms[0], intervals[0]
        below, above = self.tangents(interval, None)
        constant = self.interval(interval)

        def through(tangents: Tangents, side: int, fallback: Tensor) -> tuple[Tensor, Tensor]:
            diagonal, direction, value, point = (t.squeeze(1) for t in tangents)
            eye = torch.eye(point.shape[-1], dtype=point.dtype, device=point.device)
            jacobian = diagonal.unsqueeze(-1) * (eye - direction.unsqueeze(-2))  # (batch, ..., k, j)
            up, down = jacobian.clamp(min=0), jacobian.clamp(max=0)
            weight = torch.einsum("b...kj,bn...j->bn...k", up, form[side]) + torch.einsum(
                "b...kj,bn...j->bn...k", down, form[2 - side]
            )
            base = (
                up @ (form[side + 1] - point).unsqueeze(-1) + down @ (form[3 - side] - point).unsqueeze(-1)
            ).squeeze(-1)
            offset = base + value
            usable = torch.isfinite(offset) & torch.isfinite(weight).all(1)
            return torch.where(usable.unsqueeze(1), weight, 0), torch.where(usable, offset, fallback)

        return LinearForms(*through(below, 0, constant.lower), *through(above, 2, constant.upper))


def log_odds(interval: Interval) -> tuple[Tensor, Tensor]:
    """Least and largest ``log(p_k / (1 - p_k))``: x_k less the logsumexp of the other entries."""
    lower, upper = interval
    return lower - others_logsumexp(upper), upper - others_logsumexp(lower)


def others_logsumexp(x: Tensor) -> Tensor:
    """Per entry the logsumexp of all other entries, each relative to the largest of those."""
    if x.shape[-1] == 1:
        return torch.full_like(x, -torch.inf)
    values, places = x.topk(2, -1)
    first, second = values[..., :1], values[..., 1:]
    is_first = torch.arange(x.shape[-1], device=x.device) == places[..., :1]
    rest = torch.exp(x - second).masked_fill(is_first, 0).sum(-1, keepdim=True)
    return torch.where(
        is_first, second + torch.log(rest), first + torch.log(others_sum(torch.exp(x - first)).clamp(min=1))
    )


def others_sum(values: Tensor) -> Tensor:
    """Per entry the sum of all other entries, without the cancellation of subtracting it from the total."""
    zero = torch.zeros_like(values[..., :1])
    before = torch.cat([zero, values[..., :-1].cumsum(-1)], -1)
    after = torch.cat([values[..., 1:].flip(-1).cumsum(-1).flip(-1), zero], -1)
    return before + after


def push(rows: Tensor, tangents: Tangents) -> tuple[Tensor, Tensor]:
    """Rows of one sign through tangent planes: coefficients of the argument, and the offset."""
    scaled = rows * tangents.diagonal
    coefficients = scaled - scaled.sum(-1, keepdim=True) * tangents.direction
    return coefficients, flat(rows * tangents.value - coefficients * tangents.point).sum(2)
