"""What a violation implies for the neurons that its rows are made of: constraints that hold wherever it is.

A row at most its right-hand side confines every one of its terms, given the least that the others can be (feasibility-
based bound tightening; Belotti et al., Optimization Methods and Software 2009). Where the row has little room, neurons
lose the sign that needs more: of a sum of ReLUs that must be 0, none is active.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from lirpa_verify.bounds.alpha_crown import Splits
from lirpa_verify.bounds.crown import push
from lirpa_verify.bounds.rounding import RELATIVE
from lirpa_verify.bounds.sizes import magnitude, sizes, weighed_exactly
from lirpa_verify.graph.graph import Graph
from lirpa_verify.operators.base import Interval
from lirpa_verify.operators.relu import ReLU

WORTH = 0.5  # of the positive part of an interval may be left, for a bound to be worth a constraint


@torch.no_grad()
def implied(graph: Graph, values: Sequence[Interval], rows: Mapping[int, Tensor], rhs: Tensor) -> Splits:
    """Constraints on arguments of ReLUs that hold where all rows are at most their right-hand sides.

    Args:
        graph: the network, in float64.
        values: bounds of every node over one box (batch 1).
        rows: coefficients ``(1, conjuncts, *node)`` at the output (and the input).
        rhs: ``(conjuncts,)``.
    """
    known = sizes(graph, values)
    bounded = [node.operator.bounded for node in graph.nodes]
    pushed = push(graph, rows, {}, {}, bounded.__getitem__, sizes=known, weigh=weighed_exactly)
    least = pushed.offset[0] - rhs  # (conjuncts,)
    size = torch.as_tensor(pushed.size).reshape(-1) + pushed.offset[0].abs() + rhs.abs()
    for i, coefficients in pushed.coefficients.items():
        lower, upper = values[i]
        least = least + torch.minimum(coefficients * lower, coefficients * upper).flatten(2).sum(2)[0]
        size = size + (coefficients.abs() * magnitude(values[i])).flatten(2).sum(2)[0]
    room = RELATIVE[least.dtype] * size - least  # by how much a term may be above its least
    found = Splits({}, {})
    for i, coefficients in pushed.coefficients.items():
        operator = graph.nodes[i].operator
        if isinstance(operator, ReLU) and operator.leak == 0:
            z = graph.nodes[i].arguments[0]
            found.sign[z], found.point[z] = constraints(values[z], ends_of(coefficients, room, values[i]))
    return found


def ends_of(coefficients: Tensor, room: Tensor, interval: Interval) -> Interval:
    """Bounds of a node's entries from all rows that it is part of."""
    lower, upper = (end.unsqueeze(1) for end in interval)
    reach = room.reshape(1, -1, *[1] * (coefficients.dim() - 2)) / coefficients.abs()
    up = torch.where(coefficients > 0, lower + reach, torch.inf)
    down = torch.where(coefficients < 0, upper - reach, -torch.inf)
    return Interval(down.amax(1), up.amin(1))


def constraints(argument: Interval, output: Interval) -> tuple[Tensor, Tensor]:
    """Signs and points of what bounds of ReLUs say about their arguments.

    An output of at most u >= 0 has such an argument; one of at least l > 0 is its argument.
    """
    lower, upper = argument
    crossing = (lower < 0) & (upper > 0)
    active = crossing & (output.lower > 0)
    high = output.upper.clamp(min=0)
    inactive = crossing & ~active & (high < WORTH * upper)
    point = torch.where(inactive, high, torch.where(active, output.lower, 0.0))
    return inactive.to(lower) - active.to(lower), point
