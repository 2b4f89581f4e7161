"""When to stop optimising a batch of sub-problems and split on.

A tree that gains G of margin per level needs M / G levels to close a gap of M, and costs 2^(M / G) times what a
sub-problem costs. With t steps of ascent on top of b steps' worth of splitting, that is least where
G'(t) (b + t) / G = G / (M ln 2): one more step is worthwhile while the left side is larger.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

SPLITTING = 6  # steps' worth of choosing and splitting
WINDOW = 4  # steps over which the slope of the gain is measured


@dataclass
class Stopping:
    """The gain of a batch of children over their parents."""

    parents: Tensor  # (open children,) margins of the parents
    count: int  # children of the batch, those that are closed included
    closed: float = 0.0  # sum of the gains of children that are closed
    gap: float = field(init=False)  # sum of what was missing in the parents
    gains: list[float] = field(default_factory=list)  # of the whole batch, step by step
    ended: bool = False

    def __post_init__(self) -> None:
        self.gap = -float(self.parents.clamp(max=0).sum())

    def worthwhile(self, margin: Tensor) -> bool:
        """Whether another step is, after one that brought the open children to these margins."""
        gained = margin.clamp(max=0) - self.parents.clamp(max=0)
        self.gains.append(self.closed + float(torch.nan_to_num(gained).clamp(min=0).sum()))
        gain = self.gains[-1]
        if len(self.gains) <= WINDOW or gain <= 0:
            return True
        slope = (gain - self.gains[-1 - WINDOW]) / WINDOW
        steps = SPLITTING + len(self.gains)
        self.ended = slope * steps / gain < gain / (self.gap * math.log(2))
        return not self.ended

    def drop(self, closed: Tensor) -> None:
        """Children that are closed, by a mask over the open ones, gain nothing more."""
        self.closed += float(-self.parents[closed].clamp(max=0).sum())
        self.parents = self.parents[~closed]
