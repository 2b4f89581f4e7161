"""Boxes, and the L-infinity ball, which is one."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lirpa_verify.operators.base import Interval
from lirpa_verify.operators.transforms import holds
from lirpa_verify.perturbations.base import EmptySet, Perturbation, as_rows, per_entry, product, require_finite, uniform


@dataclass(frozen=True)
class Box(Perturbation):
    """``lower <= x <= upper``, ``(batch, *input)`` each.

    Raises:
        EmptySet: a lower end is above its upper end.
    """

    lower: Tensor
    upper: Tensor

    def __post_init__(self) -> None:
        if self.lower.shape != self.upper.shape:
            raise ValueError(f"ends of a box have shapes {tuple(self.lower.shape)} and {tuple(self.upper.shape)}")
        if not holds((self.lower <= self.upper).all()):
            require_finite("a box", self.lower, self.upper)
            raise EmptySet("a lower end of the box is above its upper end")
        require_finite("a box", self.lower, self.upper)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.lower.shape)

    @property
    def is_box(self) -> bool:
        return True

    def box(self) -> Interval:
        return Interval(self.lower, self.upper)

    def minimum(self, weight: Tensor) -> Tensor:
        middle, radius = (self.lower + self.upper) / 2, (self.upper - self.lower) / 2
        return product(weight, middle) - product(weight.abs(), radius)

    def minimiser(self, weight: Tensor) -> Tensor:
        return torch.where(weight > 0, as_rows(self.lower, weight), as_rows(self.upper, weight))

    def sample(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        return torch.lerp(self.lower, self.upper, uniform((count, *self.shape), self.lower, generator))


def linf(
    centre: Tensor,
    radius: Tensor | float,
    low: Tensor | float | None = None,
    high: Tensor | float | None = None,
) -> Box:
    """The L-infinity ball around every example, cut to the range of valid inputs.

    Args:
        centre: ``(batch, *input)``.
        radius: a number, or anything that broadcasts to `centre`.
        low: smallest valid input, likewise; None for no limit.
        high: largest valid input, likewise.

    Raises:
        ValueError: a negative radius, `low` above `high`, numbers that are not finite, or a centre of integers.
    """
    radius = per_entry(radius, centre)
    if holds((radius < 0).any(), otherwise=False):
        raise ValueError("a negative radius")
    lower, upper = centre - radius, centre + radius
    if low is not None:
        low = per_entry(low, centre)
        lower, upper = torch.maximum(lower, low), torch.maximum(upper, low)
    if high is not None:
        high = per_entry(high, centre)
        lower, upper = torch.minimum(lower, high), torch.minimum(upper, high)
    if low is not None and high is not None and not holds((per_entry(low, centre) <= high).all()):
        raise ValueError("the smallest valid value is above the largest")
    return Box(lower, upper)


def exact(values: Tensor) -> Box:
    """An input that does not vary."""
    return Box(values, values)
