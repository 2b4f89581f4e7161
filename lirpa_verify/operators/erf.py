"""The error function."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lirpa_verify.operators.s_shaped import SShaped

PEAK = 2 / math.sqrt(math.pi)


@dataclass(frozen=True)
class Erf(SShaped):
    """``erf(x)`` with derivative 2 / sqrt(pi) * exp(-x^2)."""

    def forward(self, *arguments: Tensor) -> Tensor:
        return torch.erf(arguments[0])

    def derivative(self, x: Tensor) -> Tensor:
        return PEAK * torch.exp(-x * x)

    def inverse_derivative(self, slope: Tensor) -> Tensor:
        slope = slope.clamp(4 * torch.finfo(slope.dtype).tiny, PEAK)
        return (-torch.log(slope / PEAK)).clamp(min=0).sqrt()
