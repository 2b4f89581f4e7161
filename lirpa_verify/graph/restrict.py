"""Only inputs that vary cost anything: the others become constants of the graph.

With few varying inputs the linear steps next to the input are also joined into one matrix, which
removes whole convolutions and decoders whose other inputs are pinned.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from lirpa_verify.graph.cancelling import cancels
from lirpa_verify.graph.graph import Graph, Node
from lirpa_verify.graph.quadratic import join_definite_forms
from lirpa_verify.graph.simplify import prune, simplify
from lirpa_verify.operators.base import Linear
from lirpa_verify.operators.constant import Constant, Input
from lirpa_verify.operators.dense import Dense
from lirpa_verify.operators.embed import Embed
from lirpa_verify.operators.rearrange import Reshape

PREFIX_INPUTS = 64  # join linear steps next to the input only where so few inputs vary


def restrict(graph: Graph, fixed: Tensor, values: Tensor) -> Graph:
    """The graph as a function of its varying inputs.

    Args:
        graph: the network.
        fixed: ``(inputs,)`` bool, which inputs are constant.
        values: ``(inputs,)`` their values (others are ignored).
    """
    if bool(fixed.any()):
        graph = simplify(with_embed(graph, fixed, values))
    if graph.n_inputs <= PREFIX_INPUTS:
        graph = simplify(join_prefix(graph))
    return join_definite_forms(graph)


def with_embed(graph: Graph, fixed: Tensor, values: Tensor) -> Graph:
    index = torch.where(fixed, -1, (~fixed).cumsum(0) - 1)
    n = int((~fixed).sum())
    constants = torch.where(fixed, values, 0.0)
    source = Node(Input(), (), (n,), graph.nodes[0].name)
    embed = Node(Embed(index, constants, n, tuple(fixed.shape)), (0,), tuple(fixed.shape), graph.nodes[0].name)
    moved = [replace(node, arguments=tuple(a + 1 for a in node.arguments)) for node in graph.nodes[1:]]
    return Graph((source, embed, *moved))


def join_prefix(graph: Graph) -> Graph:
    """Replaces every last linear function of the input by one matrix product."""
    linear = [True]
    for i, node in enumerate(graph.nodes[1:], start=1):
        affine = isinstance(node.operator, Linear | Constant) and all(linear[a] for a in node.arguments)
        linear.append(affine and not (i == graph.output and not node.arguments))
    last = [
        i
        for i in range(1, len(graph.nodes))
        if linear[i]
        and graph.depends_on_input[i]
        and (i == graph.output or any(not linear[u] for u in graph.users[i]))
        and not directly_dense(graph, i)
    ]
    if not last:
        return graph
    n = graph.n_inputs
    needed = frozenset().union(*(graph.ancestors[i] for i in last))
    # Apart, not as differences of values: a large offset would leave few digits of a small slope.
    offsets = {0: torch.zeros(1, n, dtype=torch.float64)}
    columns = {0: torch.eye(n, dtype=torch.float64)}
    terms = {0: torch.ones(1, n, dtype=torch.float64)}  # magnitudes of all that entries are sums of
    for i, node in enumerate(graph.nodes[1:], start=1):
        if i in needed:
            operator = node.operator
            offsets[i] = operator.forward(*(offsets[a] for a in node.arguments))
            if isinstance(operator, Linear):
                columns[i] = operator.linear(*(columns[a] for a in node.arguments)).expand(n, *node.shape)
                terms[i] = operator.term_sizes(*(terms[a] for a in node.arguments))
            else:
                columns[i] = torch.zeros(n, *node.shape, dtype=torch.float64)
                terms[i] = offsets[i].abs()
    last = [i for i in last if not cancels(terms[i], columns[i].abs().sum(0) + offsets[i].abs())]
    nodes: list[Node] = [graph.nodes[0]]
    position = [0]
    for i, node in enumerate(graph.nodes[1:], start=1):
        if i in last:
            dense = Dense(columns[i].reshape(n, -1), offsets[i].expand(1, *node.shape).reshape(-1).clone())
            nodes.append(Node(dense, (0,), (node.size,), node.name))
            nodes.append(Node(Reshape((node.size,), node.shape), (len(nodes) - 1,), node.shape, node.name))
        else:
            nodes.append(replace(node, arguments=tuple(position[a] for a in node.arguments)))
        position.append(len(nodes) - 1)
    return prune(nodes)


def directly_dense(graph: Graph, i: int) -> bool:
    """Whether node i already is one matrix product of the input."""
    node = graph.nodes[i]
    below = graph.nodes[node.arguments[0]]
    at_input = node.arguments[0] == 0 or (isinstance(below.operator, Reshape) and below.arguments[0] == 0)
    return isinstance(node.operator, Dense) and at_input
