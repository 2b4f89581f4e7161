"""How the radius of the perturbation grows during training.

A schedule gives the next radius from the present one, so that all a run has to remember is a number.
Steps count from 0; every schedule starts at 0 and never passes its final radius.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


class Schedule(Protocol):
    """What a trainer asks of a schedule."""

    @property
    def final(self) -> float:
        """The largest radius."""

    def next(self, radius: float, step: int, loss: float) -> float:
        """The radius of a step.

        Args:
            radius: of the step before, 0 at first.
            step: number of the step.
            loss: running mean of the robust loss, infinity before the first step.
        """


@dataclass(frozen=True)
class Linear:
    """0 until step `start`, `final` from step `end` on, a straight line between."""

    final: float
    start: int
    end: int

    def next(self, radius: float, step: int, loss: float) -> float:
        return self.final * share(step, self.start, self.end)


@dataclass(frozen=True)
class Smoothed:
    """Like `Linear`, but the growth sets in gently: as the fourth power of time for the first quarter.

    From there it goes on in a straight line with the slope that it has reached (arXiv:2002.12920, appendix).
    """

    final: float
    start: int
    end: int
    gentle: float = 0.25  # share of the way
    power: float = 4.0

    def next(self, radius: float, step: int, loss: float) -> float:
        t = share(step, self.start, self.end)
        bend = self.gentle
        scale = bend**self.power + self.power * bend ** (self.power - 1) * (1 - bend)
        if t <= bend:
            return self.final * t**self.power / scale
        return self.final * (bend**self.power + self.power * bend ** (self.power - 1) * (t - bend)) / scale


@dataclass(frozen=True)
class Adaptive:
    """Grows by `growth` of the final radius per step while the robust loss is below `limit`, else waits."""

    final: float
    start: int
    growth: float
    limit: float

    def next(self, radius: float, step: int, loss: float) -> float:
        if step < self.start or (radius > 0 and loss >= self.limit):
            return radius
        return min(self.final, radius + self.growth * self.final)


def share(step: int, start: int, end: int) -> float:
    """Of the way from `start` to `end`, in [0, 1]."""
    return min(1.0, max(0.0, (step - start) / max(1, end - start)))
