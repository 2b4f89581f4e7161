"""Bounds of neurons by trees of splits: a branch and bound of its own for every end of every undecided neuron.

In a deep network the relaxation of each layer multiplies the error of those below. Some splits of the neurons below
each undecided neuron, chosen for it, tighten its interval more than any choice of slopes can, and decide many; layer by
layer this adds up, often to a proof. (Other verifiers solve a mixed-integer program per neuron instead:
arXiv:1711.07356, section 4; arXiv:2103.06624, section 4.) All neurons of a layer are one batch of trees.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from lirpa_verify.bounds.alpha_crown import Splits, bound, optimise
from lirpa_verify.bounds.collapse import collapse_below
from lirpa_verify.bounds.crown import with_negated
from lirpa_verify.bounds.input_parts import Part, input_parts
from lirpa_verify.bounds.intermediate import signs_suffice, undecided_entries
from lirpa_verify.bounds.interval import interval_step
from lirpa_verify.bounds.optimised_nodes import gain
from lirpa_verify.bounds.rounding import intersect, margin, with_entries
from lirpa_verify.bounds.sizes import sizes
from lirpa_verify.deadline import Deadline
from lirpa_verify.graph.graph import Graph
from lirpa_verify.operators.base import Interval
from lirpa_verify.search.branching import splittable
from lirpa_verify.search.domains import Domains, join, parameter_fields
from lirpa_verify.search.look_ahead import choose
from lirpa_verify.search.roots import Roots, Task, root_domains, unproved
from lirpa_verify.search.split_domains import feasible, split

FIRST_STEPS = 20  # gradient steps on the bound of a neuron before it has a tree
STEPS, RATE = 4, 0.2  # on the bounds of a tree's leaves
BATCH = 128  # leaves that are split at once, at most
BATCH_BYTES = 2**28  # of both halves, with gradients
LEAVES_BYTES, FIELDS = 2**30, 6  # of all leaves together, which have so many tensors per bounded node
SAMPLE = 16  # neurons of a node that come first, and tell whether the others are worth it
LEAST_GAINED = 0.1  # share of their widths that has to go for that


@dataclass(frozen=True)
class Growth:
    """How much to spend: splits per end of a neuron, and a deadline for all of it."""

    splits: int
    deadline: Deadline


def grown(graph: Graph, values: Sequence[Interval], cuts: Splits, growth: Growth) -> list[Interval]:
    """Bounds of all nodes over one box, those of undecided neurons from trees.

    Args:
        graph: a network that can be collapsed.
        values: certified bounds of every node, ``(1, *node)`` each.
        cuts: constraints on nodes that hold as well.
        growth: when its deadline has passed the remaining nodes keep what they had.

    Returns:
        One interval per node, nowhere wider than `values`.
    """
    improved, left = [values[0]], len(graph.tightened)
    for i, node in enumerate(graph.nodes[1:], start=1):
        value = intersect(values[i], interval_step(node, improved))
        if i in graph.tightened:
            # Splits near the output decide most, and bounds below are what makes them do so: each layer gets its share.
            until = growth.deadline.within(growth.deadline.remaining() / left)
            left -= 1
            value = grown_node(graph, i, [*improved, value], cuts, Growth(growth.splits, until))
        improved.append(value)
    return improved


def grown_node(graph: Graph, i: int, values: list[Interval], cuts: Splits, growth: Growth) -> Interval:
    """Bounds of node i, as many entries at a time as memory has room for the leaves of."""
    *below, value = values
    entries = undecided_entries(graph, i, value)[0].nonzero().flatten()
    bytes_per_leaf = FIELDS * 4 * max(1, sum(graph.nodes[j].size for j in graph.bounded if j in graph.ancestors[i]))
    room = max(1, LEAVES_BYTES // (2 * (growth.splits + 1) * bytes_per_leaf))
    few = entries[:: max(1, len(entries) // SAMPLE)] if len(entries) > 2 * SAMPLE else entries
    wider = value
    parts = (*few.split(room), *entries[~torch.isin(entries, few)].split(room))
    for k, part in enumerate(parts):
        told = k == -(-len(few) // room) and gain(wider, value, few) < LEAST_GAINED
        if told or len(part) == 0 or growth.deadline.passed():
            break
        value = grown_entries(Graph(graph.nodes[: i + 1]), [*below, value], part, signs_suffice(graph, i), cuts, growth)
    return value


def grown_entries(
    graph: Graph, values: list[Interval], entries: Tensor, signs: bool, cuts: Splits, growth: Growth
) -> Interval:
    """Bounds of a network's last node, from trees those of some entries (entries,)."""
    value = values[-1]
    cuts = cuts.on(graph.ancestors[graph.output] - {graph.output})
    found = collapse_below(graph, values, entries, {z: sign != 0 for z, sign in cuts.sign.items()})
    if found is None:
        return value
    small, rows = found
    start = {i: with_negated(row.unsqueeze(0))[0].unsqueeze(1) for i, row in rows.start.items()}
    slack = margin(rows.size)
    rhs = torch.cat([slack - rows.offset, slack + rows.offset]).unsqueeze(1)
    if not start:  # constant where everything below is decided
        return tightened(value, entries, *(-rhs[:, 0]).chunk(2))
    bounds = tuple(small.values)
    layout, known = splittable(small.graph), sizes(small.graph, bounds)
    task = Task(small.graph, Roots(start, rhs), layout, bounds, known, small.carried(cuts))
    return tightened(value, entries, *Trees.planted(task, signs, growth).grow().chunk(2))


