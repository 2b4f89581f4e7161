"""A network reduced to what is nonlinear in a box: its undecided neurons and the affine maps between them.

Where bounds decide a neuron (a ReLU of known sign) it is linear, and consecutive linear steps make one
matrix. What is left has one node per nonlinear layer with its undecided entries only, each an affine function
of the input and of the undecided entries below. Bounds of it are the same as those of the network it came
from, at a cost that depends on the undecided neurons alone, which in the parts of a branch and
bound are few. (Fixing stable neurons: arXiv:1711.07356, section 4; merging linear layers is folklore.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import accumulate

import torch
from torch import Tensor

from lirpa_verify.bounds.alpha_crown import Parameters, Splits
from lirpa_verify.bounds.crown import Pushed, one_hot_rows, push
from lirpa_verify.bounds.interval import interval_step
from lirpa_verify.bounds.sizes import magnitude, sizes, weighed_exactly
from lirpa_verify.graph.graph import Graph, Node
from lirpa_verify.operators.arithmetic import Combine
from lirpa_verify.operators.base import Interval, Lines, Operator, Slopes
from lirpa_verify.operators.joint_dense import JointDense
from lirpa_verify.operators.rearrange import Gather

LARGEST = 2**25  # entries of all matrices together
CHUNK_BYTES = 2**27  # of rows pushed at once


@dataclass(frozen=True)
class Kept:
    """Where a node of the network is found in the collapsed one."""

    node: int
    entries: Tensor  # (k,) of the network's node, in the order of the collapsed one


@dataclass(frozen=True)
class Collapsed:
    """`graph` takes the same inputs to the same outputs within the box whose bounds it was made from."""

    graph: Graph
    values: list[Interval]  # bounds of its nodes, (1, *node)
    kept: dict[int, Kept]  # per node that a nonlinear operator takes
    place: dict[int, int]  # per nonlinear node of the network, the collapsed one's

    def carried(self, splits: Splits) -> Splits:
        """Constraints on kept entries, on the collapsed network."""
        found = Splits({}, {})
        for z, kept in self.kept.items():
            if z in splits.sign:
                found.sign[kept.node] = splits.sign[z].flatten(1)[:, kept.entries]
                found.point[kept.node] = splits.point[z].flatten(1)[:, kept.entries]
        return found

    def carried_parameters(self, graph: Graph, parameters: Parameters) -> Parameters:
        """What was optimised on the network (rows of targets stay the same), for the entries that are left."""
        positions, multipliers = {}, {}
        for u, position in parameters.positions.items():
            if u in self.place:
                entries = self.kept[graph.nodes[u].arguments[0]].entries
                positions[self.place[u]] = Slopes(*(t.flatten(2)[:, :, entries] for t in position))
        for z, multiplier in parameters.multipliers.items():
            if z in self.kept:
                multipliers[self.kept[z].node] = multiplier.flatten(2)[:, :, self.kept[z].entries]
        return Parameters(positions, multipliers, parameters.weights)

    def restore(self, values: Sequence[Interval], tighter: Sequence[Interval]) -> list[Interval]:
        """Bounds of the network's nodes, with those of the collapsed one where they are known."""
        restored = list(values)
        for z, kept in self.kept.items():
            lower, upper = (end.flatten(1).clone() for end in restored[z])
            lower[:, kept.entries], upper[:, kept.entries] = tighter[kept.node]
            shape = restored[z].lower.shape[1:]
            restored[z] = Interval(lower.unflatten(1, shape), upper.unflatten(1, shape))
        return restored


def collapsible(graph: Graph) -> bool:
    """Whether every nonlinear operator is an element-wise function, the same for all entries."""
    return all(
        len(node.arguments) == 1
        and node.operator.splittable
        and not any(isinstance(getattr(node.operator, f.name), Tensor) for f in fields(node.operator))
        for i, node in enumerate(graph.nodes)
        if node.operator.bounded and graph.depends_on_input[i]
    )


@torch.no_grad()
def collapse(
    graph: Graph,
    values: Sequence[Interval],
    keep: Mapping[int, Tensor] | None = None,
    largest: int = LARGEST,
) -> Collapsed | None:
    """The network within the box that `values` are bounds for.

    Args:
        graph: the network.
        values: certified bounds of its nodes over one box, ``(1, *node)`` each.
        keep: masks ``(1, *node)`` of entries of arguments that stay although they are decided.
        largest: entries that all matrices together may have.

    Returns:
        None where the network has nonlinear operators of other kinds, or the matrices would be too large.
    """
    work = Work.of(graph, values, keep or {}, graph.n_outputs, largest)
    if work is None:
        return None
    last = work.affine(graph.output, torch.arange(graph.n_outputs, device=values[0].lower.device))
    built = work.assembled(last)
    built.add_affine(last, values[graph.output])
    return built.done()


@dataclass(frozen=True)
class Rows:
    """Quantities that are affine functions of nodes of a collapsed network."""

    start: dict[int, Tensor]  # coefficients (rows, *node)
    offset: Tensor  # (rows,)
    size: Tensor  # (rows,) of all terms that were added up or will be, for rounding


