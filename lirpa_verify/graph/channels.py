"""Matrix products over the channels of images as convolutions with kernels of size 1.

An image whose channels were moved to the end for a matrix product keeps its places: as a convolution followed by
a rearrangement it is bounded window by window like the layers before it, and joins the one that it follows.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from lirpa_verify.graph.graph import Graph, Node
from lirpa_verify.operators.convolution import Convolution
from lirpa_verify.operators.dense import Dense
from lirpa_verify.operators.rearrange import Gather, Permute, Reshape


def products_of_channels(graph: Graph) -> Graph:
    """The same function: what moved the channels becomes the convolution, what was the product the rearrangement."""
    nodes, used = list(graph.nodes), [len(users) for users in graph.users]
    for i, node in enumerate(graph.nodes):
        if not isinstance(node.operator, Dense):
            continue
        (p,) = node.arguments
        image = moved_image(nodes, used, p)
        if image is None:
            continue
        shape = nodes[image].shape
        place = places_of_channels(nodes, p, image)
        convolution = None if place is None else pointwise(node.operator, shape)
        if place is None or convolution is None:
            continue
        made = (shape[0], convolution.weight.shape[0], *shape[2:])
        size = place.numel()
        index = place.unsqueeze(-1) + size * torch.arange(made[1])
        nodes[p] = Node(convolution, (image,), made, node.name)
        nodes[i] = replace(node, operator=Gather(index.reshape(-1), made, node.shape))
    return Graph(tuple(nodes))


def moved_image(nodes: list[Node], used: list[int], p: int) -> int | None:
    """The convolution that node p is a rearrangement of, if nobody else uses what lies between."""
    start = p
    while isinstance(nodes[p].operator, Permute | Reshape | Gather) and used[p] == 1:
        (p,) = nodes[p].arguments
    found = p != start and isinstance(nodes[p].operator, Convolution) and nodes[p].shape[0] == 1
    return p if found else None


def places_of_channels(nodes: list[Node], p: int, image: int) -> Tensor | None:
    """For each group of the last dimension of node p the place of the image whose channels it is, each place once.

    None where the groups are anything else.
    """
    path = [p]
    while path[-1] != image:
        path.append(nodes[path[-1]].arguments[0])
    entries = torch.arange(nodes[image].size, dtype=torch.float64).reshape(1, *nodes[image].shape)
    for step in reversed(path[:-1]):
        entries = nodes[step].operator.forward(entries)
    entries, channels = entries[0].long(), nodes[image].shape[1]
    size = nodes[image].size // channels
    if entries.dim() == 0 or entries.shape[-1] != channels or entries.numel() != nodes[image].size:
        return None
    place = entries[..., 0]
    whole = torch.equal(place.reshape(-1).sort().values, torch.arange(size))
    grouped = torch.equal(entries, place.unsqueeze(-1) + size * torch.arange(channels))
    return place if whole and grouped else None


def pointwise(product: Dense, image: tuple[int, ...]) -> Convolution | None:
    """The convolution of an image ``(1, channels, *space)`` of which the product multiplies the channels."""
    dimensions = len(image) - 2
    if not 1 <= dimensions <= 3 or product.weight.dim() != 2 or not per_channel(product.bias):
        return None
    weight = product.weight.mT.reshape(*product.weight.mT.shape, *[1] * dimensions).contiguous()
    bias = None if product.bias is None else product.bias.reshape(-1).expand(len(weight)).contiguous()
    one, zero = (1,) * dimensions, (0,) * dimensions
    return Convolution(weight, bias, one, zero, one, False, zero, 1, image)


def per_channel(bias: Tensor | None) -> bool:
    return bias is None or all(n == 1 for n in bias.shape[:-1])
