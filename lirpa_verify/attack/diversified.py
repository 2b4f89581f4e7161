"""Starts that lie far apart in what the network makes of them (Tashiro et al., arXiv:2003.06878).

Random points of a box with many inputs have nearly the same outputs, and descent from them ends in the same few
minima. Points moved some steps along the gradient of a random direction of the outputs do not.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lirpa_verify.deadline import Deadline
from lirpa_verify.graph.graph import Graph
from lirpa_verify.operators.base import Interval

STEPS, STEP = 5, 0.25  # how many, and how long: of a box's width


def diversified(graph: Graph, points: Tensor, box: Interval, generator: torch.Generator, deadline: Deadline) -> Tensor:
    """Points moved apart.

    Args:
        graph: the network.
        points: ``(points, inputs)``, each within its box.
        box: the ends ``(points, inputs)`` that they stay between.
        generator: of the directions, uniform in the cube around 0, one for each point.
        deadline: when to be content with what has been reached.
    """
    shape = (len(points), graph.nodes[graph.output].size)
    direction = (2 * torch.rand(shape, generator=generator, dtype=torch.float64) - 1).to(points)
    step = STEP * (box.upper - box.lower)
    for _ in range(STEPS):
        points = points.detach().requires_grad_()
        with torch.enable_grad():
            objective = (graph.forward(points).flatten(1) * direction).sum()
        gradient = gradient_of(objective, points)
        if gradient is None or deadline.passed():
            break
        moved = points.detach() + step * torch.nan_to_num(gradient).sign()
        points = torch.minimum(torch.maximum(moved, box.lower), box.upper)
    return points.detach()


def gradient_of(objective: Tensor, points: Tensor) -> Tensor | None:
    """The gradient, None where the network is piecewise constant all the way: only fresh starts help there."""
    if not objective.requires_grad:
        return None
    (gradient,) = torch.autograd.grad(objective, points, allow_unused=True)
    return gradient if gradient is not None and bool((gradient != 0).any()) else None
