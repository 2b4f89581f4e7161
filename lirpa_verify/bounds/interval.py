"""Interval bound propagation: the bounds of every node from those of its arguments."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from lirpa_verify.bounds.rounding import intersect, relative, widened
from lirpa_verify.bounds.sizes import rounds
from lirpa_verify.graph.graph import Graph, Node
from lirpa_verify.operators.base import Interval, Linear
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
    elif node.operator.adds_up:
        arguments = [widened(a, terms) for a in arguments]
        value = node.operator.interval(*arguments)
        if isinstance(node.operator, Linear) and node.operator.around_middle:
            value = loosened(node.operator, arguments, value)
        lower, upper = widened(value, terms)
    else:
        lower, upper = widened(node.operator.interval(*arguments), terms)
    return Interval(unbounded(lower, -torch.inf), unbounded(upper, torch.inf))


def loosened(operator: Linear, arguments: list[Interval], value: Interval) -> Interval:
    """An interval made of a middle and a radius, grown by what these have lost.

    That is relative to the terms of the larger end. Where an argument's larger end is more than twice its smaller one,
    its middle is at most three radii; else the arguments were widened by enough. Where no coefficient is negative,
    nothing is below the constant part, which keeps 0 where it was.
    """
    share, width = relative(value.lower.dtype, operator.rounded_terms), value.upper - value.lower
    lower, upper = value.lower.sub(width, alpha=share), value.upper.add(width, alpha=share)
    signs, constant = operator.one_signed, operator.constant()
    if signs is None:
        return Interval(lower, upper)
    positive = torch.stack([(a.lower >= 0).flatten(1).all(1) for a in arguments]).all(0)  # (batch,)
    positive = positive.reshape(-1, *[1] * (lower.dim() - 1))
    least = lower.new_zeros(()) if constant is None else constant
    return Interval(
        torch.where(positive & signs[0], torch.maximum(lower, least), lower),
        torch.where(positive & signs[1], torch.minimum(upper, least), upper),
    )


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
