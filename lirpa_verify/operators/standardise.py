"""Division by the root of the mean square: what layer, group, instance and RMS normalisation have in common.

``y_k = c_k r`` with ``r = (mean_j c_j^2 + epsilon)^(-1/2)`` is a product, but its factors are not
independent. With s the sum of the other squares, ``y_k = sqrt(n) c_k / sqrt(c_k^2 + s + n epsilon)`` grows with
c_k and stays below sqrt(n); if all c add up to 0, s is at least c_k^2 / (n - 1). On wide boxes the
S-shaped curves in c_k for the least and the largest s are much closer than the planes of a product,
on narrow ones it is the other way round: each entry takes what is closer at its middle.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lirpa_verify.operators.base import Interval, Slopes
from lirpa_verify.operators.multiply import Multiply
from lirpa_verify.operators.planes import Planes
from lirpa_verify.operators.s_shaped import SShaped
from lirpa_verify.operators.softmax import others_sum


@dataclass(frozen=True)
class Standardise(Multiply):
    """``c * r`` entry by entry, where r is ``(mean of c^2 over the last dimension + epsilon)^(-1/2)``."""

    epsilon: float
    centred: bool  # whether c adds up to 0

    def interval(self, *arguments: Interval) -> Interval:
        """By both factors, and by each entry with the least or the largest others."""
        product = super().interval(*arguments)
        lower, upper = arguments[0]
        least, most = self.others(arguments[0])
        ends = Curve(least, most).forward(upper), Curve(most, least).forward(lower)
        return Interval(
            torch.fmax(product.lower, self.capped(ends[1])), torch.fmin(product.upper, self.capped(ends[0]))
        )

    def capped(self, y: Tensor) -> Tensor:
        """y times sqrt(n), at most what any value can be: sqrt(n - 1) where all add up to 0."""
        n = y.shape[-1]
        cap = math.sqrt(n - 1 if self.centred else n)
        return (math.sqrt(n) * y).clamp(-cap, cap)

    def others(self, c: Interval) -> tuple[Tensor, Tensor]:
        """Least and largest s + n epsilon of every entry."""
        low, high = c.lower.square(), c.upper.square()
        most = torch.maximum(low, high)
        least = torch.where((c.lower > 0) | (c.upper < 0), torch.minimum(low, high), 0)
        rest = c.lower.shape[-1] * self.epsilon
        return others_sum(least) + rest, others_sum(most) + rest

    def planes(self, intervals: tuple[Interval, ...], slopes: Slopes | None) -> Planes:
        product = super().planes(intervals, slopes)
        curves = self.curves(intervals[0])
        middles = [((i.lower + i.upper) / 2).unsqueeze(1) for i in intervals]

        def width(planes: Planes) -> Tensor:
            above = planes.upper_offset + sum(k * x for k, x in zip(planes.upper, middles, strict=True))
            below = planes.lower_offset + sum(k * x for k, x in zip(planes.lower, middles, strict=True))
            return above - below

        with torch.no_grad():
            closer = width(curves) < width(product)
            closer |= ~torch.isfinite(product.lower_offset) | ~torch.isfinite(product.upper_offset)
            closer &= torch.isfinite(curves.lower_offset) & torch.isfinite(curves.upper_offset)

        def chosen(a: Tensor, b: Tensor) -> Tensor:
            return torch.where(closer, a, b)

        return Planes(
            tuple(chosen(a, b) for a, b in zip(curves.lower, product.lower, strict=True)),
            chosen(curves.lower_offset, product.lower_offset),
            tuple(chosen(a, b) for a, b in zip(curves.upper, product.upper, strict=True)),
            chosen(curves.upper_offset, product.upper_offset),
            product.finite,
        )

    def curves(self, c: Interval) -> Planes:
        """Lines in c_k alone, around the curves for the least and the largest s."""
        least, most = self.others(c)
        flat = Interval(*(end.expand_as(least).reshape(1, -1) for end in c))
        low, high = least.reshape(1, -1), most.reshape(1, -1)
        above, below = Curve(low, high).lines(flat, None), Curve(high, low).lines(flat, None)
        scale, shape = math.sqrt(least.shape[-1]), (least.shape[0], 1, *least.shape[1:])
        lower, lower_offset = ((scale * t).reshape(shape) for t in (below.lower, below.lower_offset))
        upper, upper_offset = ((scale * t).reshape(shape) for t in (above.upper, above.upper_offset))
        zero = torch.zeros_like(lower)
        return Planes((lower, zero), lower_offset, (upper, zero), upper_offset)


@dataclass(frozen=True)
class Curve(SShaped):
    """``x / sqrt(x^2 + s)`` with an s for either side of 0; both broadcast to x."""

    right: Tensor  # s where x >= 0
    left: Tensor

    def s(self, x: Tensor) -> Tensor:
        return torch.where(x >= 0, self.right, self.left)

    def forward(self, *arguments: Tensor) -> Tensor:
        x = arguments[0]
        return x * torch.rsqrt(x.square() + self.s(x))

    def derivative(self, x: Tensor) -> Tensor:
        s = self.s(x)
        return s * (x.square() + s) ** -1.5

    def inverse_on(self, slope: Tensor, s: Tensor) -> Tensor:
        tiny = torch.finfo(slope.dtype).tiny ** 0.25
        return ((s / slope.clamp(min=tiny)) ** (2 / 3) - s).clamp(min=0).sqrt()

    def stationary(self, slope: Tensor, interval: Interval, below: bool) -> tuple[Tensor, ...]:
        """Least values lie on the convex left side, largest on the concave right side."""
        return (-self.inverse_on(slope, self.left) if below else self.inverse_on(slope, self.right),)

    def default_slopes(self, *intervals: Interval) -> Slopes:
        return super(SShaped, self).default_slopes(*intervals)  # the sides are no mirror images
