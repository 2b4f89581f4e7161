"""A network whose first ReLUs are bounded over the box of its inputs instead of intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from lirpa_verify.bounds.crown import one_hot_rows, push
from lirpa_verify.bounds.sizes import sizes, weighed_exactly
from lirpa_verify.graph.graph import Graph
from lirpa_verify.operators.base import Interval
from lirpa_verify.operators.relu import ReLU
from lirpa_verify.operators.relu_over_box import ReLUOverBox

LARGEST = 2**14  # coefficients of one ReLU's arguments: each has a parameter in every sub-problem


@torch.no_grad()
def over_box(graph: Graph, values: Sequence[Interval]) -> Graph | None:
    """The same network within a box; None where no ReLU takes an affine function of few inputs.

    Args:
        graph: the network, whose nodes keep their numbers.
        values: bounds of its nodes over one box, ``(1, *node)`` each.
    """
    first = [u for u in range(len(graph.nodes)) if takes_affine(graph, u)]
    if not first or not all(bool(torch.isfinite(end).all()) for end in values[0]):
        return None
    known = sizes(graph, values)
    nodes = list(graph.nodes)
    for u in first:
        node = graph.nodes[u]
        (z,) = node.arguments
        rows = one_hot_rows(torch.arange(node.size, device=values[0].lower.device), node.shape, values[0].lower)
        pushed = push(graph, {z: rows}, {}, {}, lambda i: False, sizes=known, weigh=weighed_exactly)
        weight, bias = pushed.coefficients[0][0], pushed.offset[0]
        ends = weight * values[0].lower, weight * values[0].upper
        low, high = torch.minimum(*ends), torch.maximum(*ends)
        size = torch.as_tensor(pushed.size).expand(1, node.size)[0]
        terms = size + bias.abs() + torch.maximum(low.abs(), high.abs()).sum(1)
        assert isinstance(node.operator, ReLU)
        operator = ReLUOverBox(node.operator.leak, weight=weight, low=low, high=high, bias=bias, terms=terms)
        nodes[u] = replace(node, operator=operator, arguments=(z, 0))
    return Graph(tuple(nodes))


def takes_affine(graph: Graph, u: int) -> bool:
    """Whether node u is a ReLU with nothing but linear operators between it and the input, and small."""
    node = graph.nodes[u]
    small = node.size * graph.n_inputs <= LARGEST
    below = graph.ancestors[u] - {u}
    linear = not any(graph.nodes[a].operator.bounded for a in below)
    return type(node.operator) is ReLU and graph.depends_on_input[u] and small and linear
