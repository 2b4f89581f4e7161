"""Networks of which a property mentions some outputs only: the same values there, with less of every layer."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from function_checks import Function
from function_checks import constant as single
from random_networks import graph_of

from lirpa_verify.graph.demand import demanded
from lirpa_verify.graph.graph import Graph, Node
from lirpa_verify.graph.simplify import simplify
from lirpa_verify.graph.window import cropped, cut, fields
from lirpa_verify.operators.constant import Input
from lirpa_verify.operators.convolution import Convolution
from lirpa_verify.operators.pad import Pad
from lirpa_verify.operators.rearrange import Reshape
from lirpa_verify.operators.relu import ReLU

SPACE = (12, 11)


def constant(*shape: int) -> torch.Tensor:
    return single(*shape).double()


def block(x: torch.Tensor) -> torch.Tensor:
    return x + F.conv2d(
        torch.relu(F.conv2d(x, constant(4, 4, 3, 3), constant(4), padding=1)), constant(4, 4, 3, 3), padding=1
    )


def detector(x: torch.Tensor) -> torch.Tensor:
    x = F.conv2d(x, constant(4, 2, 3, 3), constant(4), padding=1)
    x = F.avg_pool2d(torch.relu(block(x)), 2)
    return F.conv2d(torch.relu(block(x)), constant(6, 4, 1, 1), constant(6)).flatten(1)


NETWORKS: dict[str, Function] = {
    "detector": detector,
    "image": lambda x: F.conv2d(torch.tanh(F.conv2d(x, constant(3, 2, 3, 3), padding=2)), constant(2, 3, 3, 3)),
    "transposed": lambda x: F.conv_transpose2d(torch.relu(x), constant(2, 3, 3, 3), constant(3), 2).flatten(1),
    "vector": lambda x: torch.relu(x.flatten(1) @ constant(264, 9)) @ constant(9, 30),
}


def sizes(graph: Graph) -> int:
    """Of the nodes that have to be bounded."""
    return sum(graph.nodes[i].size for i in graph.bounded)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("seed", range(4))
def test_wanted_outputs_keep_their_values(name: str, seed: int) -> None:
    g = torch.Generator().manual_seed(seed)
    graph = graph_of(NETWORKS[name], (1, 2, *SPACE))
    first = int(torch.randint(graph.n_outputs - 3, (1,), generator=g))
    wanted = torch.tensor([first, first + 2])
    small = demanded(graph, wanted)
    x = torch.randn(5, graph.n_inputs, generator=g, dtype=torch.float64)
    assert torch.allclose(small.forward(x), graph.forward(x)[:, wanted], atol=1e-12)
    assert small.n_inputs == graph.n_inputs and sizes(small) <= sizes(graph)


def test_a_cell_in_the_middle_needs_its_field_only() -> None:
    graph = graph_of(detector, (1, 2, *SPACE))
    cell = torch.arange(6) * 30 + 2 * 5 + 2
    small = demanded(graph, cell)
    assert sizes(small) < 0.75 * sizes(graph)
    assert not any(isinstance(node.operator, Pad) and not any(node.operator.amounts) for node in small.nodes)


def test_all_outputs_need_everything() -> None:
    graph = graph_of(detector, (1, 2, *SPACE))
    assert demanded(graph, torch.arange(graph.n_outputs)) is graph


def padded(amounts: tuple[int, ...]) -> Graph:
    """A convolution of an image (2, 9, 8) with a ReLU and a border put on or cut off."""
    image, kernel = (1, 2, 9, 8), constant(3, 2, 3, 3)
    wide = tuple(F.pad(torch.zeros(image), amounts).shape)
    made = tuple(F.conv2d(torch.zeros(wide), kernel.float(), padding=(0, 1), stride=2).shape)
    one, zero = (1, 1), (0, 0)
    convolution = Convolution(kernel, constant(3), (2, 2), (0, 1), one, False, zero, 1, wide)
    nodes = [
        Node(Input(), (), (144,), "x"),
        Node(Reshape((144,), image), (0,), image, "image"),
        Node(ReLU(), (1,), image, "relu"),
        Node(Pad(amounts), (2,), wide, "pad"),
        Node(convolution, (3,), made, "conv"),
    ]
    return Graph(tuple(nodes))


AMOUNTS = [(1, 2), (-1, 2, 0, 1), (2, -3, -2, 1), (1, 1, 1, 1), (1, 1, 2, 2), (2, 2), (-1, -1, 1, 1)]


@pytest.mark.parametrize("amounts", AMOUNTS)
def test_windows_reach_through_padding(amounts: tuple[int, ...]) -> None:
    graph = padded(amounts)
    x = torch.randn(3, graph.n_inputs, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    whole, checked, smaller = graph.evaluate(x), 0, 0
    rows, columns = graph.nodes[-1].shape[2:]
    for top in range(rows - 1):
        for left in range(columns - 1):
            window = ((top, top + 2), (left, left + 2))
            windows = fields(graph, graph.output, window)
            if windows is None:
                assert not bool(cropped(whole[-1], window, 1).std(0).any())
                continue
            part = cut(graph, graph.output, windows)
            assert torch.allclose(part.graph.forward(x), cropped(whole[-1], window, 1), atol=1e-12)
            checked, smaller = checked + 1, smaller + (part.graph.nodes[2].size < graph.nodes[2].size)
    assert checked > 3 and smaller > 3


@pytest.mark.parametrize("amounts", AMOUNTS)
def test_even_padding_is_part_of_the_convolution_after_it(amounts: tuple[int, ...]) -> None:
    graph = padded(amounts)
    small = simplify(graph)
    x = torch.randn(4, 144, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    assert torch.allclose(graph.forward(x), small.forward(x), atol=1e-12)
    even = amounts[::2] == amounts[1::2] and min(amounts) >= 0
    assert any(isinstance(node.operator, Pad) for node in small.nodes) is not even


def test_a_product_of_channels_joins_the_convolution_before_it() -> None:
    matrix, bias = constant(3, 2), constant(2)

    def network(x: torch.Tensor) -> torch.Tensor:
        image = F.conv2d(x, constant(3, 2, 3, 3), constant(3), padding=1)
        return torch.relu(image.permute(0, 3, 2, 1) @ matrix + bias).flatten(1)

    plain, simple = (graph_of(network, (1, 2, 5, 4), simplified) for simplified in (False, True))
    x = torch.randn(6, 40, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    assert torch.allclose(plain.forward(x), simple.forward(x), atol=1e-12)
    assert sum(isinstance(node.operator, Convolution) for node in simple.nodes) == 1
    assert len(simple.nodes) < len(plain.nodes)
