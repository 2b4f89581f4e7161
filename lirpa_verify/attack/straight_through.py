"""Gradients through steps: the attack sees a smooth stand-in where a function is piecewise constant.

The value stays exact, only the derivative is replaced (straight-through estimation, Bengio et al.,
arXiv:1308.3432): by that of a soft step as wide as the argument's typical size.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lirpa_verify.graph.graph import Graph
from lirpa_verify.operators.base import Operator
from lirpa_verify.operators.sign import Sign
from lirpa_verify.operators.staircase import Staircase

WIDTH = 0.5  # of the soft step, in units of the argument's mean size


@dataclass(frozen=True)
class SoftStep(Operator):
    """`Sign` with the derivative of ``x / (|x| + width)``."""

    def forward(self, *arguments: Tensor) -> Tensor:
        x = arguments[0]
        with torch.no_grad():
            width = WIDTH * x.abs().flatten(1).mean(1).reshape(-1, *[1] * (x.dim() - 1)) + torch.finfo(x.dtype).tiny
        soft = x / (x.abs() + width)
        return torch.sign(x) + (soft - soft.detach())


@dataclass(frozen=True)
class SoftStairs(Operator):
    """A staircase with the derivative of the straight line along it."""

    exact: Staircase

    def forward(self, *arguments: Tensor) -> Tensor:
        x = arguments[0]
        return self.exact.forward(x).detach() + (x - x.detach())


def with_soft_steps(graph: Graph) -> Graph:
    """The same values, with gradients that lead somewhere."""

    def soft(operator: Operator) -> Operator:
        if isinstance(operator, Sign):
            return SoftStep()
        return SoftStairs(operator) if isinstance(operator, Staircase) else operator

    return Graph(tuple(replace(node, operator=soft(node.operator)) for node in graph.nodes))
