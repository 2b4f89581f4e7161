"""Interval bound propagation: the bounds of every node from those of its arguments."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from lirpa_verify.bounds.rounding import intersect, widened
from lirpa_verify.bounds.sizes import rounds
from lirpa_verify.graph.graph import Graph, Node
from lirpa_verify.operators.base import Interval, Linear
from lirpa_verify.operators.enclosure import Enclosure
from lirpa_verify.operators.transforms import holds


def interval_step(node: Node, values: list[Interval]) -> Interval:
    """Bounds of one node, rounding included; an end that is not a number (a pole, inf - inf) becomes unbounded.

    Where terms cancel, the error is relative to the terms: widening the arguments relative to their own
    size adds just that to the result.
    """
    arguments = [values[a] for a in node.arguments]
    terms = node.operator.rounded_terms
    if terms == 0 or not rounds(node):
        lower, upper = node.operator.interval(*arguments)
    elif isinstance(node.operator, Linear | Enclosure):
        lower, upper = widened(node.operator.interval(*(widened(a, terms) for a in arguments)), terms)
    else:
        lower, upper = widened(node.operator.interval(*arguments), terms)
    return Interval(unbounded(lower, -torch.inf), unbounded(upper, torch.inf))


def unbounded(end: Tensor, value: float) -> Tensor:
    if holds(torch.isfinite(end.detach().sum()), otherwise=False):  # one quick pass, nearly always enough
        return end
    return torch.where(torch.isnan(end), value, end)


def interval_bounds(graph: Graph, box: Interval, known: Mapping[int, Interval] | None = None) -> list[Interval]:
    """Bounds of every node over boxes.

    Args:
        graph: the network.
        box: lower and upper ends, ``(batch, inputs)`` each.
        known: bounds of some nodes that hold as well; results are intersected with them.

    Returns:
        One interval per node, ``(batch or 1, *node)``.
    """
    known = known or {}
    values = [box]
    for i, node in enumerate(graph.nodes[1:], start=1):
        value = interval_step(node, values)
        values.append(intersect(value, known[i]) if i in known else value)
    return values
