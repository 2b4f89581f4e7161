"""A network within a box, reduced to its undecided activations and affine functions that enclose what lies between.

As `collapse.py`, for networks where other nonlinear operators lie between the activations (products, softmax,
maxima). These are relaxed once: every undecided entry of an activation's argument, and everything that is to be
proved, is enclosed between two affine functions of the input and of the undecided entries below. That loses what
relaxing them anew for each combination of such entries would gain, which is little where intervals are narrow;
then bounds cost as little as those of a collapsed network. (Networks abstracted by linear bounds of
their parts: arXiv:2002.12920, section 3.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from lirpa_verify.bounds.collapse import CHUNK_BYTES, LARGEST, Kept, chosen, undecided
from lirpa_verify.bounds.crown import one_hot_rows, push, with_negated
from lirpa_verify.bounds.interval import interval_step
from lirpa_verify.bounds.rounding import intersect, margin
from lirpa_verify.bounds.sizes import magnitude, sizes, weighed_exactly
from lirpa_verify.graph.graph import Graph, Node
from lirpa_verify.operators.base import Interval, Lines, Slopes
from lirpa_verify.operators.enclosure import Enclosure


@dataclass(frozen=True)
class Enclosed:
    """`graph` has one output per target, below which its lower bounds are."""

    graph: Graph
    values: list[Interval]  # bounds of its nodes, (1, *node)
    kept: dict[int, Kept]  # per argument of an activation with undecided entries


@torch.no_grad()
def enclose(
    graph: Graph,
    values: Sequence[Interval],
    targets: Mapping[int, Tensor],
    slopes: Mapping[int, Slopes],
    largest: int = LARGEST,
) -> Enclosed | None:
    """The network within the box that `values` are bounds for.

    Args:
        graph: the network.
        values: certified bounds of its nodes over one box, ``(1, *node)`` each.
        targets: coefficients ``(1, targets, *node)`` of what is to be bounded, per node.
        slopes: free slopes ``(1, targets, ...)`` with which the targets are enclosed, per nonlinear node.
        largest: entries that all matrices together may have.

    Returns:
        None where nothing can be split, or the matrices would be too large.
    """
    activations = [i for i, node in enumerate(graph.nodes) if elementwise(node) and graph.depends_on_input[i]]
    entries, lines = undecided(graph, values, activations, {})
    users = [u for u in activations if len(entries[graph.nodes[u].arguments[0]])]
    count = next(iter(targets.values())).shape[1]
    wanted = count + sum(len(entries[z]) for z in {graph.nodes[u].arguments[0] for u in users})
    columns = graph.n_inputs + sum(len(entries[graph.nodes[u].arguments[0]]) for u in users)
    if not users or 2 * wanted * columns > largest:
        return None
    built = Assembly(graph, values, entries, lines, users, sizes(graph, values), [graph.nodes[0]], [values[0]])
    kept: dict[int, Kept] = {}
    for u in users:
        z = graph.nodes[u].arguments[0]
        if z not in kept:
            room = max(1, CHUNK_BYTES // (16 * max(graph.nodes[i].size for i in graph.ancestors[z])))
            hot = [{z: one_hot_rows(part, graph.nodes[z].shape, values[0].lower)} for part in entries[z].split(room)]
            name, bounds = graph.nodes[z].name, chosen(values[z], entries[z])
            kept[z] = Kept(built.add_enclosure([(rows, {}) for rows in hot], name, bounds), entries[z])
        built.add_activation(u, kept[z].node)
    built.add_enclosure([(targets, slopes)], graph.nodes[graph.output].name, None)
    return Enclosed(Graph(tuple(built.nodes)), built.bounds, kept)


def elementwise(node: Node) -> bool:
    """Whether the operator is a function of one argument that can be split, the same for all entries."""
    operator = node.operator
    same = not any(isinstance(getattr(operator, f.name), Tensor) for f in fields(operator))
    return operator.bounded and len(node.arguments) == 1 and operator.splittable and same


@dataclass
class Assembly:
    """An enclosed network under construction."""

    graph: Graph
    values: Sequence[Interval]
    entries: Mapping[int, Tensor]  # per argument of an activation, the undecided ones
    lines: Mapping[int, Lines]  # per activation: exact, but 0 for the undecided entries
    users: Sequence[int]  # activations with undecided entries
    sizes: Mapping[int, Tensor]
    nodes: list[Node]
    bounds: list[Interval]

    def __post_init__(self) -> None:
        self.place = {0: 0}  # of the input and of activations

    def of(self, u: int) -> Tensor:
        """The entries of the input (all) or of an activation that functions depend on."""
        if u == 0:
            return torch.arange(self.graph.n_inputs, device=self.values[0].lower.device)
        return self.entries[self.graph.nodes[u].arguments[0]]

    def add_activation(self, u: int, argument: int) -> None:
        self.place[u] = len(self.nodes)
        node = self.graph.nodes[u]
        bounds = chosen(self.values[u], self.of(u))
        self.add(Node(node.operator, (argument,), (len(self.of(u)),), node.name), bounds)

    def add(self, node: Node, bounds: Interval | None) -> None:
        found = interval_step(node, self.bounds)
        self.nodes.append(node)
        self.bounds.append(found if bounds is None else intersect(bounds, found))

    def add_enclosure(
        self, parts: Sequence[tuple[Mapping[int, Tensor], Mapping[int, Slopes]]], name: str, bounds: Interval | None
    ) -> int:
        """A node that encloses rows over the network's nodes."""
        below = [0, *(u for u in self.users if u in self.place)]
        found = [self.functions(rows, slopes, below) for rows, slopes in parts]
        lower, upper = (torch.cat([f[side] for f in found], 1) for side in (0, 2))
        lower_offset, upper_offset = (torch.cat([f[side] for f in found]) for side in (1, 3))
        sizes_ = [len(self.of(u)) for u in below]
        pairs = zip(below, lower.split(sizes_), upper.split(sizes_), strict=True)
        used = [(u, low, high) for u, low, high in pairs if u == 0 or bool(low.any()) or bool(high.any())]
        operator = Enclosure(
            torch.cat([low for _, low, _ in used]),
            lower_offset,
            torch.cat([high for _, _, high in used]),
            upper_offset,
            tuple(low.shape[0] for _, low, _ in used),
        )
        arguments = tuple(self.place[u] for u, _, _ in used)
        self.add(Node(operator, arguments, (len(lower_offset),), name), bounds)
        return len(self.nodes) - 1

    def functions(
        self, rows: Mapping[int, Tensor], slopes: Mapping[int, Slopes], below: Sequence[int]
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Lower and upper weights ``(columns, rows)`` and offsets ``(rows,)``, with what rounding may have added."""
        start = {i: with_negated(r) for i, r in rows.items()}
        both = {i: Slopes(*(torch.cat([s, s], 1) for s in pair)) for i, pair in slopes.items()}
        intervals = dict(enumerate(self.values))
        pushed = push(
            self.graph, start, intervals, both, lambda i: False, below, sizes=self.sizes, lines=self.lines,
            weigh=weighed_exactly,
        )  # fmt: skip
        blocks, reach = [], []
        for u in below:
            met = pushed.watched.get(u)
            width = len(self.of(u))
            count = pushed.offset.shape[1]
            blocks.append(pushed.offset.new_zeros(count, width) if met is None else met[0].flatten(1)[:, self.of(u)])
            reach.append(magnitude(self.values[u]).flatten()[self.of(u)])
        weight, offset = torch.cat(blocks, 1), pushed.offset[0]
        size = weight.abs() @ torch.cat(reach) + offset.abs() + pushed.size
        offset = offset - margin(size.reshape(-1))
        half = len(offset) // 2
        return weight[:half].mT, offset[:half], -weight[half:].mT, -offset[half:]
