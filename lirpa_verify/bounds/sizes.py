"""How large the numbers are that a backward pass adds up, which is what its rounding errors are relative to.

A bound can be small because large terms cancel. The error of ``<rows, W x + b>`` is relative to
``<|rows|, |W| |x| + |b|>``; a pass gathers these sizes node by node (running error analysis: Higham,
Accuracy and Stability of Numerical Algorithms, chapter 3).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lirpa_verify.graph.graph import Graph, Node
from lirpa_verify.operators.base import Interval, Linear, flat
from lirpa_verify.operators.constant import Constant
from lirpa_verify.operators.enclosure import Enclosure
from lirpa_verify.operators.rearrange import Concat, Gather, Permute, Reshape
from lirpa_verify.operators.relu import ReLU
from lirpa_verify.operators.relu_over_box import ReLUOverBox

HUGE = 1e30  # stands for infinity where it may meet a coefficient of 0
LARGE = 1e8  # from which on one entry may hide all others: what masks add where attention is to depend on nothing


@torch.no_grad()
def sizes(graph: Graph, values: Sequence[Interval]) -> dict[int, Tensor]:
    """Per node whose rule rounds the size of its terms, ``(batch or 1, *node)``.

    Args:
        graph: the network.
        values: bounds of the nodes, from the first on, as many as there are.
    """
    found = {}
    for i, node in enumerate(graph.nodes[1 : len(values)], start=1):
        if not rounds(node):
            continue
        if isinstance(node.operator, Linear | Enclosure | ReLUOverBox):
            found[i] = node.operator.term_sizes(*(magnitude(values[a]) for a in node.arguments))
        else:
            found[i] = magnitude(values[i])
    return found


def rounds(node: Node) -> bool:
    """Whether the node does more than move entries (what a ReLU adds is counted at its argument)."""
    operator = node.operator
    moves = isinstance(operator, Reshape | Permute | Concat) or (isinstance(operator, Gather) and operator.distinct)
    return not (moves or isinstance(operator, Constant) or type(operator) is ReLU)


def magnitude(interval: Interval) -> Tensor:
    return torch.maximum(interval.lower.abs(), interval.upper.abs())


@torch.no_grad()
def weighed(rows: Tensor, size: Tensor) -> Tensor:
    """At least ``<|rows|, size>``: (batch, rows, *node) with (batch or 1, *node) -> (batch, rows)."""
    coefficients, size = flat(rows.detach()), flat(size, 1)
    norm = torch.linalg.vector_norm(size, dim=1, keepdim=True)
    if bool((norm < LARGE).all()):
        return torch.linalg.vector_norm(coefficients, dim=2) * norm  # by Cauchy and Schwarz, in one pass over the rows
    return weighed_exactly(rows, size)


@torch.no_grad()
def weighed_exactly(rows: Tensor, size: Tensor) -> Tensor:
    """``<|rows|, size>``, as `weighed`."""
    coefficients, size = flat(rows.detach()), flat(size, 1)
    size = torch.where(torch.isinf(size), HUGE, size)  # 0 times infinity is 0 here
    return torch.matmul(coefficients.abs(), size.unsqueeze(2)).squeeze(2)
