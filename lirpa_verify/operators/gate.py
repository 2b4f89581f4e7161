"""Gated units x * g(x) with a smooth step g: GELU (both forms), SiLU and Mish.

Their derivative falls to a minimum at `bottom` < 0, rises to a maximum at `top` > 0 and falls to 1.
So f(x) - kx has its inner minimum on the middle piece, its inner maxima on the outer ones. The
inverse of f' on each piece comes from a table, polished by Newton's method; an error e of the point
changes the offset by the order of e^2 only, since the point is stationary.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import torch
from torch import Tensor

from lirpa_verify.operators.base import Interval
from lirpa_verify.operators.univariate import Univariate

NODES = 4096  # of a table
NEWTON_STEPS = 2


@dataclass(frozen=True)
class Gate(Univariate):
    """A subclass gives `forward`, `derivative`, `second_derivative` and the three points."""

    bottom: ClassVar[float]  # where f' is least
    top: ClassVar[float]  # where f' is largest
    reach: ClassVar[float]  # beyond it f' is 0 or 1 up to rounding

    def second_derivative(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def stationary(self, slope: Tensor, interval: Interval, below: bool) -> tuple[Tensor, ...]:
        return tuple(self.solve(slope, *piece, NEWTON_STEPS) for piece in self.pieces(below))

    def nearly_stationary(self, slope: Tensor, interval: Interval, below: bool) -> tuple[Tensor, ...]:
        return tuple(self.solve(slope, *piece, 0) for piece in self.pieces(below))

    def pieces(self, below: bool) -> tuple[tuple[float, float], ...]:
        """Where f' is monotone, growing (`below`) or falling."""
        return ((self.bottom, self.top),) if below else ((-self.reach, self.bottom), (self.top, self.reach))

    def solve(self, slope: Tensor, left: float, right: float, steps: int) -> Tensor:
        """The x of a monotone piece with f'(x) = slope; the nearer end where there is none."""
        points, values = table(self, left, right, slope.dtype, slope.device)
        cell = torch.searchsorted(values, slope.contiguous()).clamp(1, NODES - 1) - 1
        a, b = points[cell], points[cell + 1]
        x = (a + b) / 2
        low, high = torch.minimum(a, b), torch.maximum(a, b)
        for _ in range(steps):
            step = (self.derivative(x) - slope) / self.second_derivative(x)
            x = torch.maximum(torch.minimum(x - torch.nan_to_num(step), high), low)
        return x


@lru_cache(maxsize=64)
def table(gate: Gate, left: float, right: float, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """Points of a monotone piece in the order of growing derivative, and their derivatives."""
    points = torch.linspace(left, right, NODES, dtype=torch.float64)
    values = gate.derivative(points)
    if values[0] > values[-1]:
        points, values = points.flip(0), values.flip(0)
    return points.to(device, dtype), values.cummax(0).values.to(device, dtype)


@dataclass(frozen=True)
class GELU(Gate):
    """``x * Phi(x)`` with the distribution function of the normal distribution (arXiv:1606.08415)."""

    bottom: ClassVar[float] = -math.sqrt(2)
    top: ClassVar[float] = math.sqrt(2)
    reach: ClassVar[float] = 9.0
    inflections: ClassVar[tuple[float, ...]] = (bottom, top)
    turning: ClassVar[tuple[float, ...]] = (-0.7517915246935645,)

    def forward(self, *arguments: Tensor) -> Tensor:
        return arguments[0] * normal(arguments[0])

    def derivative(self, x: Tensor) -> Tensor:
        return normal(x) + x * density(x)

    def second_derivative(self, x: Tensor) -> Tensor:
        return density(x) * (2 - x * x)


def normal(x: Tensor) -> Tensor:
    return 0.5 * torch.erfc(x * -math.sqrt(0.5))


def density(x: Tensor) -> Tensor:
    return torch.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)


@dataclass(frozen=True)
class TanhGELU(Gate):
    """``x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3)))``.

    The three points are those of the usual `cube`; for others within rounding of it, they are wrong by that much.
    """

    cube: float = 0.044715
    bottom: ClassVar[float] = -1.4185040087908284
    top: ClassVar[float] = 1.4185040087908284
    reach: ClassVar[float] = 9.0
    inflections: ClassVar[tuple[float, ...]] = (bottom, top)
    turning: ClassVar[tuple[float, ...]] = (-0.7524614220710162,)

    def parts(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The step g, its derivative, and the first two derivatives of the argument of the logistic function."""
        c = 2 * math.sqrt(2 / math.pi)  # (1 + tanh(z / 2)) / 2 is the logistic function of z
        g = torch.sigmoid(c * (x + self.cube * x**3))
        first = c * (1 + 3 * self.cube * x * x)
        return g, g * (1 - g) * first, first, 6 * c * self.cube * x

    def forward(self, *arguments: Tensor) -> Tensor:
        return arguments[0] * self.parts(arguments[0])[0]

    def derivative(self, x: Tensor) -> Tensor:
        g, slope, _, _ = self.parts(x)
        return g + x * slope

    def second_derivative(self, x: Tensor) -> Tensor:
        g, slope, first, second = self.parts(x)
        return 2 * slope + x * (slope * (1 - 2 * g) * first + g * (1 - g) * second)


@dataclass(frozen=True)
class SiLU(Gate):
    """``x * sigmoid(x)`` (swish)."""

    bottom: ClassVar[float] = -2.3993572805154677
    top: ClassVar[float] = 2.3993572805154677
    reach: ClassVar[float] = 45.0
    inflections: ClassVar[tuple[float, ...]] = (bottom, top)
    turning: ClassVar[tuple[float, ...]] = (-1.2784645427610738,)

    def forward(self, *arguments: Tensor) -> Tensor:
        return arguments[0] * torch.sigmoid(arguments[0])

    def derivative(self, x: Tensor) -> Tensor:
        s = torch.sigmoid(x)
        return s * (1 + x * torch.sigmoid(-x))

    def second_derivative(self, x: Tensor) -> Tensor:
        s = torch.sigmoid(x)
        return s * (1 - s) * (2 + x * (1 - 2 * s))


@dataclass(frozen=True)
class Mish(Gate):
    """``x * tanh(softplus(x))`` (arXiv:1908.08681)."""

    bottom: ClassVar[float] = -2.2563763963607931
    top: ClassVar[float] = 1.4905711794854285
    reach: ClassVar[float] = 45.0
    inflections: ClassVar[tuple[float, ...]] = (bottom, top)
    turning: ClassVar[tuple[float, ...]] = (-1.1924312145154952,)

    def step(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """tanh(softplus(x)), its derivative, and the logistic function."""
        s = torch.sigmoid(x)
        # tanh(log(y)) = (y^2 - 1) / (y^2 + 1) with y = 1 + e^x = 1 / (1 - s)
        rest = torch.sigmoid(-x)
        t = (1 - rest * rest) / (1 + rest * rest)
        return t, 4 * rest * rest / (1 + rest * rest).square() * s, s

    def forward(self, *arguments: Tensor) -> Tensor:
        return arguments[0] * self.step(arguments[0])[0]

    def derivative(self, x: Tensor) -> Tensor:
        t, slope, _ = self.step(x)
        return t + x * slope

    def second_derivative(self, x: Tensor) -> Tensor:
        t, slope, s = self.step(x)
        return slope * (2 + x * (1 - s - 2 * t * s))
