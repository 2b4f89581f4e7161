"""The node that all outputs come from, behind which they are only moved, and the graph without it."""

from __future__ import annotations

import torch
from torch import Tensor

from lirpa_verify.graph.graph import Graph, Node
from lirpa_verify.operators.rearrange import Gather, Reshape


def ending(graph: Graph) -> int | None:
    """The last node that does more than move entries, None where something else uses what it or a move computes."""
    i = graph.output
    while isinstance(graph.nodes[i].operator, (Reshape, Gather)):
        (i,) = graph.nodes[i].arguments
        if len(graph.users[i]) != 1:
            return None
    return i


def places(graph: Graph, i: int) -> Tensor:
    """(outputs,) int64: which entry of the node `i`, behind which entries are only moved, every output is."""
    chain = [graph.output]
    while chain[-1] != i:
        chain.append(graph.nodes[chain[-1]].arguments[0])
    node = graph.nodes[i]
    numbers = torch.arange(1, node.size + 1, dtype=torch.float64).reshape(1, *node.shape)  # 0 is no entry
    for j in reversed(chain[:-1]):
        numbers = graph.nodes[j].operator.forward(numbers)
    return numbers.flatten().long() - 1


def without(graph: Graph, i: int) -> Graph:
    """The graph with the argument of node i in its place."""
    (source,) = graph.nodes[i].arguments

    def place(j: int) -> int:
        return source if j == i else j - (j > i)

    kept = (node for j, node in enumerate(graph.nodes) if j != i)
    return Graph(tuple(Node(n.operator, tuple(map(place, n.arguments)), n.shape, n.name) for n in kept))
