"""What a search over activations has to prove impossible: the disjuncts of one input box as targets of bounds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lirpa_verify.bounds.alpha_crown import NONE, Parameters, Splits, Target, initial_positions, optimise
from lirpa_verify.bounds.input_parts import Part
from lirpa_verify.bounds.rounding import single
from lirpa_verify.bounds.sizes import sizes
from lirpa_verify.deadline import Deadline
from lirpa_verify.graph.graph import Graph
from lirpa_verify.operators.base import Interval
from lirpa_verify.operators.relu_over_box import ReLUOverBox
from lirpa_verify.search.branching import Layout, splittable
from lirpa_verify.search.domains import Domains, Key, join, parameter_fields
from lirpa_verify.search.specification import Problem

ROOT_STEPS = 100
ROOTS_BYTES = 2**32  # of the roots that are bounded with gradients at once
KEPT = 4  # times as many may stay open: what is kept of a domain is a small part of what bounding it takes


@dataclass(frozen=True)
class Roots:
    """What to prove impossible: one row of targets per disjunct of a box."""

    start: dict[int, Tensor]  # per node (roots, conjuncts, *node)
    rhs: Tensor  # (roots, conjuncts)


@dataclass(frozen=True)
class Task:
    """A network, what to prove about it, and where it can be split."""

    graph: Graph
    roots: Roots
    layout: Layout
    nodes: tuple[Interval, ...]  # bounds of all nodes over the box, (1, *node)
    sizes: Mapping[int, Tensor] | None  # `bounds.sizes` over the box; without them nothing is certified
    cuts: Splits = NONE  # constraints on nodes that hold throughout, (1, *node)

    @staticmethod
    def of(
        graph: Graph, problem: Problem, box: int, disjuncts: Tensor, values: list[Interval], cuts: Splits = NONE
    ) -> Task:
        """Some disjuncts of one box of the problem, with bounds of the nodes over the box."""
        roots = make_roots(graph, problem, box, disjuncts)
        return Task(graph, roots, splittable(graph), tuple(values), sizes(graph, values), cuts)

    def of_roots(self, index: Tensor) -> Task:
        """The same about some of the roots only."""
        roots = Roots({i: rows[index] for i, rows in self.roots.start.items()}, self.roots.rhs[index])
        return replace(self, roots=roots)

    def single(self) -> Task:
        """In single precision, where bounds guide a search but certify nothing."""
        device = self.roots.rhs.device
        roots = Roots({i: rows.float() for i, rows in self.roots.start.items()}, self.roots.rhs.float())
        nodes = tuple(single(interval) for interval in self.nodes)
        return Task(self.graph.to(torch.float32, device), roots, self.layout, nodes, None, self.cuts.map(Tensor.float))

    def glance(self, part: Part) -> Task:
        """With a part of the inputs: enough to compare splits with each other."""
        roots = Roots(*part.target(self.roots.start, self.roots.rhs))
        return replace(self, graph=part.graph, roots=roots, nodes=(part.box, *self.nodes[1:]))

    def target(self, domains: Domains) -> Target:
        """What to bound for each domain; the box is shared unless splits cut it."""
        intervals, roots = domains.intervals(), self.roots
        start = {i: rows[domains.root] for i, rows in roots.start.items()}
        box = intervals.get(0, self.nodes[0])
        return Target(start, roots.rhs[domains.root], box, intervals, domains.splits(), self.sizes)

    def values(self, domain: Domains) -> list[Interval]:
        """Bounds of all nodes in one domain."""
        known = domain.intervals()
        return [known.get(i, interval) for i, interval in enumerate(self.nodes)]

    def bytes_per_domain(self) -> int:
        """Rough memory of bounding one child with gradients."""
        shares = sum(n.operator.weight.numel() for n in self.graph.nodes if isinstance(n.operator, ReLUOverBox))
        return (40 * sum(node.size for node in self.graph.nodes) + 12 * shares) * self.roots.rhs.element_size()


def make_roots(graph: Graph, problem: Problem, box: int, disjuncts: Tensor) -> Roots:
    """Targets of some disjuncts of one box; a missing conjunct repeats the first, which changes nothing."""
    rows = problem.specification.rows[box][disjuncts]  # (roots, conjuncts)
    rows = torch.where(rows < 0, rows[:, :1], rows)
    used = int((problem.specification.rows[box][disjuncts] >= 0).sum(1).max())
    rows = rows[:, :used]
    kind = problem.specification.kind[rows]
    start = {graph.output: problem.specification.output[kind]}
    if problem.specification.input is not None:
        start[0] = problem.specification.input[kind]
    return Roots(start, problem.specification.rhs[rows])


def root_domains(task: Task, deadline: Deadline, steps: int = ROOT_STEPS, known: Parameters | None = None) -> Domains:
    """One domain per root, bounded with optimised slopes.

    Args:
        task: in double precision.
        deadline: when to stop optimising.
        steps: of optimisation, at most.
        known: parameters to start from, where there are better ones than the operators' own.
    """
    graph, layout, roots = task.graph, task.layout, task.roots
    count = len(roots.rhs)
    intervals = {i: task.nodes[i] for i in graph.bounded}
    fields: dict[Key, Tensor] = {}
    for i, interval in intervals.items():
        for name, end in zip(("lower", "upper"), interval, strict=True):
            fields[name, i] = end.expand(count, *end.shape[1:])
    for z in layout.nodes:
        zero = torch.zeros_like(fields["lower", z])
        fields["sign", z] = task.cuts.sign.get(z, zero).expand_as(zero)
        fields["point", z] = task.cuts.point.get(z, zero).expand_as(zero)
    fields["margin", 0] = roots.rhs[:, 0]
    fields["root", 0] = torch.arange(count, device=roots.rhs.device)
    domains = Domains(fields)
    below = frozenset[int]().union(*(graph.ancestors[i] for i in roots.start))
    positions = initial_positions(graph, domains.intervals(), below, 1)
    conjuncts = roots.rhs.shape[1]
    mix = torch.full_like(roots.rhs, 1 / conjuncts).unsqueeze(1) if conjuncts > 1 else None
    multipliers = {z: torch.zeros_like(fields["lower", z]).unsqueeze(1) for z in layout.nodes}
    active = {z: m for z, m in multipliers.items() if z in task.cuts.on(layout.nodes).sign}
    if known is not None:
        positions |= known.positions
        active |= {z: m for z, m in known.multipliers.items() if z in active}
        mix = mixed_alone(known.weights, conjuncts)
    start = Parameters(positions, active, mix)
    best = optimise(
        graph, task.target(domains), start, steps, lambda margin: unproved(margin) and not deadline.passed()
    )
    multipliers |= best.parameters.multipliers
    parameters = Parameters(best.parameters.positions, multipliers, best.parameters.weights)
    return domains.updated({**parameter_fields(parameters), ("margin", 0): best.margin[:, 0]})


def open_domains(task: Task, deadline: Deadline, steps: int) -> Domains | None:
    """Domains of the roots that stay open, bounded as by `root_domains`, as many at once as memory allows.

    None where it does not suffice to keep them all.
    """
    number = torch.arange(len(task.roots.rhs), device=task.roots.rhs.device)
    at_once = max(1, ROOTS_BYTES // task.bytes_per_domain())
    kept: list[Domains] = []
    for part in number.split(at_once):
        found = root_domains(task if len(part) == len(number) else task.of_roots(part), deadline, steps)
        found = found[found.open_index]
        kept.append(found.updated({("root", 0): part[found.root]}))
        if sum(map(len, kept)) > KEPT * at_once:
            return None
    return join(kept)


def mixed_alone(weights: Tensor | None, conjuncts: int) -> Tensor | None:
    """Weights (batch, rows, all conjuncts) of roots that have fewer now that the longest one is not among them.

    What stood in for missing conjuncts were repetitions of the first.
    """
    if weights is None or conjuncts == 1:
        return None
    first = weights[..., :1] + weights[..., conjuncts:].sum(2, keepdim=True)
    return torch.cat([first, weights[..., 1:conjuncts]], 2)


def rooted(domains: Domains, roots: Roots) -> Domains:
    """Bounded root domains as those of a task that has just these roots, in this order."""
    fields = dict(domains.fields)
    fields["root", 0] = torch.arange(len(domains), device=domains.root.device)
    mix = mixed_alone(fields.pop(("mix", 0), None), roots.rhs.shape[1])
    return Domains(fields if mix is None else {**fields, ("mix", 0): mix})


def unproved(margin: Tensor) -> bool:
    return bool((margin <= 0).any())
