"""Functions whose curvature has one sign on every interval of their domain: a chord and a tangent bound them.

The free parameter is the point of tangency, which any point of the interval may be; it is kept in
`Slopes.lower`, on whichever side of the function the tangent lies.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lirpa_verify.operators.base import Interval, Lines, Slopes
from lirpa_verify.operators.univariate import Univariate


@dataclass(frozen=True)
class Curved(Univariate):
    """A subclass gives `forward`, `derivative` and `convex`."""

    def convex(self, interval: Interval) -> bool | Tensor:
        """Whether f is convex (else concave) on the interval: one answer, or one per entry."""
        raise NotImplementedError

    def regular(self, interval: Interval) -> Tensor | None:
        """Mask of the intervals without a pole; None where f has none."""
        return None

    def tangency(self, point: Tensor) -> Tensor:
        """The point moved to where f' is finite; a tangent holds on the whole domain, so it may leave the interval."""
        return point

    def default_slopes(self, *intervals: Interval) -> Slopes:
        """The tangent at the middle encloses the least area."""
        lower, upper = self.domain(intervals[0])
        middle = ((lower + upper) / 2).unsqueeze(1)
        return Slopes(middle, middle[:, :0])

    def slope_range(self, *intervals: Interval) -> tuple[Slopes, Slopes]:
        lower, upper = self.wide(intervals[0])
        return Slopes(lower, lower[:, :0]), Slopes(upper, upper[:, :0])

    def tangent(self, interval: Interval, slopes: Slopes | None) -> tuple[Tensor, Tensor]:
        """Slope and offset, (batch, rows or 1, *node) each."""
        point = self.tangency((self.default_slopes(interval) if slopes is None else slopes).lower)
        slope = self.derivative(point)
        return slope, self.forward(point) - slope * point

    def chord(self, interval: Interval, convex: bool | Tensor) -> tuple[Tensor, Tensor]:
        """Slope and offset of the line through both ends, (batch, 1, *node)."""
        lower, upper = self.wide(interval)
        slope = self.chord_slope(lower, upper, self.derivative(self.tangency(lower)))
        ends = self.forward(lower) - slope * lower, self.forward(upper) - slope * upper  # equal but for rounding
        return slope, choose(convex, torch.maximum(*ends), torch.minimum(*ends))

    def lines(self, interval: Interval, slopes: Slopes | None) -> Lines:
        convex = self.convex(interval)
        convex = convex.unsqueeze(1) if isinstance(convex, Tensor) else convex
        tangent, chord = self.tangent(interval, slopes), self.chord(interval, convex)
        lower, lower_offset = (choose(convex, t, c) for t, c in zip(tangent, chord, strict=True))
        upper, upper_offset = (choose(convex, c, t) for t, c in zip(tangent, chord, strict=True))
        regular = self.regular(interval)
        if regular is not None:
            lower = lower.masked_fill(~regular.unsqueeze(1), torch.nan)
        return self.repaired(Lines(lower, lower_offset, upper, upper_offset), interval)

    def gaps(self, interval: Interval, slopes: Slopes | None) -> tuple[Tensor, Tensor]:
        """The tangent is farthest from f at an end; the chord where its slope is that of f, about the middle."""
        lines = self.lines(interval, slopes)
        lower, upper = self.wide(interval)

        def distance(x: Tensor) -> tuple[Tensor, Tensor]:
            y = self.forward(x)
            return y - (lines.lower * x + lines.lower_offset), lines.upper * x + lines.upper_offset - y

        points = [distance(x) for x in (lower, upper, (lower + upper) / 2)]
        below, above = (torch.stack(torch.broadcast_tensors(*side)).amax(0) for side in zip(*points, strict=True))
        return below.clamp(min=0), above.clamp(min=0)


def choose(condition: bool | Tensor, yes: Tensor, no: Tensor) -> Tensor:
    """`torch.where` that copies nothing when there is one answer for all entries."""
    return torch.where(condition, yes, no) if isinstance(condition, Tensor) else (yes if condition else no)