@torch.no_grad()
def collapse_below(
    graph: Graph, values: Sequence[Interval], entries: Tensor, keep: Mapping[int, Tensor]
) -> tuple[Collapsed, Rows] | None:
    """What is nonlinear below the last node, and some entries (rows,) of that node as functions of it.

    Other arguments and None as for `collapse`; None also where nothing below is nonlinear.
    """
    work = Work.of(graph, values, keep, len(entries), LARGEST)
    if work is None or not work.users:
        return None
    last = work.affine(graph.output, entries)
    built = work.assembled()
    start = {built.place[u] if u else 0: block for u, block in last.blocks.items()}
    size = last.terms
    for i, block in start.items():
        size = size + block.abs() @ magnitude(built.bounds[i])[0]
    return built.done(), Rows(start, last.bias, size)


def matrix_entries(graph: Graph, users: Sequence[int], entries: Mapping[int, Tensor], outputs: int) -> int:
    """Entries of all matrices of the collapsed network."""
    count = {u: len(entries[graph.nodes[u].arguments[0]]) for u in users}
    targets = [(z, len(entries[z])) for z in {graph.nodes[u].arguments[0] for u in users}]
    below = [(graph.ancestors[z], k) for z, k in [*targets, (graph.output, outputs)]]
    return sum(k * (graph.n_inputs + sum(count[u] for u in users if u in ancestors)) for ancestors, k in below)


def chosen(interval: Interval, entries: Tensor) -> Interval:
    return Interval(interval.lower.flatten(1)[:, entries], interval.upper.flatten(1)[:, entries])


@dataclass
class Affine:
    """Entries of a node as an affine function of the input (0) and of nonlinear nodes' undecided entries."""

    blocks: dict[int, Tensor]  # (entries, entries of that node), those that are not all zero
    bias: Tensor  # (entries,)
    terms: Tensor  # (entries,), see JointDense
    name: str
    offset: int = 0  # where its part of what depends on the input directly starts

    @property
    def size(self) -> int:
        return len(self.bias)


@dataclass
class Assembly:
    """A collapsed network under construction."""

    graph: Graph
    values: Sequence[Interval]
    entries: Mapping[int, Tensor]
    nodes: list[Node]
    bounds: list[Interval]
    kept: dict[int, Kept]
    place: dict[int, int]  # per nonlinear node of the network

    def done(self) -> Collapsed:
        return Collapsed(Graph(tuple(self.nodes)), self.bounds, self.kept, self.place)

    def add(self, operator: Operator, arguments: tuple[int, ...], size: int, name: str, bounds: Interval | None) -> int:
        node = Node(operator, arguments, (size,), name)
        self.nodes.append(node)
        self.bounds.append(interval_step(node, self.bounds) if bounds is None else bounds)
        return len(self.nodes) - 1

    def add_input_part(self, maps: Sequence[Affine]) -> None:
        """Node 1: what all nodes have of the input directly, one after the other, as one matrix product."""
        direct = [m for m in maps if 0 in m.blocks]
        if not direct:
            return
        for m, before in zip(direct, accumulate([0, *(m.size for m in direct)]), strict=False):
            m.offset = before
        weight = torch.cat([m.blocks[0] for m in direct]).mT.contiguous()
        bias, terms = torch.cat([m.bias for m in direct]), torch.cat([m.terms for m in direct])
        operator = JointDense(weight, bias, terms, (self.graph.n_inputs,))
        self.add(operator, (0,), len(bias), "collapsed", None)

    def add_affine(self, m: Affine, bounds: Interval) -> int:
        used = [u for u in m.blocks if u]
        terms = []
        if 0 in m.blocks:
            index = torch.arange(m.offset, m.offset + m.size, device=m.bias.device)
            total = self.nodes[1].size
            terms.append(self.add(Gather(index, (total,), (m.size,)), (1,), m.size, m.name, None if used else bounds))
        if used or not terms:
            blocks = [m.blocks[u] for u in used] or [m.bias.new_zeros(m.size, self.graph.n_inputs)]
            own = torch.zeros_like(m.bias) if terms else m.bias
            weight, parts = torch.cat(blocks, 1).mT.contiguous(), tuple(b.shape[1] for b in blocks)
            operator = JointDense(weight, own, torch.zeros_like(own) if terms else m.terms, parts)
            arguments = tuple(self.place[u] for u in used) or (0,)
            terms.append(self.add(operator, arguments, m.size, m.name, None if terms else bounds))
        return terms[0] if len(terms) == 1 else self.add(Combine((1.0, 1.0)), tuple(terms), m.size, m.name, bounds)

    def add_nonlinear(self, u: int) -> None:
        node = self.graph.nodes[u]
        kept = self.kept[node.arguments[0]]
        bounds = chosen(self.values[u], kept.entries)
        self.place[u] = self.add(node.operator, (kept.node,), len(kept.entries), node.name, bounds)


