"""Matrix products over the channels of images as convolutions with kernels of size 1.

An image whose channels were moved to the end for a matrix product keeps its places: as a convolution followed by
the permutation it is bounded window by window like the layers before it, and joins the one that it follows.
"""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from lirpa_verify.graph.graph import Graph, Node
from lirpa_verify.operators.convolution import Convolution
from lirpa_verify.operators.dense import Dense
from lirpa_verify.operators.rearrange import Permute


def products_of_channels(graph: Graph) -> Graph:
    """The same function: what was a permutation becomes the convolution, what was the product the permutation."""
    nodes = list(graph.nodes)
    for i, node in enumerate(graph.nodes):
        if not isinstance(node.operator, Dense):
            continue
        (p,) = node.arguments
        moved = graph.nodes[p]
        if not isinstance(moved.operator, Permute) or len(graph.users[p]) > 1:
            continue
        image = graph.nodes[moved.arguments[0]].shape
        convolution = pointwise(node.operator, moved.operator.order, image)
        if convolution is not None:
            made = (image[0], convolution.weight.shape[0], *image[2:])
            nodes[p] = Node(convolution, moved.arguments, made, node.name)
            nodes[i] = replace(node, operator=moved.operator)
    return Graph(tuple(nodes))


def pointwise(product: Dense, order: tuple[int, ...], image: tuple[int, ...]) -> Convolution | None:
    """The convolution of an image ``(n, channels, *space)`` of which the product multiplies the channels."""
    dimensions = len(image) - 2
    if not 1 <= dimensions <= 3 or order[-1] != 1 or product.weight.dim() != 2 or not per_channel(product.bias):
        return None
    weight = product.weight.mT.reshape(*product.weight.mT.shape, *[1] * dimensions).contiguous()
    bias = None if product.bias is None else product.bias.reshape(-1).expand(len(weight)).contiguous()
    one, zero = (1,) * dimensions, (0,) * dimensions
    return Convolution(weight, bias, one, zero, one, False, zero, 1, image)


def per_channel(bias: Tensor | None) -> bool:
    return bias is None or all(n == 1 for n in bias.shape[:-1])
