"""Operators that only move entries: reshaping, permuting, slicing, padding, repeating, joining."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from lirpa_verify.operators.base import Interval, Linear


@dataclass(frozen=True)
class Move(Linear):
    """Every entry of the result is one of the argument (or 0)."""

    @property
    def exact_image(self) -> bool:
        return True

    @property
    def rounded_terms(self) -> int:
        return 0

    def needed(self, wanted: Tensor, interval: Interval) -> Tensor:
        return self.transpose(wanted.unsqueeze(1).to(interval.lower.dtype))[0].squeeze(1) != 0


@dataclass(frozen=True)
class Reshape(Move):
    """The same entries in another shape (row-major order)."""

    argument_shape: tuple[int, ...]
    shape: tuple[int, ...]

    def forward(self, *arguments: Tensor) -> Tensor:
        return arguments[0].reshape(arguments[0].shape[0], *self.shape)

    def transpose(self, rows: Tensor) -> tuple[Tensor, ...]:
        return (rows.reshape(*rows.shape[:2], *self.argument_shape),)


@dataclass(frozen=True)
class Permute(Move):
    """Reorders the dimensions."""

    order: tuple[int, ...]

    def forward(self, *arguments: Tensor) -> Tensor:
        return arguments[0].permute(0, *[d + 1 for d in self.order])

    def transpose(self, rows: Tensor) -> tuple[Tensor, ...]:
        back = sorted(range(len(self.order)), key=self.order.__getitem__)
        return (rows.permute(0, 1, *[d + 2 for d in back]),)


@dataclass(frozen=True)
class Expand(Move):
    """Repeats dimensions of size 1 (and new leading ones)."""

    argument_shape: tuple[int, ...]
    shape: tuple[int, ...]

    def forward(self, *arguments: Tensor) -> Tensor:
        missing = len(self.shape) - len(self.argument_shape)
        x = arguments[0].reshape(-1, *[1] * missing, *self.argument_shape)
        return x.expand(-1, *self.shape)

    def transpose(self, rows: Tensor) -> tuple[Tensor, ...]:
        missing = len(self.shape) - len(self.argument_shape)
        padded = (1,) * missing + self.argument_shape
        repeated = [i + 2 for i, (a, b) in enumerate(zip(padded, self.shape, strict=True)) if a != b]
        if repeated:
            rows = rows.sum(repeated, keepdim=True)
        return (rows.reshape(*rows.shape[:2], *self.argument_shape),)


@dataclass(frozen=True)
class Gather(Move):
    """Entry ``i`` of the flattened result is entry ``index[i]`` of the flattened argument, 0 where -1.

    Covers every constant rearrangement that has no class of its own: slices, selections, flips,
    zero padding, nearest-neighbour resizing, constant gathers.
    """

    index: Tensor  # (entries of the node,) int64
    argument_shape: tuple[int, ...]
    shape: tuple[int, ...]

    @cached_property
    def distinct(self) -> bool:
        """Whether no entry of the argument is used twice."""
        kept = self.index[self.index >= 0]
        return len(kept.unique()) == len(kept)

    @cached_property
    def padded(self) -> bool:
        return bool((self.index < 0).any())

    def forward(self, *arguments: Tensor) -> Tensor:
        x = arguments[0].flatten(1)
        picked = x.index_select(1, self.index.clamp(min=0))
        if self.padded:
            picked = picked * (self.index >= 0)
        return picked.unflatten(1, self.shape) if self.shape else picked.squeeze(1)

    def transpose(self, rows: Tensor) -> tuple[Tensor, ...]:
        flat, index = rows.reshape(*rows.shape[:2], len(self.index)), self.index
        if self.padded:
            kept = index >= 0
            flat, index = flat[:, :, kept], index[kept]
        below = flat.new_zeros(*flat.shape[:2], math.prod(self.argument_shape))
        below = below.index_copy(2, index, flat) if self.distinct else below.index_add(2, index, flat)
        return (below.reshape(*rows.shape[:2], *self.argument_shape),)


@dataclass(frozen=True)
class Concat(Linear):
    """Joins its arguments along a dimension."""

    dimension: int
    sizes: tuple[int, ...]  # of the arguments along it

    def forward(self, *arguments: Tensor) -> Tensor:
        batch = max(a.shape[0] for a in arguments)
        return torch.cat([a.expand(batch, *a.shape[1:]) for a in arguments], self.dimension + 1)

    def transpose(self, rows: Tensor) -> tuple[Tensor, ...]:
        return rows.split(self.sizes, self.dimension + 2)


@dataclass(frozen=True)
class Sum(Linear):
    """Sums over dimensions."""

    argument_shape: tuple[int, ...]
    dimensions: tuple[int, ...]
    keep: bool

    def forward(self, *arguments: Tensor) -> Tensor:
        return arguments[0].sum([d + 1 for d in self.dimensions], keepdim=self.keep)

    def transpose(self, rows: Tensor) -> tuple[Tensor, ...]:
        kept = [1 if d in self.dimensions else n for d, n in enumerate(self.argument_shape)]
        return (rows.reshape(*rows.shape[:2], *kept).expand(*rows.shape[:2], *self.argument_shape),)