def tightened(value: Interval, entries: Tensor, least: Tensor, least_negated: Tensor) -> Interval:
    """The interval, with lower bounds (entries,) of some entries and of their negatives."""
    return intersect(value, with_entries(value, entries, Interval(least, -least_negated)))


@dataclass
class Trees:
    """One tree per end of a neuron, all lower ends first; its bound is the least of its leaves'."""

    exact: Task
    signs: bool  # whether signs are all that is wanted: a bound above 0 is as good as any, and the other end's is too
    growth: Growth
    leaves: Domains  # that may be split, in single precision but for the margins, which are certified
    settled: Tensor  # (roots,) the least bound of the leaves that are not split any more, infinite without any
    splits: Tensor  # (roots,) so far
    fast: Task = field(init=False)
    parts: tuple[Part, ...] = field(init=False)  # of the inputs of `fast`
    glance: Task = field(init=False)  # `fast` with a part of the inputs: enough to compare splits with each other

    def __post_init__(self) -> None:
        self.fast = self.exact.single()
        self.parts = input_parts(self.fast.graph, self.fast.nodes[0])
        self.glance = self.fast.glance(self.parts[0]) if self.parts else self.fast

    @staticmethod
    def planted(task: Task, signs: bool, growth: Growth) -> Trees:
        roots = root_domains(task, growth.deadline, 0)
        settled = torch.full_like(roots.margin, torch.inf)
        trees = Trees(task, signs, growth, roots[:0].single(), settled, torch.zeros_like(roots.root))
        trees.add(roots.single().updated({("margin", 0): roots.margin}))
        if len(trees.leaves):
            first, trees.leaves = trees.leaves[trees.worst(len(settled))], trees.leaves[:0]
            trees.add(trees.optimised(first, FIRST_STEPS))
        return trees

    def grow(self) -> Tensor:
        """The bounds once all splits are spent, or none helps."""
        size = max(1, min(BATCH, BATCH_BYTES // (2 * self.fast.bytes_per_domain())))
        while not self.growth.deadline.passed():
            worst = self.worst(size)
            if len(worst) == 0:
                break
            chosen = self.leaves[worst]
            rest = torch.ones(len(self.leaves), dtype=torch.bool, device=worst.device)
            rest[worst] = False
            self.leaves = self.leaves[rest.nonzero().flatten()]
            entry = choose(self.glance, chosen)
            self.settle(chosen[(entry < 0).nonzero().flatten()])
            divided = (entry >= 0).nonzero().flatten()
            if len(divided):
                self.splits.index_add_(0, chosen.root[divided], torch.ones_like(divided))
                self.add(self.halves(chosen[divided], entry[divided]))
        return self.bounds()

    def worst(self, size: int) -> Tensor:
        """Of each tree that may still grow about as many of its worst leaves, `size` in all."""
        root, margin = self.leaves.root, self.leaves.margin
        may = (
            (margin < self.settled[root])
            & (self.splits[root] < self.growth.splits)
            & ~self.decided().roll(len(self.settled) // 2)[root]
        )
        may = may.nonzero().flatten()
        may = may[margin[may].argsort()]
        may = may[root[may].argsort(stable=True)]
        count = torch.bincount(root[may], minlength=len(self.settled))
        rank = torch.arange(len(may), device=may.device) - (count.cumsum(0) - count)[root[may]]
        return may[rank.argsort(stable=True)[:size]]

    def halves(self, domains: Domains, entry: Tensor) -> Domains:
        """Both halves of every domain, bounded; those in which nothing lies are left out."""
        halves = split(self.exact.graph, self.exact.layout, domains, entry)
        halves = halves[feasible(halves).nonzero().flatten()]
        return self.optimised(halves, STEPS) if len(halves) else halves

    def optimised(self, leaves: Domains, steps: int) -> Domains:
        """The leaves with better slopes and multipliers, and the bounds that these give in double precision."""
        inherited = leaves.parameters()
        active = {z: m for z, m in inherited.multipliers.items() if bool((leaves.fields["sign", z] != 0).any())}
        start, target = replace(inherited, multipliers=active), self.fast.target(leaves)
        best = optimise(self.fast.graph, target, start, steps, self.proceed, RATE, self.signs, parts=self.parts)
        leaves = leaves.updated(parameter_fields(best.parameters))
        exact = leaves.double()
        with torch.no_grad():
            margin, _ = bound(self.exact.graph, self.exact.target(exact), exact.parameters())
        return leaves.updated({("margin", 0): torch.fmax(leaves.margin, margin[:, 0])})

    def proceed(self, margin: Tensor) -> bool:
        return not self.growth.deadline.passed() and (not self.signs or unproved(margin))

    def add(self, leaves: Domains) -> None:
        """Takes bounded leaves; those that are good enough are not split."""
        good = (leaves.margin > 0) & self.signs
        self.settle(leaves[good.nonzero().flatten()])
        self.leaves = join([self.leaves, leaves[(~good).nonzero().flatten()]])

    def decided(self) -> Tensor:
        """(roots,) whose bound has decided their neuron's sign."""
        left = torch.bincount(self.leaves.root, minlength=len(self.settled))
        return (left == 0) & (self.settled > 0) & self.signs

    def settle(self, leaves: Domains) -> None:
        self.settled.scatter_reduce_(0, leaves.root, leaves.margin, "amin")

    def bounds(self) -> Tensor:
        """(roots,) the least bound of each tree; of one where nothing lies in any leaf there is none."""
        least = self.settled.scatter_reduce(0, self.leaves.root, self.leaves.margin, "amin")
        return torch.where(torch.isinf(least), torch.nan, least)
