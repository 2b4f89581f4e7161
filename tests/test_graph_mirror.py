"""Repeated and mirrored neurons are kept once, and the function stays as it was."""

from __future__ import annotations

import pytest
import torch
from random_networks import generator, normal
from torch import Tensor

from lirpa_verify.graph.graph import Graph, Node
from lirpa_verify.graph.mirror import may_have_copies, merge_mirrored
from lirpa_verify.graph.simplify import prune
from lirpa_verify.operators.constant import Input
from lirpa_verify.operators.dense import Dense
from lirpa_verify.operators.relu import ReLU

G = generator(3)


def chain(*layers: tuple[Tensor, Tensor]) -> Graph:
    """Matrices with biases, ReLUs between them."""
    nodes = [Node(Input(), (), (layers[0][0].shape[0],), "x")]
    for i, (weight, bias) in enumerate(layers):
        if i:
            nodes.append(Node(ReLU(), (len(nodes) - 1,), nodes[-1].shape, f"relu {i}"))
        nodes.append(Node(Dense(weight, bias), (len(nodes) - 1,), (weight.shape[1],), f"dense {i}"))
    return Graph(tuple(nodes))


def relus(graph: Graph) -> int:
    """ReLUs that the output needs."""
    return sum(node.size for node in prune(list(graph.nodes)).nodes if isinstance(node.operator, ReLU))


def paired(inputs: int, neurons: int, sign: float) -> tuple[Tensor, Tensor]:
    weight, bias = normal(G, inputs, neurons), normal(G, neurons)
    return torch.cat([weight, sign * weight], 1), torch.cat([bias, sign * bias])


NETWORKS = {
    "mirrored": (chain(paired(3, 4, -1.0), (normal(G, 8, 2), normal(G, 2))), 4),
    "repeated": (chain(paired(3, 4, 1.0), (normal(G, 8, 2), normal(G, 2))), 4),
    "nothing in common": (chain((normal(G, 3, 6), normal(G, 6)), (normal(G, 6, 2), normal(G, 2))), 6),
    # The matrix between two rewritten layers belongs to both: the second layer is left as it is.
    "two layers in a row": (chain(paired(3, 4, -1.0), paired(8, 4, -1.0), (normal(G, 8, 2), normal(G, 2))), 12),
    "another matrix between": (
        chain(paired(3, 4, -1.0), (normal(G, 8, 5), normal(G, 5)), paired(5, 4, -1.0), (normal(G, 8, 2), normal(G, 2))),
        13,
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_copies_are_merged(name: str) -> None:
    graph, neurons = NETWORKS[name]
    merged = merge_mirrored(graph)
    x = normal(generator(4), 100, graph.n_inputs)
    assert torch.allclose(merged.forward(x), graph.forward(x), rtol=1e-11, atol=1e-11)
    assert relus(merged) == neurons


def test_a_difference_of_mirrored_neurons_is_linear() -> None:
    """relu(z) - relu(-z) = z."""
    weight, bias = paired(3, 4, -1.0)
    top = normal(G, 4, 2)
    graph = chain((weight, bias), (torch.cat([top, -top]), normal(G, 2)))
    merged = merge_mirrored(graph)
    x = normal(generator(5), 100, 3)
    assert torch.allclose(merged.forward(x), graph.forward(x), rtol=1e-11, atol=1e-11)
    assert relus(merged) == 1  # one neuron with weight 0 stands for the empty layer


def test_matrices_without_copies_are_recognised_by_sums_of_their_columns() -> None:
    alone, (weight, bias) = normal(G, 400, 300), paired(400, 150, -1.0)
    assert not may_have_copies(Dense(alone, None))
    assert may_have_copies(Dense(weight, bias))
    few = torch.cat([alone, alone[:, :40]], 1)  # not worth a rewrite
    assert not may_have_copies(Dense(few, None))
