"""Functions like the logistic one: monotone, point symmetric about 0, their curvature changing sign there only.

On [l, u] with l < 0 < u the convex envelope of a function that is convex left of 0 follows it up to
a point d and then the line from d to the right end (arXiv:1811.00866). That line's slope is the
largest of all chords from the convex part to the right end; the iteration of Dinkelbach for such
ratios finds it with quadratic convergence.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lirpa_verify.operators.base import Interval, Slopes
from lirpa_verify.operators.univariate import Univariate

STEPS = 3  # any slope is sound


@dataclass(frozen=True)
class SShaped(Univariate):
    """A subclass gives `forward`, `derivative` (even in x) and its inverse."""

    convex_left: ClassVar[bool] = True  # and concave right of 0; False for the other way round
    inflections: ClassVar[tuple[float, ...]] = (0.0,)

    def inverse_derivative(self, slope: Tensor) -> Tensor:
        """The x >= 0 with f'(x) = slope; any finite number where there is none."""
        raise NotImplementedError

    def stationary(self, slope: Tensor, interval: Interval, below: bool) -> tuple[Tensor, ...]:
        x = self.inverse_derivative(slope)
        return (-x if below == self.convex_left else x,)

    def envelope_slope(self, lower: Tensor, upper: Tensor) -> Tensor:
        """Slope at the middle of the envelope that follows f on the left and is straight towards `upper`."""
        middle = (lower + upper) / 2
        d = self.leaves_curve(lower.detach(), upper.detach())
        d = torch.where(d == lower, lower, d)  # a tangent's slope does not change with where it touches, to first order
        width = upper - d
        slope = (self.forward(upper) - self.forward(d)) / torch.where(width > 0, width, 1)
        return torch.where((upper <= 0) | (middle <= d) | (width <= 0), self.derivative(middle), slope)

    @torch.no_grad()
    def leaves_curve(self, lower: Tensor, upper: Tensor) -> Tensor:
        """Where that envelope goes over from f to the line towards `upper`."""
        at_upper = self.forward(upper)
        d = torch.maximum(torch.minimum(-upper / 2, (lower + upper) / 2), lower)
        for _ in range(STEPS):
            width = upper - d
            slope = (at_upper - self.forward(d)) / torch.where(width > 0, width, 1)
            d = torch.maximum(torch.minimum(-self.inverse_derivative(slope), upper), lower)
        return d

    def default_slopes(self, *intervals: Interval) -> Slopes:
        lower, upper = self.domain(intervals[0])
        # By symmetry the other envelope is this one of the mirrored interval; one call for both is faster.
        both = self.envelope_slope(torch.cat([lower, -upper]), torch.cat([upper, -lower])).unsqueeze(1)
        here, mirrored = both.chunk(2)
        return Slopes(here, mirrored) if self.convex_left else Slopes(mirrored, here)
