"""The function x / (1 + |x|)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lirpa_verify.operators.s_shaped import SShaped


@dataclass(frozen=True)
class Softsign(SShaped):
    """``x / (1 + |x|)`` with derivative 1 / (1 + |x|)^2."""

    def forward(self, *arguments: Tensor) -> Tensor:
        return arguments[0] / (1 + arguments[0].abs())

    def derivative(self, x: Tensor) -> Tensor:
        return 1 / (1 + x.abs()).square()

    def inverse_derivative(self, slope: Tensor) -> Tensor:
        return slope.clamp(4 * torch.finfo(slope.dtype).tiny, 1).rsqrt() - 1
