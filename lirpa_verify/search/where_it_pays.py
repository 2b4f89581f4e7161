"""Nodes bounded by lines only where the property pays for their width: the dearest entries first, more in every round.

Bounds of a large network's nodes may take longer than there is time, and a few hundred of its neurons cost a property
more than all others together. What the rows pay for an entry is its coefficient in their bound times the distance of
the entry's lines from its function, and each round is four times as long as the one before. That pays where lines over
intervals come near to a proof; where they say nothing, what they pay says nothing either, and a round shows that.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lirpa_verify.bounds.crown import backward
from lirpa_verify.bounds.intermediate import bound_nodes, rows_per_chunk, undecided_entries
from lirpa_verify.deadline import Deadline
from lirpa_verify.graph.graph import Graph
from lirpa_verify.operators.base import Interval
from lirpa_verify.search.branching import Layout, scores, splittable
from lirpa_verify.search.cheapest_first import hardest_first, margins_at_middle, open_by_lines
from lirpa_verify.search.roots import make_roots
from lirpa_verify.search.specification import Problem

FIRST, MORE = 128, 4  # entries of the first round, and the factor to the next
FEW = 4  # times as many undecided entries as a round bounds are bounded all at once as well
NEAR = 8.0  # times the error that a proof allows, that lines over intervals may lack for it
LEAST_GAIN = 0.25  # of what a proof lacks, that a round has to take off


@torch.no_grad()
def narrowed(
    graph: Graph, problem: Problem, b: int, disjuncts: Tensor, values: list[Interval], until: Deadline
) -> tuple[Tensor, list[Interval]]:
    """The disjuncts of box b that stay open, and bounds of all nodes, nowhere wider than before.

    Args:
        graph: the network.
        problem: boxes and rows.
        b: the number of the box.
        disjuncts: that are open.
        values: bounds of all nodes over the box.
        until: when to stop.
    """
    count, lacking, layout = FIRST, torch.inf, splittable(graph)
    while len(disjuncts) and layout.nodes and not until.passed():
        undecided = sum(int(undecided_entries(graph, i, values[i]).sum()) for i in graph.tightened)
        if undecided <= FEW * count:
            break
        before, (lacking, paid) = lacking, payments(graph, problem, b, disjuncts, values, layout)
        if not 0 <= lacking <= min(NEAR, (1 - LEAST_GAIN) * before):
            break
        known = dict(enumerate(values))
        box = known.pop(0)
        wanted = dearest(paid, count, layout)
        values = bound_nodes(graph, box, known=known, until=until, signs_first=True, wanted=wanted)
        disjuncts = disjuncts[open_by_lines(graph, problem, b, disjuncts, values, until)]
        count *= MORE
    return disjuncts, values


def payments(
    graph: Graph, problem: Problem, b: int, disjuncts: Tensor, values: list[Interval], layout: Layout
) -> tuple[float, Tensor]:
    """What a proof of the hardest disjuncts lacks, and what their rows pay for every entry (entries,).

    The first is relative to the error that the proof allows, at most. As many disjuncts count as are bounded at once;
    bounds guide here, and rounding is not counted.
    """
    order = hardest_first(graph, problem, b)
    hardest = order[torch.isin(order, disjuncts)]
    roots = make_roots(graph, problem, b, hardest)
    count, conjuncts = roots.rhs.shape
    few = max(1, rows_per_chunk(graph, graph.output, values[0].lower.element_size()) // conjuncts)
    start = {i: rows[:few].flatten(0, 1).unsqueeze(0) for i, rows in roots.start.items()}
    intervals = dict(enumerate(values))
    users = {u for z in layout.nodes for u in graph.users[z] if graph.nodes[u].operator.splittable}
    linear = backward(graph, start, intervals, watch=users)
    margin = linear.lower(values[0]).reshape(min(few, count), conjuncts) - roots.rhs[:few]
    lacking = -margin.amax(1) / margins_at_middle(graph, problem, b)[hardest[:few]].clamp(min=0)
    return float(lacking.amax()), scores(graph, layout, intervals, {}, linear.watched)[0]


def dearest(paid: Tensor, count: int, layout: Layout) -> dict[int, Tensor]:
    """Of every node which entries (1, entries) are among the `count` that are paid most for."""
    best = paid.topk(min(count, len(paid)))
    chosen = torch.zeros_like(paid, dtype=torch.bool)
    chosen[best.indices[best.values > 0]] = True
    return {z: part.unsqueeze(0) for z, part in zip(layout.nodes, chosen.split(layout.size), strict=True)}
