"""The hyperbolic tangent."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lirpa_verify.operators.s_shaped import SShaped


@dataclass(frozen=True)
class Tanh(SShaped):
    """``tanh(x)``; the derivative is 1 - tanh(x)^2, falling in |x|."""

    def forward(self, *arguments: Tensor) -> Tensor:
        return torch.tanh(arguments[0])

    def derivative(self, x: Tensor) -> Tensor:
        s = torch.sigmoid(-2 * x.abs())  # 1 - tanh^2 without cancellation
        return 4 * s * (1 - s)

    def inverse_derivative(self, slope: Tensor) -> Tensor:
        slope = slope.clamp(4 * torch.finfo(slope.dtype).tiny, 1)
        # artanh(t) = log((1 + t) / (1 - t)) / 2 with 1 - t^2 = slope, without cancellation
        return torch.log((1 + (1 - slope).sqrt()).square() / slope) / 2
