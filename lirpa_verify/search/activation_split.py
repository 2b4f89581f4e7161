"""Branch and bound that splits the arguments of nonlinear functions (beta-CROWN, arXiv:2103.06624).

Each round takes a batch of domains, splits each at the neuron whose relaxation costs its bound most,
and bounds the children with optimised slopes and multipliers, starting from the parent's. Intervals
of intermediate nodes are the parent's, cut at the split.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from lirpa_verify.bounds.alpha_crown import (
    Parameters,
    Target,
    bound,
    initial_positions,
    optimise,
    slopes_at,
)
from lirpa_verify.bounds.sizes import sizes
from lirpa_verify.deadline import Deadline
from lirpa_verify.graph.graph import Graph
from lirpa_verify.operators.base import Interval
from lirpa_verify.search.branching import Layout, scores, splittable
from lirpa_verify.search.domains import Domains, Key, join, parameter_fields
from lirpa_verify.search.specification import Problem
from lirpa_verify.search.stack import Stack
from lirpa_verify.verdict import Progress, Result

ROOT_STEPS, CHILD_STEPS = 60, 12
CANDIDATES = 4  # neurons per domain whose two children are bounded before one is chosen
BATCH_BYTES = 2**29
REPORT_SECONDS = 0.2


@dataclass(frozen=True)
class Roots:
    """What to prove impossible: one row of targets per disjunct of a box."""

    start: dict[int, Tensor]  # per node (roots, conjuncts, *node)
    rhs: Tensor  # (roots, conjuncts)
    sizes: Mapping[int, Tensor] = field(default_factory=dict)  # `bounds.sizes` over the whole box

    def target(self, domains: Domains) -> Target:
        intervals = domains.intervals()
        return Target(
            {i: rows[domains.root] for i, rows in self.start.items()},
            self.rhs[domains.root],
            intervals[0],
            intervals,
            domains.splits(),
            self.sizes,
        )


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


def root_domains(
    graph: Graph, layout: Layout, roots: Roots, values: list[Interval], box: Interval, deadline: Deadline
) -> Domains:
    """One domain per root, bounded with optimised slopes."""
    roots = replace(roots, sizes=sizes(graph, values))
    count = len(roots.rhs)
    intervals = {0: box, **{i: values[i] for i in graph.bounded}}
    fields: dict[Key, Tensor] = {}
    for i, interval in intervals.items():
        for name, end in zip(("lower", "upper"), interval, strict=True):
            fields[name, i] = end.expand(count, *end.shape[1:])
    for z in layout.nodes:
        zero = torch.zeros_like(fields["lower", z])
        fields["sign", z], fields["point", z] = zero, zero
    fields["margin", 0] = roots.rhs[:, 0]
    fields["root", 0] = torch.arange(count, device=roots.rhs.device)
    domains = Domains(fields)
    positions = initial_positions(graph, domains.intervals(), graph.ancestors[graph.output], 1)
    conjuncts = roots.rhs.shape[1]
    mix = torch.full_like(roots.rhs, 1 / conjuncts).unsqueeze(1) if conjuncts > 1 else None
    multipliers = {z: torch.zeros_like(fields["lower", z]).unsqueeze(1) for z in layout.nodes}
    start = Parameters(positions, {}, mix)
    best = optimise(
        graph, roots.target(domains), start, ROOT_STEPS, lambda margin: unproved(margin) and not deadline.passed()
    )
    parameters = Parameters(best.parameters.positions, multipliers, best.parameters.weights)
    return domains.updated({**parameter_fields(parameters), ("margin", 0): best.margin[:, 0]})


def unproved(margin: Tensor) -> bool:
    return bool((margin <= 0).any())


def activation_split(
    graph: Graph,
    roots: Roots,
    domains: Domains,
    layout: Layout,
    deadline: Deadline,
    report: Callable[[Progress], None],
    interlude: Callable[[], Result | None],
) -> Result:
    """Closes all domains, finds a violation, or runs out of time.

    Args:
        graph: the network over its varying inputs.
        roots: the targets the domains refer to.
        domains: bounded root domains.
        layout: the splittable entries.
        deadline: when to stop.
        report: takes news for the user.
        interlude: called once a round; what runs beside the proof and may decide first.
    """
    stack: Stack[Domains] = Stack(join)
    stack.push(domains[(~(domains.margin > 0)).nonzero().flatten()])
    bounded = closed = 0
    reported = 0.0
    size = max(1, BATCH_BYTES // bytes_per_domain(graph, domains))
    while stack.count:
        if deadline.passed():
            return Result("timeout", reason="time is up", statistics={"domains": bounded, "open": stack.count})
        children = bound_children(graph, roots, layout, stack.pop(size), deadline)
        bounded += len(children)
        open_ = children[(~(children.margin > 0)).nonzero().flatten()]
        closed += len(children) - len(open_)
        stack.push(open_)
        beside = interlude()
        if beside is not None:
            return beside
        if time.monotonic() - reported > REPORT_SECONDS:
            reported = time.monotonic()
            report(Progress("activation-split", stack.count, closed, stack.worst()))
    return Result("unsat", reason="activation split", statistics={"domains": bounded})


def bytes_per_domain(graph: Graph, domains: Domains) -> int:
    """Rough memory of bounding one child with gradients."""
    return 40 * sum(node.size for node in graph.nodes) * domains.margin.element_size()


def bound_children(graph: Graph, roots: Roots, layout: Layout, domains: Domains, deadline: Deadline) -> Domains:
    """Both children of every domain, bounded."""
    children = split(graph, layout, domains, choose(graph, roots, layout, domains))
    children = children[feasible(children).nonzero().flatten()]
    if len(children) == 0:
        return children
    target, inherited = roots.target(children), children.parameters()
    active = {z: m for z, m in inherited.multipliers.items() if bool((children.fields["sign", z] != 0).any())}
    parameters = Parameters(inherited.positions, active, inherited.weights)
    best = optimise(graph, target, parameters, CHILD_STEPS, lambda margin: unproved(margin) and not deadline.passed())
    margin = torch.fmax(best.margin[:, 0], children.margin)
    return children.updated({**parameter_fields(best.parameters), ("margin", 0): margin})


@dataclass(frozen=True)
class Choice:
    """What to split in each domain: an entry of the layout, or (where it is -1) the box along an input."""

    entry: Tensor  # (batch,)
    dimension: Tensor  # (batch,)


@torch.no_grad()
def choose(graph: Graph, roots: Roots, layout: Layout, domains: Domains) -> Choice:
    """The entries with the best scores are tried; a domain without any relaxation gap splits its box."""
    target, parameters = roots.target(domains), domains.parameters()
    users = tuple(u for z in layout.nodes for u in graph.users[z] if graph.nodes[u].operator.splittable)
    _, linear = bound(graph, target, parameters, users)
    width = target.box.upper - target.box.lower
    dimension = (linear.weight[:, 0].abs() * width + 1e-9 * width).argmax(1)
    if not layout.nodes:
        return Choice(torch.full_like(domains.root, -1), dimension)
    slopes = slopes_at(graph, target.intervals, parameters.positions)
    score = scores(graph, layout, target.intervals, slopes, linear.watched)
    best = score.topk(min(CANDIDATES, score.shape[1]), dim=1)
    gains = []
    for k in range(best.indices.shape[1]):
        entry = torch.where(best.values[:, k] > 0, best.indices[:, k], best.indices[:, 0])
        children = split(graph, layout, domains, Choice(entry, dimension))
        margin, _ = bound(graph, roots.target(children), children.parameters())
        left, right = (margin[:, 0] - torch.cat([domains.margin, domains.margin])).clamp(min=1e-9).log().chunk(2)
        gains.append(left + right)
    pick = torch.stack(gains, 1).argmax(1, keepdim=True)
    entry = best.indices.gather(1, pick)[:, 0]
    return Choice(torch.where(best.values[:, 0] > 0, entry, -1), dimension)


def split(graph: Graph, layout: Layout, domains: Domains, choice: Choice) -> Domains:
    """Lower halves of all domains, then their upper halves."""
    changes: dict[Key, Tensor] = {key: torch.cat([value, value]) for key, value in domains.fields.items()}
    batch = len(domains)
    for z, who, where in layout.locate(choice.entry):
        interval = Interval(domains.fields["lower", z][who], domains.fields["upper", z][who])
        user = next(u for u in graph.users[z] if graph.nodes[u].operator.splittable)
        point = pick(graph.nodes[user].operator.split_point(interval), where)
        point = torch.minimum(torch.maximum(point, pick(interval.lower, where)), pick(interval.upper, where))
        for side, end, sign in ((0, "upper", 1.0), (batch, "lower", -1.0)):
            for name, value in ((end, point), ("point", point), ("sign", sign)):
                changes[name, z].flatten(1)[who + side, where] = value
    who = (choice.entry < 0).nonzero().flatten()
    if len(who):
        where = choice.dimension[who]
        lower, upper = changes["lower", 0], changes["upper", 0]
        middle = (lower[who, where] + upper[who, where]) / 2
        upper[who, where], lower[who + batch, where] = middle, middle
    return Domains(changes)


def pick(values: Tensor, where: Tensor) -> Tensor:
    return values.flatten(1)[torch.arange(len(where), device=where.device), where]


def feasible(domains: Domains) -> Tensor:
    """Domains whose intervals are not empty."""
    flags = torch.ones(len(domains), dtype=torch.bool, device=domains.margin.device)
    for i, (lower, upper) in domains.intervals().items():
        if i:
            flags &= ~(lower > upper).flatten(1).any(1)  # an end that is not a number excludes nothing
    return flags


__all__ = ["activation_split", "make_roots", "root_domains", "splittable"]
