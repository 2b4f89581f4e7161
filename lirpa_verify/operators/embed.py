"""The full input of a network from the entries that vary: the others are constants."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from lirpa_verify.operators.base import Linear


@dataclass(frozen=True)
class Embed(Linear):
    """Entry i of the flattened node is ``x[index[i]]``, or ``values[i]`` where ``index[i]`` is -1."""

    index: Tensor  # (entries of the node,) int64
    values: Tensor  # (entries of the node,), 0 where an entry of x goes
    inputs: int  # entries of x
    shape: tuple[int, ...]

    @property
    def rounded_terms(self) -> int:
        return 0

    def linear(self, *arguments: Tensor) -> Tensor:
        taken = arguments[0].index_select(1, self.index.clamp(min=0)) * (self.index >= 0)
        return taken.reshape(-1, *self.shape)

    def forward(self, *arguments: Tensor) -> Tensor:
        return self.linear(*arguments) + self.values.reshape(self.shape)

    def constant(self) -> Tensor | None:
        return self.values.reshape(self.shape)

    def transpose(self, rows: Tensor) -> tuple[Tensor, ...]:
        flat = rows.reshape(*rows.shape[:2], math.prod(self.shape))
        kept = self.index >= 0
        below = flat.new_zeros(*flat.shape[:2], self.inputs)
        return (below.index_add(2, self.index[kept], flat[:, :, kept]),)
