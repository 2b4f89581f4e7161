"""Open sub-problems of an input split: batches of boxes on a stack, never single objects."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lirpa_verify.operators.base import Interval


@dataclass(frozen=True)
class Boxes:
    """A batch of sub-problems.

    `origin` is the property's box each came from, `alive` which of that box's disjuncts are not yet
    proved impossible in it, `margin` the margin its parent was left with (-inf at the start).
    """

    lower: Tensor  # (batch, inputs)
    upper: Tensor  # (batch, inputs)
    origin: Tensor  # (batch,)
    alive: Tensor  # (batch, disjuncts) bool
    margin: Tensor  # (batch,)

    def __len__(self) -> int:
        return len(self.lower)

    @property
    def interval(self) -> Interval:
        return Interval(self.lower, self.upper)

    def __getitem__(self, index: Tensor | slice) -> Boxes:
        return Boxes(self.lower[index], self.upper[index], self.origin[index], self.alive[index], self.margin[index])


def join(parts: list[Boxes]) -> Boxes:
    if len(parts) == 1:
        return parts[0]
    return Boxes(
        torch.cat([p.lower for p in parts]),
        torch.cat([p.upper for p in parts]),
        torch.cat([p.origin for p in parts]),
        torch.cat([p.alive for p in parts]),
        torch.cat([p.margin for p in parts]),
    )
