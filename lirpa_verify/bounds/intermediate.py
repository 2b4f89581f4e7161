"""Bounds of the nodes that feed nonlinear operators, which every linear relaxation needs first.

Intervals are propagated through the whole graph; where a nonlinear operator needs them tighter,
they are intersected with forward or backward linear bounds. Only entries whose relaxation would
change are bounded backwards (a ReLU of known sign needs nothing), and nodes whose interval is
already exact are left alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from lirpa_verify.bounds.crown import backward, one_hot_rows
from lirpa_verify.bounds.forward import concretise, forms_step, input_forms
from lirpa_verify.bounds.interval import interval_step
from lirpa_verify.bounds.rounding import intersect, outward
from lirpa_verify.graph.graph import Graph
from lirpa_verify.operators.base import Interval, Slopes

Method = Literal["ibp", "forward", "crown"]
CHUNK_BYTES = 2**26  # of coefficients alive at one node in a backward pass


def bound_nodes(
    graph: Graph,
    box: Interval,
    method: Method = "crown",
    known: Mapping[int, Interval] | None = None,
    slopes: Mapping[int, Mapping[int, Slopes]] | None = None,
) -> list[Interval]:
    """Bounds of every node, tight at the nodes that nonlinear operators take.

    Args:
        graph: the network.
        box: ``(batch, inputs)`` ends.
        method: what tightens the intervals: nothing, forward or backward linear bounds.
        known: bounds of some nodes that hold as well (of a parent box, say).
        slopes: free slopes per start node and nonlinear node, for `method` crown.

    Returns:
        One interval per node, ``(batch or 1, *node)``.
    """
    known = known or {}
    slopes = slopes or {}
    values, forms = [box], [input_forms(graph, box)] if method == "forward" else []
    bounded = set(graph.bounded)
    defaults: dict[int, Slopes] = {}
    for i, node in enumerate(graph.nodes[1:], start=1):
        value = interval_step(node, values)
        if i in known:
            value = intersect(value, known[i])
        if method == "forward":
            forms.append(forms_step(graph, i, forms, values, box))
        wanted = i in bounded and not graph.exact_interval[i] and graph.depends_on_input[i]
        if wanted and method == "forward":
            value = intersect(value, outward(concretise(forms[i], box)))
        elif wanted and method == "crown":
            value = tighten(graph, i, box, value, values, slopes.get(i) or defaults)
        values.append(value)
        if node.operator.bounded and method == "crown":
            default = node.operator.default_slopes(*(values[a] for a in node.arguments))
            if default is not None:
                defaults[i] = default
    return values


def tighten(
    graph: Graph, i: int, box: Interval, value: Interval, values: list[Interval], slopes: Mapping[int, Slopes]
) -> Interval:
    """Intersects the bounds of node i with backward bounds of its undecided entries."""
    index = undecided_entries(graph, i, value)
    if len(index) == 0:
        return value
    batch = box.lower.shape[0]
    lower, upper = value.lower.expand(batch, *graph.nodes[i].shape), value.upper.expand(batch, *graph.nodes[i].shape)
    lower, upper = lower.flatten(1).clone(), upper.flatten(1).clone()
    for part in index.split(max(1, rows_per_chunk(graph, i, batch, box.lower.element_size()) // 2)):
        rows = one_hot_rows(part, graph.nodes[i].shape, box.lower)
        bound = backward(graph, {i: rows}, dict(enumerate(values)), slopes).lower(box)
        below, above = bound[:, : len(part)], -bound[:, len(part) :]
        found = intersect(Interval(lower[:, part], upper[:, part]), outward(Interval(below, above)))
        lower[:, part], upper[:, part] = found
    return Interval(lower.unflatten(1, graph.nodes[i].shape), upper.unflatten(1, graph.nodes[i].shape))


def undecided_entries(graph: Graph, i: int, value: Interval) -> Tensor:
    """Flat indices of the entries of node i that some nonlinear user wants tighter, in any box of the batch."""
    mask = torch.zeros(math.prod(graph.nodes[i].shape), dtype=torch.bool, device=value.lower.device)
    for user in graph.users[i]:
        node = graph.nodes[user]
        if not node.operator.bounded:
            continue
        for position, argument in enumerate(node.arguments):
            if argument == i:
                mask |= node.operator.undecided(value, position).flatten(1).any(0)
    return mask.nonzero().flatten()


def rows_per_chunk(graph: Graph, i: int, batch: int, element: int) -> int:
    """How many rows a backward pass from node i may carry at once."""
    widest = max(graph.nodes[a].size for a in graph.ancestors[i])
    return max(2, CHUNK_BYTES // max(1, batch * widest * element))
