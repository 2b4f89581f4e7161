"""The graph all bound methods walk: operators in topological order, one flat input, one flat output."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from lirpa_verify.operators.base import Operator


@dataclass(frozen=True)
class Node:
    operator: Operator
    arguments: tuple[int, ...]  # indices of nodes before this one
    shape: tuple[int, ...]
    name: str  # the ONNX node or torch module it came from

    @property
    def size(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True)
class Graph:
    """Nodes in topological order. Node 0 is the input ``(inputs,)``, the last one the output ``(outputs,)``."""

    nodes: tuple[Node, ...]

    @property
    def output(self) -> int:
        return len(self.nodes) - 1

    @property
    def n_inputs(self) -> int:
        return self.nodes[0].size

    @property
    def n_outputs(self) -> int:
        return self.nodes[-1].size

    @cached_property
    def bounded(self) -> tuple[int, ...]:
        """Nodes whose intervals a relaxation needs, in topological order."""
        needed = {a for node in self.nodes if node.operator.bounded for a in node.arguments}
        return tuple(sorted(needed))

    @cached_property
    def tightened(self) -> frozenset[int]:
        """Nodes that linear bounds are spent on: those in `bounded`, or what they are the exact image of."""
        sources = set()
        for i in self.bounded:
            while self.nodes[i].operator.exact_image:
                (i,) = self.nodes[i].arguments
            sources.add(i)
        fixed = (i for i in sources if self.nodes[i].operator.opaque or self.exact_interval[i])
        return frozenset(i for i in sources.difference(fixed) if self.depends_on_input[i])

    @cached_property
    def depends_on_input(self) -> tuple[bool, ...]:
        flags: list[bool] = []
        for i, node in enumerate(self.nodes):
            flags.append(i == 0 or any(flags[a] for a in node.arguments))
        return tuple(flags)

    @cached_property
    def users(self) -> tuple[tuple[int, ...], ...]:
        """Per node the nodes that take it as an argument."""
        users: list[list[int]] = [[] for _ in self.nodes]
        for i, node in enumerate(self.nodes):
            for a in node.arguments:
                users[a].append(i)
        return tuple(tuple(u) for u in users)

    @cached_property
    def ancestors(self) -> tuple[frozenset[int], ...]:
        """Per node the nodes below it, itself included."""
        below: list[frozenset[int]] = []
        for i, node in enumerate(self.nodes):
            below.append(frozenset({i}).union(*(below[a] for a in node.arguments)))
        return tuple(below)

    @cached_property
    def exact_interval(self) -> tuple[bool, ...]:
        """Nodes whose interval-arithmetic bounds are already the tightest: one mixing step after the input."""
        return tuple(state != "mixed" for state in _mixing(self))

    def forward(self, x: Tensor) -> Tensor:
        """Evaluates ``(batch, inputs) -> (batch, outputs)``."""
        return self.evaluate(x)[-1]

    def evaluate(self, x: Tensor) -> list[Tensor]:
        """Values of all nodes on a batch of inputs."""
        values: list[Tensor] = [x]
        for node in self.nodes[1:]:
            values.append(node.operator.forward(*(values[a] for a in node.arguments)))
        values[-1] = values[-1].expand(x.shape[0], *self.nodes[-1].shape)
        return values

    def map_tensors(self, function: Callable[[Tensor], Tensor]) -> Graph:
        return Graph(tuple(replace(n, operator=n.operator.map_tensors(function)) for n in self.nodes))

    def to(self, dtype: torch.dtype, device: torch.device | str = "cpu") -> Graph:
        """The same graph with floating constants in another precision or on another device."""
        return self.map_tensors(lambda t: t.to(device, dtype) if t.is_floating_point() else t.to(device))


def _mixing(graph: Graph) -> list[str]:
    """Per node: 'separate' (each entry depends on one input of its own), 'exact' or 'mixed'."""
    from lirpa_verify.operators.arithmetic import Scale
    from lirpa_verify.operators.base import Linear
    from lirpa_verify.operators.rearrange import Gather, Permute, Reshape

    states = ["separate"]
    for node in graph.nodes[1:]:
        moving = isinstance(node.operator, Reshape | Permute | Scale) or (
            isinstance(node.operator, Gather) and node.operator.distinct
        )
        below = {states[a] for a in node.arguments if graph.depends_on_input[a]}
        if not below:
            states.append("exact")
        elif moving:
            states.append(states[node.arguments[0]])
        elif isinstance(node.operator, Linear) and below == {"separate"} and len(node.arguments) == 1:
            states.append("exact")
        else:
            states.append("mixed")
    return states
