"""Estimates of bounds from a sample of the inputs, for the steps of a search that ends with all of them.

In a collapsed network most of the work is one matrix product: coefficients of the undecided neurons times what these
have of thousands of inputs directly. All that is wanted of the result is the sum of its absolute values times radii,
which a random eighth of the inputs tells well. Gradient steps that take another part each see all inputs
in turn (stochastic gradients: Robbins and Monro 1951), and what they found is bounded with all inputs afterwards: an
estimate proves nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lirpa_verify.graph.graph import Graph, Node
from lirpa_verify.operators.base import Interval
from lirpa_verify.operators.joint_dense import JointDense
from lirpa_verify.operators.rearrange import Gather

MOST, LEAST_INPUTS = 8, 96  # parts, and inputs in each: with fewer the rest of a pass costs more


@dataclass(frozen=True)
class Part:
    """The network as a function of some of the inputs, all others at their middle."""

    graph: Graph
    box: Interval  # (batch, inputs of the part), around 0, wider by as much as there are fewer inputs
    index: Tensor  # (inputs of the part,)
    middle: Tensor  # (inputs,) of the whole box

    def target(self, start: Mapping[int, Tensor], rhs: Tensor) -> tuple[dict[int, Tensor], Tensor]:
        """What stands for ``sum(<start[i], node i>) - rhs``, where the start may be the input too."""
        if 0 not in start:
            return dict(start), rhs
        return {**start, 0: start[0][..., self.index]}, rhs - start[0] @ self.middle


def lacking(parts: Sequence[Part], weight: Tensor, box: Interval) -> tuple[Tensor, ...]:
    """Per part (batch, rows): the bound less its estimate, from its weights ``(batch, rows, inputs)``.

    Args:
        parts: of the inputs.
        weight: of the linear bound.
        box: ``(1, inputs)`` ends, from which the parts were made.
    """
    radii = ((box.lower - box.upper) / 2).mT.repeat(1, len(parts))
    for k, part in enumerate(parts):
        radii[part.index, k] += part.box.upper[0]
    return (weight.detach().abs() @ radii).unbind(2)


def input_parts(graph: Graph, box: Interval) -> tuple[Part, ...]:
    """Parts that have every input once; none where the inputs are not what costs most.

    Args:
        graph: the network.
        box: ``(batch, inputs)`` ends.
    """
    count = min(MOST, graph.n_inputs // LEAST_INPUTS)
    direct = graph.nodes[1].operator
    if count < 2 or graph.users[0] != (1,) or not isinstance(direct, JointDense) or 0 in graph.bounded:
        return ()
    weights = [node.operator.weight.numel() for node in graph.nodes if isinstance(node.operator, JointDense)]
    if 2 * direct.weight.numel() < sum(weights):
        return ()
    middle, radius = (box.lower + box.upper) / 2, count * (box.upper - box.lower) / 2
    bias = direct.bias + middle[0] @ direct.weight
    parts = []
    for index in scattered(graph.n_inputs, count):
        index = index.to(bias.device)
        operator = replace(direct, weight=direct.weight[index], bias=bias, parts=(len(index),))
        first = replace(graph.nodes[0], shape=(len(index),)), replace(graph.nodes[1], operator=operator)
        chosen = radius[:, index]
        rest = [taken_directly(node, operator) for node in graph.nodes[2:]]
        parts.append(Part(Graph((*first, *rest)), Interval(-chosen, chosen), index, middle[0]))
    return tuple(parts)


def taken_directly(node: Node, direct: JointDense) -> Node:
    """Entries of node 1 as a matrix product of their own: few inputs are added up faster than rows of many neurons."""
    if node.arguments != (1,) or not isinstance(node.operator, Gather) or node.operator.padded:
        return node
    k = node.operator.index
    own = JointDense(direct.weight[:, k].contiguous(), direct.bias[k], direct.terms[k], direct.parts)
    return replace(node, operator=own, arguments=(0,))


def scattered(size: int, count: int) -> list[Tensor]:
    """Every index below `size` in one of `count` random parts, no two of one block of `count` neighbours together."""
    blocks = torch.rand(-(-size // count), count, generator=torch.Generator().manual_seed(0)).argsort(1)
    owner = blocks.flatten()[:size]
    return [(owner == k).nonzero().flatten() for k in range(count)]
