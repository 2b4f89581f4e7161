"""Zeros around a node, or its border cut off."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lirpa_verify.operators.rearrange import Move


@dataclass(frozen=True)
class Pad(Move):
    """Entries added (or, where negative, removed) before and after, the last dimension first as in torch's `pad`."""

    amounts: tuple[int, ...]

    def forward(self, *arguments: Tensor) -> Tensor:
        return torch.nn.functional.pad(arguments[0], self.amounts)

    def transpose(self, rows: Tensor) -> tuple[Tensor, ...]:
        return (torch.nn.functional.pad(rows, tuple(-n for n in self.amounts)),)
