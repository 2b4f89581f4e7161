"""Channels of a convolution that repeat or mirror one another below a ReLU are kept once, as neurons in `mirror.py`.

Networks whose ReLUs were split in two (``z = relu(z) - relu(-z)``) get their linear channels back.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from lirpa_verify.graph.graph import Graph, Node
from lirpa_verify.operators.arithmetic import Combine
from lirpa_verify.operators.convolution import Convolution
from lirpa_verify.operators.dense import Dense
from lirpa_verify.operators.relu import ReLU


def channels_below(graph: Graph, i: int) -> Dense | None:
    """The kernels of a chain convolution, ReLU, convolution that ends in node i, one column each; None for no chain."""
    after = graph.nodes[i]
    below = after.arguments[0] if after.arguments else 0
    relu = graph.nodes[below]
    if not (isinstance(after.operator, Convolution) and relu.operator == ReLU() and len(graph.users[below]) == 1):
        return None
    before = graph.nodes[relu.arguments[0]]
    if not isinstance(before.operator, Convolution) or len(graph.users[relu.arguments[0]]) != 1:
        return None
    if any(c.groups != 1 or c.transposed for c in (after.operator, before.operator)):
        return None
    return Dense(before.operator.weight.flatten(1).T, before.operator.bias)


def without_channels(nodes: list[Node], after: Node, first: Tensor, same: Tensor) -> list[Node]:
    """The chain's new nodes: kept channels, their ReLU, its convolution, those that pass without one, and the sum.

    Args:
        nodes: those before the chain's end.
        after: the end, a convolution of ReLUs of a convolution.
        first: ``(channels,)`` the first one that has the same pre-activation up to sign.
        same: ``(channels,)`` whether with the same sign.
    """
    relu = nodes[after.arguments[0]]
    before, operator = nodes[relu.arguments[0]], after.operator
    assert isinstance(operator, Convolution) and isinstance(before.operator, Convolution)
    weight = operator.weight  # (outputs, channels, *kernel)
    gathered = torch.zeros_like(weight).index_add(1, first, weight)
    mirrored = weight * (~same).reshape(-1, *[1] * (weight.dim() - 2))
    passed = torch.zeros_like(weight).index_add(1, first, -mirrored)  # relu(-z) = relu(z) - z
    kept, linear = used(gathered), used(passed)
    start = len(nodes)
    return [
        convolved(before, kept),
        Node(ReLU(), (start,), shape_with(before, len(kept)), relu.name),
        Node(onto(operator, gathered, kept, operator.bias), (start + 1,), after.shape, after.name),
        convolved(before, linear),
        Node(onto(operator, passed, linear, None), (start + 3,), after.shape, after.name),
        Node(Combine((1.0, 1.0)), (start + 2, start + 4), after.shape, after.name),
    ]


def used(weight: Tensor) -> Tensor:
    """Channels that a convolution takes anything of; one if there is none."""
    index = (weight != 0).transpose(0, 1).flatten(1).any(1).nonzero().flatten()
    return index if len(index) else index.new_zeros(1)


def shape_with(node: Node, channels: int) -> tuple[int, ...]:
    return (node.shape[0], channels, *node.shape[2:])


def convolved(before: Node, channels: Tensor) -> Node:
    """Some channels of a convolution."""
    operator = before.operator
    assert isinstance(operator, Convolution)
    bias = None if operator.bias is None else operator.bias[channels]
    fewer = replace(operator, weight=operator.weight[channels], bias=bias)
    return Node(fewer, before.arguments, shape_with(before, len(channels)), before.name)


def onto(operator: Convolution, weight: Tensor, channels: Tensor, bias: Tensor | None) -> Convolution:
    """A convolution of some channels, with other weights."""
    batch, _, *space = operator.argument_shape
    return replace(operator, weight=weight[:, channels], bias=bias, argument_shape=(batch, len(channels), *space))
