"""Affine images of a box (zonotopes)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lirpa_verify.operators.base import Interval
from lirpa_verify.perturbations.base import Perturbation, as_rows, product, require_finite, uniform


@dataclass(frozen=True)
class Zonotope(Perturbation):
    """``centre + sum_k e_k * generators[k]`` with every e_k in [-1, 1].

    An affine image ``M z + c`` of a box with middle m and radius r has centre ``M m + c`` and the
    columns of ``M diag(r)`` as generators.

    Raises:
        ValueError: shapes that do not fit, or numbers that are not finite.
    """

    centre: Tensor  # (batch, *input)
    generators: Tensor  # (batch, generators, *input)

    def __post_init__(self) -> None:
        if self.generators.shape != (self.centre.shape[0], *self.generators.shape[1:2], *self.centre.shape[1:]):
            raise ValueError(
                f"generators of shape {tuple(self.generators.shape)} do not fit a centre of {tuple(self.centre.shape)}"
            )
        require_finite("a zonotope", self.centre, self.generators)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.centre.shape)

    @property
    def is_box(self) -> bool:
        return self.generators.shape[1] == 0

    def box(self) -> Interval:
        radius = self.generators.abs().sum(1)
        return Interval(self.centre - radius, self.centre + radius)

    def along(self, weight: Tensor) -> Tensor:
        """``<weight, generator>``: (batch, rows, generators)."""
        return weight.flatten(2) @ self.generators.flatten(2).mT

    def minimum(self, weight: Tensor) -> Tensor:
        return product(weight, self.centre) - self.along(weight).abs().sum(2)

    def minimiser(self, weight: Tensor) -> Tensor:
        step = self.along(weight.detach()).sign() @ self.generators.flatten(2)
        return as_rows(self.centre, weight) - step.reshape(weight.shape)

    def sample(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        e = 2 * uniform((count, *self.generators.shape[:2]), self.centre, generator) - 1
        return self.centre + torch.einsum("nbk,bk...->nb...", e, self.generators)
