"""What a perturbation is: for each example the set of values that one input may take.

All that bounds need of a set is the smallest value of a linear function on it (arXiv:2002.12920,
section 3.2) and a box around it. Everything is batched over examples: tensors start with `batch`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from lirpa_verify.operators.base import Interval
from lirpa_verify.operators.transforms import holds


@dataclass(frozen=True)
class Perturbation:
    """A set of inputs for every example; every tensor field has a leading batch dimension."""

    @property
    def shape(self) -> tuple[int, ...]:
        """``(batch, *input)``."""
        raise NotImplementedError

    @property
    def is_box(self) -> bool:
        """Whether the set is all of `box`."""
        return False

    def box(self) -> Interval:
        """The smallest box around the set, ``(batch, *input)`` ends."""
        raise NotImplementedError

    def minimum(self, weight: Tensor) -> Tensor:
        """The least ``<weight, x>`` over the set: ``(batch, rows, *input)`` to ``(batch, rows)``; differentiable."""
        raise NotImplementedError

    def minimiser(self, weight: Tensor) -> Tensor:
        """Points of the set where ``<weight, x>`` is least: ``(batch, rows, *input)`` to the same shape."""
        raise NotImplementedError

    def sample(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """Random points of the set, ``(count, batch, *input)``; no distribution in particular."""
        raise NotImplementedError

    @property
    def dtype(self) -> torch.dtype:
        """Of its points."""
        return next(t.dtype for t in self.tensors() if t.is_floating_point())

    def tensors(self) -> list[Tensor]:
        """The fields that are tensors."""
        fields = (getattr(self, f.name) for f in dataclasses.fields(self))
        return [value for value in fields if isinstance(value, Tensor)]

    def map(self, function: Callable[[Tensor], Tensor]) -> Self:
        """The same set with a function applied to every tensor (a conversion, or a choice of examples)."""
        changes = {
            f.name: function(value)
            for f in dataclasses.fields(self)
            if isinstance(value := getattr(self, f.name), Tensor)
        }
        return dataclasses.replace(self, **changes)

    def to(self, dtype: torch.dtype, device: torch.device | str | None = None) -> Self:
        """In another precision or on another device; None for where it is."""
        return self.map(lambda t: t.to(device or t.device, dtype if t.is_floating_point() else t.dtype))

    def example(self, i: int) -> Self:
        """The set of one example, with a batch of 1."""
        return self.map(lambda t: t[i : i + 1])


def product(weight: Tensor, values: Tensor) -> Tensor:
    """``<weight, values>`` per example and row: (batch, rows, *input) with (batch, *input) -> (batch, rows)."""
    flat = values.reshape(values.shape[0], -1, 1)
    return torch.matmul(weight.reshape(*weight.shape[:2], flat.shape[1]), flat).squeeze(2)


def per_example(value: Tensor | float, like: Tensor) -> Tensor:
    """A number or one per example as ``(batch,)``."""
    return broadcast(value, like, like.shape[:1])


def per_entry(value: Tensor | float, like: Tensor) -> Tensor:
    """A number, or a tensor that broadcasts to `like`, as ``(batch, *input)``."""
    return broadcast(value, like, like.shape)


def broadcast(value: Tensor | float, like: Tensor, shape: torch.Size) -> Tensor:
    if not like.is_floating_point():  # numbers would be cut to integers
        raise ValueError(f"a perturbation of a tensor of type {like.dtype}; floating point is expected")
    value = torch.as_tensor(value, dtype=like.dtype, device=like.device)
    try:
        return value.expand(shape)
    except RuntimeError:
        raise ValueError(f"a tensor of shape {tuple(value.shape)} does not broadcast to {tuple(shape)}") from None


def require_finite(what: str, *tensors: Tensor) -> None:
    """Infinite and missing numbers would make bounds meaningless.

    Raises:
        ValueError: naming `what`, if some number is not finite.
    """
    if not all(holds(torch.isfinite(t).all()) for t in tensors):
        raise ValueError(f"{what} has numbers that are not finite")


def entries(shape: tuple[int, ...]) -> int:
    """Of one example."""
    return math.prod(shape[1:])


def as_rows(values: Tensor, like: Tensor) -> Tensor:
    """``(batch, *input)`` broadcast over the rows of ``(batch, rows, *input)``."""
    return values.unsqueeze(1).expand_as(like)


def uniform(shape: tuple[int, ...], like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Uniform numbers in [0, 1), the same on every device."""
    return torch.rand(shape, dtype=torch.float64, generator=generator).to(like)


class EmptySet(ValueError):
    """A perturbation that contains no point."""
