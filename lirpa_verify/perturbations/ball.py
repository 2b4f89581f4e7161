"""Balls of the Lp norms with finite p >= 1: the least value of a linear function is a dual norm."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lirpa_verify.operators.base import Interval
from lirpa_verify.operators.transforms import holds
from lirpa_verify.perturbations.base import (
    Perturbation,
    as_rows,
    entries,
    per_example,
    product,
    require_finite,
    uniform,
)


@dataclass(frozen=True)
class Ball(Perturbation):
    """``||x - centre||_p <= radius`` (arXiv:2002.12920, section 3.2). Made by `ball`."""

    centre: Tensor  # (batch, *input)
    radius: Tensor  # (batch,)
    p: float

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.centre.shape)

    @property
    def dual(self) -> float:
        """q with 1/p + 1/q = 1."""
        return math.inf if self.p == 1 else self.p / (self.p - 1)

    def box(self) -> Interval:
        radius = self.radius.reshape(-1, *[1] * (self.centre.dim() - 1))
        return Interval(self.centre - radius, self.centre + radius)

    def minimum(self, weight: Tensor) -> Tensor:
        reach = norm(weight.flatten(2), self.dual).squeeze(2)
        return product(weight, self.centre) - self.radius.unsqueeze(1) * reach

    def minimiser(self, weight: Tensor) -> Tensor:
        """Hoelder's inequality is an equality at entries ``-sign(w) |w|^(q-1)``."""
        flat = weight.detach().flatten(2)
        if self.p == 1:
            place = flat.abs().argmax(2, keepdim=True)
            step = torch.zeros_like(flat).scatter(2, place, flat.gather(2, place).sign())
        else:
            largest = flat.abs().amax(2, keepdim=True).clamp(min=torch.finfo(flat.dtype).tiny)
            step = (flat / largest).abs() ** (self.dual - 1) * flat.sign()
            step = step / norm(step, self.p).clamp(min=torch.finfo(flat.dtype).tiny)
        return as_rows(self.centre, weight) - (self.radius.reshape(-1, 1, 1) * step).reshape(weight.shape)

    def sample(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        batch, n = self.shape[0], entries(self.shape)
        direction = 2 * uniform((count, batch, n), self.centre, generator) - 1
        direction = direction * uniform((count, batch, 1), self.centre, generator)  # from flat to spiky, and back
        direction = direction / norm(direction, self.p).clamp(min=1e-12)
        depth = uniform((count, batch, 1), self.centre, generator) ** (1 / n)
        return self.centre + (direction * depth * self.radius.reshape(1, -1, 1)).reshape(count, *self.shape)


def norm(values: Tensor, order: float) -> Tensor:
    """The norm over the last dimension, which stays. High powers of the entries neither overflow nor vanish."""
    scale = values.detach().abs().amax(-1, keepdim=True).clamp(min=torch.finfo(values.dtype).tiny)
    return scale * torch.linalg.vector_norm(values / scale, order, dim=-1, keepdim=True)


def ball(centre: Tensor, radius: Tensor | float, p: float = 2.0) -> Ball:
    """The Lp ball around every example.

    Args:
        centre: ``(batch, *input)``.
        radius: a number, or one per example ``(batch,)``.
        p: order of the norm, 1 <= p < infinity (for infinity see `linf`, for "0" `l0`).

    Raises:
        ValueError: p out of its range, a negative radius, or numbers that are not finite.
    """
    if not 1 <= p < math.inf:
        raise ValueError(f"a ball of order {p}; 1 <= p < infinity is expected (linf and l0 are functions of their own)")
    radius = per_example(radius, centre)
    require_finite("a ball", centre, radius)
    if holds((radius < 0).any(), otherwise=False):
        raise ValueError("a negative radius")
    return Ball(centre, radius, float(p))
