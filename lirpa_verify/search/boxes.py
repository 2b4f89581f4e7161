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
    proved impossible in it, `margin` the margin its parent was left with (-inf at the start), `gain` what
    halving each input was expected to bring when that was last computed, `age` halvings ago, `share` the part of
    its origin's tree that it is: half of its parent's.
    """

    lower: Tensor  # (batch, inputs)
    upper: Tensor  # (batch, inputs)
    origin: Tensor  # (batch,)
    alive: Tensor  # (batch, disjuncts) bool
    margin: Tensor  # (batch,)
    gain: Tensor  # (batch, inputs)
    age: Tensor  # (batch,) int64
    share: Tensor  # (batch,)

    def __len__(self) -> int:
        return len(self.lower)

    @property
    def interval(self) -> Interval:
        return Interval(self.lower, self.upper)

    def __getitem__(self, index: Tensor | slice) -> Boxes:
        return Boxes(*(field[index] for field in fields(self)))


def fields(boxes: Boxes) -> tuple[Tensor, ...]:
    return boxes.lower, boxes.upper, boxes.origin, boxes.alive, boxes.margin, boxes.gain, boxes.age, boxes.share


def join(parts: list[Boxes]) -> Boxes:
    if len(parts) == 1:
        return parts[0]
    return Boxes(*(torch.cat(column) for column in zip(*map(fields, parts), strict=True)))
