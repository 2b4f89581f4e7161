"""A stack of sub-problems that moves them in batches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, Protocol, Self, TypeVar

from torch import Tensor


class Batch(Protocol):
    """Sub-problems as tensors with a leading batch dimension."""

    @property
    def margin(self) -> Tensor:
        """(batch,) how far each is from a proof: above 0 it would be proved."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: Tensor | slice) -> Self: ...


T = TypeVar("T", bound=Batch)


@dataclass
class Stack(Generic[T]):
    """Last in, first out: a proof goes deep first, so few sub-problems are open at a time."""

    join: Callable[[list[T]], T]
    parts: list[T] = field(default_factory=list)
    count: int = 0

    def push(self, batch: T) -> None:
        if len(batch):
            self.parts.append(batch)
            self.count += len(batch)

    def pop(self, most: int) -> T:
        """Up to `most` sub-problems from the top."""
        taken: list[T] = []
        while most and self.parts:
            top = self.parts.pop()
            if len(top) > most:
                self.parts.append(top[: len(top) - most])
                top = top[len(top) - most :]
            most -= len(top)
            taken.append(top)
        batch = self.join(taken)
        self.count -= len(batch)
        return batch

    def worst(self) -> float:
        """The smallest margin on the topmost batches: how far the hardest there is from a proof."""
        return min((float(p.margin.min()) for p in self.parts[-100:]), default=float("nan"))
