"""Several perturbed inputs at once: what bounds see, one flat vector per example."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, reduce

import torch
from torch import Tensor

from lirpa_verify.operators.base import Interval
from lirpa_verify.perturbations.base import Perturbation, entries
from lirpa_verify.perturbations.box import exact


@dataclass(frozen=True)
class Region:
    """The product of sets, one per input; sets with a batch of 1 hold for every example."""

    parts: tuple[Perturbation, ...]

    def __post_init__(self) -> None:
        batches = {part.shape[0] for part in self.parts} - {1}
        if len(batches) > 1:
            raise ValueError(f"the inputs have different numbers of examples: {sorted(batches)}")

    @property
    def batch(self) -> int:
        return max(part.shape[0] for part in self.parts)

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        return tuple(entries(part.shape) for part in self.parts)

    @property
    def is_box(self) -> bool:
        return all(part.is_box for part in self.parts)

    @cached_property
    def box(self) -> Interval:
        """Ends ``(batch, inputs)``."""
        boxes = [part.box() for part in self.parts]
        lower, upper = ([end.flatten(1).expand(self.batch, -1) for end in ends] for ends in zip(*boxes, strict=True))
        return Interval(torch.cat(lower, 1), torch.cat(upper, 1))

    def split(self, weight: Tensor) -> list[Tensor]:
        """``(batch, rows, inputs)`` to one ``(batch, rows, *input)`` per part."""
        pieces = weight.split(self.sizes, 2)
        return [
            piece.reshape(*piece.shape[:2], *part.shape[1:]) for piece, part in zip(pieces, self.parts, strict=True)
        ]

    def minimum(self, weight: Tensor) -> Tensor:
        """The least ``<weight, x>``: ``(batch or 1, rows, inputs)`` to ``(batch, rows)``."""
        weight = weight.expand(self.batch, -1, -1)
        total = weight.new_zeros(weight.shape[:2])
        for part, piece in zip(self.parts, self.split(weight), strict=True):
            total = total + whole(part, self.batch).minimum(piece)
        return total

    def minimiser(self, weight: Tensor) -> Tensor:
        """Where it is taken: ``(batch, rows, inputs)``."""
        weight = weight.expand(self.batch, -1, -1)
        points = [
            whole(part, self.batch).minimiser(piece).flatten(2)
            for part, piece in zip(self.parts, self.split(weight), strict=True)
        ]
        return torch.cat(points, 2)

    def sample(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """``(count, batch, inputs)``."""
        points = [part.sample(count, generator).flatten(2).expand(-1, self.batch, -1) for part in self.parts]
        return torch.cat(points, 2)

    def example(self, i: int) -> Region:
        """The sets of one example."""
        return Region(tuple(part if part.shape[0] == 1 else part.example(i) for part in self.parts))

    def to(self, dtype: torch.dtype, device: torch.device | str | None = None) -> Region:
        return Region(tuple(part.to(dtype, device) for part in self.parts))


def whole(part: Perturbation, batch: int) -> Perturbation:
    """The set repeated for every example."""
    return part if part.shape[0] == batch else part.map(lambda t: t.expand(batch, *t.shape[1:]))


def joined(parts: Sequence[Perturbation | Tensor]) -> Region:
    """Sets and tensors that do not vary as one region, in the widest of their types."""
    types = [part.dtype for part in parts if part.dtype.is_floating_point]
    dtype = reduce(torch.promote_types, types) if types else torch.get_default_dtype()
    sets = [exact(part.to(dtype)) if isinstance(part, Tensor) else part for part in parts]
    return Region(tuple(part if part.dtype == dtype else part.to(dtype) for part in sets))
