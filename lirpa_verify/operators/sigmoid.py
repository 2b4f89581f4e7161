"""The logistic function."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lirpa_verify.operators.s_shaped import SShaped


@dataclass(frozen=True)
class Sigmoid(SShaped):
    """``1 / (1 + exp(-x))``; with s = f(x) the derivative is s (1 - s), at most 1/4 and falling in |x|."""

    def forward(self, *arguments: Tensor) -> Tensor:
        return torch.sigmoid(arguments[0])

    def derivative(self, x: Tensor) -> Tensor:
        s = torch.sigmoid(-x.abs())
        return s * (1 - s)

    def inverse_derivative(self, slope: Tensor) -> Tensor:
        slope = slope.clamp(4 * torch.finfo(slope.dtype).tiny, 0.25)
        s = 0.5 + (0.25 - slope).sqrt()  # and 1 - s = slope / s, without cancellation
        return torch.log(s * s / slope)