@dataclass(frozen=True)
class Work:
    """What the affine maps of a collapsed network are found from."""

    graph: Graph
    values: Sequence[Interval]
    users: Sequence[int]  # nonlinear operators with undecided entries
    entries: Mapping[int, Tensor]  # per argument of a nonlinear operator
    lines: Mapping[int, Lines]  # per nonlinear operator: exact, but 0 for the undecided entries
    sizes: Mapping[int, Tensor]

    @staticmethod
    def of(
        graph: Graph, values: Sequence[Interval], keep: Mapping[int, Tensor], outputs: int, largest: int
    ) -> Work | None:
        """For some outputs; None as for `collapse`."""
        if not collapsible(graph):
            return None
        below = sorted(graph.ancestors[graph.output])
        relaxed = [i for i in below if graph.nodes[i].operator.bounded and graph.depends_on_input[i]]
        entries, lines = undecided(graph, values, relaxed, keep)
        users = [u for u in relaxed if len(entries[graph.nodes[u].arguments[0]])]
        if matrix_entries(graph, users, entries, outputs) > largest:
            return None
        return Work(graph, values, users, entries, lines, sizes(graph, values))

    def assembled(self, *more: Affine) -> Assembly:
        """All undecided entries and what is below them, with the input's part of other maps."""
        graph = self.graph
        targets = list(dict.fromkeys(graph.nodes[u].arguments[0] for u in self.users))
        maps = {z: self.affine(z, self.entries[z]) for z in targets}
        built = Assembly(graph, self.values, self.entries, [graph.nodes[0]], [self.values[0]], {}, {})
        built.add_input_part([*maps.values(), *more])
        for u in self.users:
            z = graph.nodes[u].arguments[0]
            if z not in built.kept:
                bounds = chosen(self.values[z], self.entries[z])
                built.kept[z] = Kept(built.add_affine(maps[z], bounds), self.entries[z])
            built.add_nonlinear(u)
        return built

    def affine(self, z: int, wanted: Tensor) -> Affine:
        """Entries of node z as an affine function of the input and of the undecided entries below."""
        ancestors = self.graph.ancestors[z]
        below = [0, *(u for u in self.users if u in ancestors)]
        room = max(1, CHUNK_BYTES // (8 * max(self.graph.nodes[i].size for i in ancestors)))
        found = [self.push(z, part, below) for part in wanted.split(room)]
        blocks = {u: torch.cat([self.columns(pushed, u) for pushed in found]) for u in below}
        bias = torch.cat([pushed.offset[0] for pushed in found])
        terms = torch.cat([(pushed.size + pushed.offset.abs())[0] for pushed in found])
        used = {u: block for u, block in blocks.items() if bool(block.any())}
        return Affine(used, bias, terms, self.graph.nodes[z].name)

    def push(self, z: int, part: Tensor, below: Sequence[int]) -> Pushed:
        start = {z: one_hot_rows(part, self.graph.nodes[z].shape, self.values[0].lower)}
        intervals = dict(enumerate(self.values))
        return push(
            self.graph,
            start,
            intervals,
            {},
            lambda i: False,
            below,
            sizes=self.sizes,
            lines=self.lines,
            weigh=weighed_exactly,
        )

    def width(self, u: int) -> int:
        return len(self.entries[self.graph.nodes[u].arguments[0]])

    def columns(self, pushed: Pushed, u: int) -> Tensor:
        """(rows, entries): the coefficients of the undecided entries of node u, or of the input."""
        rows = pushed.watched.get(u)
        if rows is None:
            return pushed.offset.new_zeros(pushed.offset.shape[1], self.graph.n_inputs if u == 0 else self.width(u))
        return rows[0].flatten(1) if u == 0 else rows[0].flatten(1)[:, self.entries[self.graph.nodes[u].arguments[0]]]


def undecided(
    graph: Graph, values: Sequence[Interval], relaxed: Sequence[int], keep: Mapping[int, Tensor]
) -> tuple[dict[int, Tensor], dict[int, Lines]]:
    """Per argument the entries to keep (where some function is not linear), and lines that are exact on the others."""
    inexact = {z: mask.unsqueeze(1) for z, mask in keep.items()}
    found: dict[int, Lines] = {}
    for u in relaxed:
        z = graph.nodes[u].arguments[0]
        lines = graph.nodes[u].operator.relaxation(values[z], None)
        assert lines is not None
        differ = (lines.lower != lines.upper) | (lines.lower_offset != lines.upper_offset)
        mask = differ | ~torch.isfinite(lines.lower_offset)
        inexact[z] = inexact[z] | mask if z in inexact else mask
        found[u] = lines
    for u, lines in found.items():
        mask = inexact[graph.nodes[u].arguments[0]]
        slope, offset = (t.masked_fill(mask, 0.0) for t in (lines.lower, lines.lower_offset.expand_as(mask)))
        found[u] = Lines(slope, offset, slope, offset)
    return {z: mask.flatten().nonzero().flatten() for z, mask in inexact.items()}, found
