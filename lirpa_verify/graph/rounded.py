"""Networks that see their inputs only rounded to integers: functions of these integers, which can be counted.

A patch is pasted at a pixel, a row is looked up by its number, a category is cut off from a real input: such a
network is constant wherever no rounded value changes. As a function of the rounded values it has no steps left.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lirpa_verify.graph.graph import Graph, Node
from lirpa_verify.graph.simplify import prune, simplify
from lirpa_verify.operators.base import Interval, Linear
from lirpa_verify.operators.discrete import Truncate
from lirpa_verify.operators.embed import Embed
from lirpa_verify.operators.staircase import Staircase

Rounding = Truncate | Staircase
MOST_INPUTS = 16  # that vary; with more there are too many combinations in any case
MIDDLES = {"floor": 0.5, "round": 0.0, "ceil": -0.5}  # of the step of value n, less n


@dataclass(frozen=True)
class Rounded:
    """A network as a function of its rounded inputs: value k is input k times a factor, rounded."""

    graph: Graph  # over the rounded values, one per input
    factor: Tensor  # (inputs,) powers of two, or 0 for inputs without use: the product does not round
    rounding: tuple[Rounding, ...]  # per input

    def values(self, points: Tensor) -> Tensor:
        """Rounded values (points, inputs) of points."""
        columns = (points * self.factor).unbind(1)
        return torch.stack([f.forward(x) for f, x in zip(self.rounding, columns, strict=True)], 1)

    def ends(self, box: Interval) -> Interval:
        """The least and the largest rounded values in boxes; every integer between them occurs."""
        first, last = (self.values(end) for end in box)
        return Interval(torch.minimum(first, last), torch.maximum(first, last))

    def points(self, values: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
        """Points between the ends (inputs,) that have these rounded values (points, inputs), which occur there."""
        steps = [value + middle(f, value) for f, value in zip(self.rounding, values.unbind(1), strict=True)]
        return torch.minimum(torch.maximum(torch.stack(steps, 1) / self.factor, lower), upper)


def middle(rounding: Rounding, value: Tensor) -> Tensor | float:
    """From a rounded value to the middle of the numbers that are rounded to it."""
    return MIDDLES[rounding.kind] if isinstance(rounding, Staircase) else 0.5 * value.sign()


def rounded(graph: Graph) -> Rounded | None:
    """The network as a function of its rounded inputs; None where it sees them in any other way as well."""
    n = graph.n_inputs
    if n > MOST_INPUTS:
        return None
    fronts = {i: scaled_inputs(graph, node.arguments[0]) for i, node in first_roundings(graph)}
    if not fronts or any(found is None for found in fronts.values()):
        return None
    factor = torch.zeros(n, dtype=graph_type(graph))
    rounding: list[Rounding | None] = [None] * n
    nodes = list(graph.nodes)
    for i, found in fronts.items():
        assert found is not None
        index, factors, offset = found
        operator, shape = graph.nodes[i].operator, graph.nodes[i].shape
        assert isinstance(operator, Rounding)
        for k, f in zip(index.tolist(), factors.tolist(), strict=True):
            if k >= 0 and (rounding[k] not in (None, operator) or factor[k] not in (0, f)):
                return None  # two ways to round one input
            if k >= 0:
                rounding[k], factor[k] = operator, f
        nodes[i] = Node(Embed(index, operator.forward(offset), n, shape), (0,), shape, graph.nodes[i].name)
    if sees_input(graph, frozenset(fronts)):
        return None
    known = tuple(f or Staircase("floor") for f in rounding)  # of what nothing depends on: floor(0 x)
    return Rounded(simplify(prune(nodes)), factor, known)


def graph_type(graph: Graph) -> torch.dtype:
    """The floating type of the graph's constants."""
    for node in graph.nodes:
        for value in vars(node.operator).values():
            if isinstance(value, Tensor) and value.is_floating_point():
                return value.dtype
    return torch.float64


def first_roundings(graph: Graph) -> list[tuple[int, Node]]:
    """Roundings of what is linear in the input."""
    linear = [True]
    for node in graph.nodes[1:]:
        linear.append(isinstance(node.operator, Linear) and all(linear[a] for a in node.arguments))
    found = [(i, node) for i, node in enumerate(graph.nodes) if isinstance(node.operator, Rounding)]
    return [(i, node) for i, node in found if linear[node.arguments[0]]]


def scaled_inputs(graph: Graph, i: int) -> tuple[Tensor, Tensor, Tensor] | None:
    """Which input every entry of a linear node is, times which power of two; -1 and 0 for constants, which follow.

    None where an entry is anything else.
    """
    dtype = graph_type(graph)
    columns = {0: torch.eye(graph.n_inputs, dtype=dtype)}
    offsets = {0: torch.zeros(1, graph.n_inputs, dtype=dtype)}
    for j in sorted(graph.ancestors[i] - {0}):
        operator, below = graph.nodes[j].operator, graph.nodes[j].arguments
        assert isinstance(operator, Linear)
        columns[j] = operator.linear(*(columns[a] for a in below))
        offsets[j] = operator.forward(*(offsets[a] for a in below))
    matrix, offset = columns[i].reshape(graph.n_inputs, -1), offsets[i].reshape(-1)
    index = matrix.abs().argmax(0)
    factor = matrix.gather(0, index.unsqueeze(0)).squeeze(0)
    constant = factor == 0
    alone = (matrix.count_nonzero(0) <= 1) & (constant | (offset == 0))
    exact = constant | (factor.frexp().mantissa.abs() == 0.5)
    return (index.masked_fill(constant, -1), factor, offset) if bool((alone & exact).all()) else None


def sees_input(graph: Graph, cut: frozenset[int]) -> bool:
    """Whether the output depends on the input on a way that does not lead through the nodes `cut`."""
    seen = [True]
    for i, node in enumerate(graph.nodes[1:], start=1):
        seen.append(i not in cut and any(seen[a] for a in node.arguments))
    return seen[graph.output]
