"""Repeated and mirrored neurons are kept once, and the function stays as it was."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from random_networks import generator, normal
from torch import Tensor

from lirpa_verify.graph.graph import Graph, Node
from lirpa_verify.graph.mirror import may_have_copies, merge_mirrored
from lirpa_verify.graph.simplify import prune
from lirpa_verify.operators.constant import Input
from lirpa_verify.operators.convolution import Convolution
from lirpa_verify.operators.dense import Dense
from lirpa_verify.operators.rearrange import Reshape
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
    few = torch.cat([alone, alone[:, :4]], 1)  # not worth a rewrite
    assert not may_have_copies(Dense(few, None))


def convolution_chain(stride: int, pad: int, same: float) -> Graph:
    """Convolution, ReLU, convolution, where two of the five channels in the middle mirror or repeat others."""
    kernels = normal(G, 3, 2, 3, 3)
    first = torch.cat([kernels, -kernels[:1], same * kernels[1:2]])
    shift = normal(G, 3)
    bias = torch.cat([shift, -shift[:1], same * shift[1:2]])
    side = (6 + 2 * pad - 3) // stride + 1
    one = Convolution(first, bias, (stride, stride), (pad, pad), (1, 1), False, (0, 0), 1, (1, 2, 6, 6))
    two = Convolution(normal(G, 4, 5, 2, 2), normal(G, 4), (1, 1), (1, 1), (1, 1), False, (0, 0), 1, (1, 5, side, side))
    return Graph((
        Node(Input(), (), (72,), "x"),
        Node(Reshape((72,), (1, 2, 6, 6)), (0,), (1, 2, 6, 6), "image"),
        Node(one, (1,), (1, 5, side, side), "first"),
        Node(ReLU(), (2,), (1, 5, side, side), "relu"),
        Node(two, (3,), (1, 4, side + 1, side + 1), "second"),
    ))  # fmt: skip


@pytest.mark.parametrize(("stride", "pad"), [(1, 0), (2, 1)])
@pytest.mark.parametrize("same", [1.0, -1.0])
def test_copied_channels_are_merged(stride: int, pad: int, same: float) -> None:
    graph = convolution_chain(stride, pad, same)
    merged = merge_mirrored(graph)
    x = normal(generator(4), 20, graph.n_inputs)
    assert torch.allclose(merged.forward(x), graph.forward(x), rtol=1e-11, atol=1e-11)
    assert relus(merged) == relus(graph) // 5 * 3


def test_split_channels_become_linear() -> None:
    """``relu(z) - relu(-z)`` is z."""
    graph = convolution_chain(1, 1, -1.0)
    second = graph.nodes[4].operator
    assert isinstance(second, Convolution)
    weight = second.weight.clone()
    weight[:, 3:] = -weight[:, :2]
    graph = Graph((*graph.nodes[:4], replace(graph.nodes[4], operator=replace(second, weight=weight))))
    merged = merge_mirrored(graph)
    x = normal(generator(5), 20, graph.n_inputs)
    assert torch.allclose(merged.forward(x), graph.forward(x), rtol=1e-11, atol=1e-11)
    assert relus(merged) == relus(graph) // 5


def test_a_few_split_neurons_are_worth_it() -> None:
    weight, bias = normal(G, 3, 20), normal(G, 20)
    first = torch.cat([weight, -weight[:, :1]], 1), torch.cat([bias, -bias[:1]])
    last = normal(G, 20, 2)
    graph = chain(first, (torch.cat([last, -last[:1]]), normal(G, 2)))
    assert relus(merge_mirrored(graph)) == 19
