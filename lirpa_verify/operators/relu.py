"""ReLU and leaky ReLU (arXiv:1811.00866; free lower slope: arXiv:2011.13824)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lirpa_verify.operators.base import (
    Backward,
    Interval,
    LinearForms,
    Lines,
    Operator,
    Relaxations,
    Slopes,
    all_finite,
    lines_backward,
    lines_compose,
)


@dataclass(frozen=True)
class ReLU(Operator):
    """``y = x`` where x >= 0, ``y = leak * x`` elsewhere, with 0 <= leak <= 1."""

    leak: float = 0.0

    @property
    def bounded(self) -> bool:
        return True

    @property
    def exact_image(self) -> bool:
        return True

    @property
    def sign_decides(self) -> bool:
        return True

    @property
    def splittable(self) -> bool:
        return True

    def forward(self, *arguments: Tensor) -> Tensor:
        x = arguments[0]
        return torch.where(x >= 0, x, self.leak * x) if self.leak else x.clamp(min=0)

    def interval(self, *arguments: Interval) -> Interval:
        return Interval(self.forward(arguments[0].lower), self.forward(arguments[0].upper))

    def undecided(self, interval: Interval, position: int) -> Tensor:
        return (interval.lower < 0) & (interval.upper > 0)

    def chord(self, interval: Interval) -> tuple[Tensor, Tensor]:
        """Slope and offset of the upper line; exact where the sign of the argument is known."""
        lower, upper = interval.lower.clamp(max=0), interval.upper.clamp(min=0)
        crossing = (interval.lower < 0) & (interval.upper > 0)
        rise = (1 - self.leak) * upper / torch.where(crossing, upper - lower, 1)
        slope = torch.where(crossing, self.leak + rise, self.stable_slope(interval))
        offset = torch.where(crossing, -rise * lower, 0)
        if all_finite(interval):
            return slope, offset
        # The limits for one infinite end; with two there is no line above.
        down, up = crossing & torch.isinf(lower), crossing & torch.isinf(upper)
        slope = torch.where(down, self.leak, torch.where(up, 1.0, slope))
        offset = torch.where(down, (1 - self.leak) * upper, torch.where(up, (self.leak - 1) * lower, offset))
        return torch.where(down & up, 0.0, slope), torch.where(down & up, torch.inf, offset)

    def stable_slope(self, interval: Interval) -> Tensor:
        return torch.where(interval.lower >= 0, 1.0, torch.full_like(interval.lower, self.leak))

    def lower_slope(self, interval: Interval, slopes: Slopes | None) -> Tensor:
        """(batch, rows or 1, *node)"""
        stable = self.stable_slope(interval).unsqueeze(1)
        crossing = ((interval.lower < 0) & (interval.upper > 0)).unsqueeze(1)
        free = self.default_slopes(interval).lower if slopes is None else slopes.lower
        return torch.where(crossing, free, stable)

    def default_slopes(self, *intervals: Interval) -> Slopes:
        """The choice of smaller area: 1 where the positive part is the larger one."""
        interval = intervals[0]
        leak = torch.full_like(interval.lower, self.leak)
        slope = torch.where(interval.upper > -interval.lower, 1.0, leak).unsqueeze(1)
        return Slopes(slope, slope[:, :0])

    def slope_range(self, *intervals: Interval) -> tuple[Slopes, Slopes]:
        zero = torch.zeros_like(intervals[0].lower).unsqueeze(1)
        return Slopes(zero + self.leak, zero[:, :0]), Slopes(zero + 1, zero[:, :0])

    def backward(self, rows: Tensor, intervals: tuple[Interval, ...], slopes: Slopes | None) -> Backward:
        return lines_backward(rows, self.lines(intervals[0], slopes))

    def gaps(self, interval: Interval, slopes: Slopes | None) -> tuple[Tensor, Tensor]:
        lower = self.lower_slope(interval, slopes)
        crossing = ((interval.lower < 0) & (interval.upper > 0)).unsqueeze(1)
        above, below = (1 - lower) * interval.upper.unsqueeze(1), (self.leak - lower) * interval.lower.unsqueeze(1)
        return torch.where(crossing, torch.maximum(above, below), 0), self.chord(interval)[1].unsqueeze(1)

    def costly_gaps(self, interval: Interval, slopes: Slopes | None) -> tuple[Tensor, Tensor]:
        """The lower line is 0 at the argument 0, and slopes turn until the bound lies where it is nearer."""
        lower = self.lower_slope(interval, slopes)
        crossing = ((interval.lower < 0) & (interval.upper > 0)).unsqueeze(1)
        above, below = (1 - lower) * interval.upper.unsqueeze(1), (self.leak - lower) * interval.lower.unsqueeze(1)
        return torch.where(crossing, torch.minimum(above, below), 0), self.chord(interval)[1].unsqueeze(1)

    def split_point(self, interval: Interval) -> Tensor:
        return torch.zeros_like(interval.lower)

    def relaxation(self, interval: Interval, slopes: Slopes | None) -> Lines | None:
        return self.lines(interval, slopes)

    def lines(self, interval: Interval, slopes: Slopes | None) -> Lines:
        upper, offset = self.chord(interval)
        lower, zero = self.lower_slope(interval, slopes), torch.zeros_like(upper[:1]).unsqueeze(1)
        return Lines(lower, zero, upper.unsqueeze(1), offset.unsqueeze(1), all_finite(interval), through_zero=True)

    def relaxations(self, interval: Interval) -> Relaxations | None:
        if not all_finite(interval):
            return None
        upper, offset = (t.unsqueeze(1) for t in self.chord(interval))
        crossing = ((interval.lower < 0) & (interval.upper > 0)).unsqueeze(1)
        least = torch.where(crossing, self.leak, self.stable_slope(interval).unsqueeze(1))
        width, zero = (1 - self.leak) * crossing.to(upper.dtype), torch.zeros_like(upper[:1])

        def lines(position: Slopes) -> Lines:
            return Lines(torch.addcmul(least, position.lower, width), zero, upper, offset, through_zero=True)

        return lines

    def compose(self, forms: tuple[LinearForms, ...], intervals: tuple[Interval, ...]) -> LinearForms:
        return lines_compose(forms[0], self.lines(intervals[0], None))
