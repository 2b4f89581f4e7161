"""L0 balls: some entries, no more than a number, change to any valid value."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lirpa_verify.operators.base import Interval
from lirpa_verify.operators.transforms import holds
from lirpa_verify.perturbations.base import Perturbation, as_rows, entries, per_entry, product, require_finite, uniform


@dataclass(frozen=True)
class Sparse(Perturbation):
    """At most `count` entries of an example leave `centre`, each for anywhere in [low, high]. Made by `l0`."""

    centre: Tensor  # (batch, *input)
    low: Tensor  # (batch, *input)
    high: Tensor  # (batch, *input)
    count: int

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.centre.shape)

    def box(self) -> Interval:
        if self.count == 0:
            return Interval(self.centre, self.centre)
        return Interval(torch.minimum(self.low, self.centre), torch.maximum(self.high, self.centre))

    def gains(self, weight: Tensor) -> Tensor:
        """(batch, rows, entries), <= 0: what changing one entry adds to ``<weight, x>`` at best."""
        down = weight * (self.low - self.centre).unsqueeze(1)
        up = weight * (self.high - self.centre).unsqueeze(1)
        return torch.minimum(down, up).flatten(2).clamp(max=0)

    def minimum(self, weight: Tensor) -> Tensor:
        """Entries contribute independently, so the best ones to change are those that gain most."""
        best = self.gains(weight).topk(self.count, dim=2, largest=False, sorted=False).values
        return product(weight, self.centre) + best.sum(2)

    def minimiser(self, weight: Tensor) -> Tensor:
        gains = self.gains(weight.detach())
        chosen = torch.zeros_like(gains, dtype=torch.bool)
        chosen = chosen.scatter(2, gains.topk(self.count, dim=2, largest=False).indices, True) & (gains < 0)
        end = torch.where(weight > 0, as_rows(self.low, weight), as_rows(self.high, weight))
        return torch.where(chosen.reshape(weight.shape), end, as_rows(self.centre, weight))

    def sample(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        batch, n = self.shape[0], entries(self.shape)
        order = uniform((count, batch, n), self.centre, generator).argsort(2)
        changed = (order < self.count).reshape(count, *self.shape)
        value = torch.lerp(self.low, self.high, uniform((count, *self.shape), self.centre, generator))
        return torch.where(changed, value, self.centre)


def l0(centre: Tensor, count: int, low: Tensor | float, high: Tensor | float) -> Sparse:
    """At most `count` entries change.

    Args:
        centre: ``(batch, *input)``.
        count: entries that may change.
        low: smallest value that an entry may change to: a number or what broadcasts to `centre`.
        high: largest such value.

    Raises:
        ValueError: a negative count, low above high, or numbers that are not finite.
    """
    if count < 0:
        raise ValueError(f"{count} entries cannot change")
    low, high = per_entry(low, centre), per_entry(high, centre)
    require_finite("a sparse perturbation", centre, low, high)
    if holds((low > high).any(), otherwise=False):
        raise ValueError("the smallest valid value is above the largest")
    return Sparse(centre, low, high, min(count, entries(tuple(centre.shape))))
