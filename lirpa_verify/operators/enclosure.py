"""Values that are only known to lie between two affine functions of other values."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lirpa_verify.operators.base import Backward, Interval, LinearForms, Operator, Slopes, pair
from lirpa_verify.operators.joint_dense import joined


@dataclass(frozen=True)
class Enclosure(Operator):
    """``x @ lower + lower_offset <= y <= x @ upper + upper_offset`` with the vectors ``(size k,)`` side by side as x.

    It has no value, only bounds: what it stands for lies between the two functions wherever it is used. The
    rules for linear bounds are the same whatever the intervals of the arguments are.
    """

    lower: Tensor  # (sum of the sizes, outputs)
    lower_offset: Tensor  # (outputs,)
    upper: Tensor
    upper_offset: Tensor
    parts: tuple[int, ...]  # sizes of the arguments

    @property
    def bounded(self) -> bool:
        return True

    @property
    def adds_up(self) -> bool:
        return True

    @property
    def rounded_terms(self) -> int:
        return sum(self.parts) + 1

    @property
    def settled(self) -> bool:
        return True

    def undecided(self, interval: Interval, position: int) -> Tensor:
        return torch.zeros_like(interval.lower, dtype=torch.bool)

    def term_sizes(self, *arguments: Tensor) -> Tensor:
        """At least the sum of the magnitudes of each entry's terms, on either side."""
        x = joined(arguments)
        below, above = x @ self.lower.abs() + self.lower_offset.abs(), x @ self.upper.abs() + self.upper_offset.abs()
        return torch.maximum(below, above)

    def interval(self, *arguments: Interval) -> Interval:
        low, high = joined(tuple(a.lower for a in arguments)), joined(tuple(a.upper for a in arguments))
        below = low @ self.lower.clamp(min=0) + high @ self.lower.clamp(max=0) + self.lower_offset
        above = high @ self.upper.clamp(min=0) + low @ self.upper.clamp(max=0) + self.upper_offset
        return Interval(below, above)

    def backward(self, rows: Tensor, intervals: tuple[Interval, ...], slopes: Slopes | None) -> Backward:
        negative = rows.clamp(max=0)
        positive = rows - negative
        coefficients = positive @ self.lower.mT + negative @ self.upper.mT
        offset = pair(positive, self.lower_offset) + pair(negative, self.upper_offset)
        return Backward(coefficients.split(self.parts, dim=-1), offset)

    def compose(self, forms: tuple[LinearForms, ...], intervals: tuple[Interval, ...]) -> LinearForms:
        lower_weight, upper_weight = (torch.cat([form[side] for form in forms], 2) for side in (0, 2))
        ends = Interval(joined(tuple(form[1] for form in forms)), joined(tuple(form[3] for form in forms)))
        offsets = self.interval(ends)
        return LinearForms(
            lower_weight @ self.lower.clamp(min=0) + upper_weight @ self.lower.clamp(max=0),
            offsets.lower,
            upper_weight @ self.upper.clamp(min=0) + lower_weight @ self.upper.clamp(max=0),
            offsets.upper,
        )
