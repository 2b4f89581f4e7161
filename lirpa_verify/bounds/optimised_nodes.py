"""Intermediate bounds with optimised slopes: every bound of every undecided neuron is a target of its own.

Each row has slopes of its own at every nonlinear node below it, so its bound is as tight as
alpha-CROWN can make it (arXiv:2011.13824); nodes are taken in topological order, each profiting from
those before it. A row stops once its sign is known where that is all a nonlinearity asks.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from lirpa_verify.bounds.alpha_crown import Parameters, Target, initial_positions, optimise
from lirpa_verify.bounds.crown import one_hot_rows, with_negated
from lirpa_verify.bounds.intermediate import undecided_entries
from lirpa_verify.bounds.interval import interval_step
from lirpa_verify.bounds.rounding import intersect, outward
from lirpa_verify.bounds.sizes import sizes
from lirpa_verify.deadline import Deadline
from lirpa_verify.graph.graph import Graph
from lirpa_verify.operators.base import Interval
from lirpa_verify.operators.rearrange import Move

CHUNK_BYTES = 2**28  # of slopes, their gradients and what autograd keeps


@dataclass(frozen=True)
class Effort:
    """How much to spend: gradient steps per row, and a deadline for all of it."""

    steps: int
    deadline: Deadline


def optimise_nodes(graph: Graph, box: Interval, values: list[Interval], effort: Effort) -> list[Interval]:
    """Tighter bounds of all nodes over one box.

    Args:
        graph: the network.
        box: ``(1, inputs)`` ends.
        values: bounds of every node, for instance from CROWN.
        effort: when the deadline has passed the remaining nodes keep what they had.

    Returns:
        One interval per node, nowhere wider than `values`.
    """
    improved = [box]
    for i, node in enumerate(graph.nodes[1:], start=1):
        value = intersect(values[i], interval_step(node, improved))
        if i in graph.tightened:
            value = optimise_node(graph, i, box, value, improved, effort)
        improved.append(value)
    return improved


def optimise_node(
    graph: Graph, i: int, box: Interval, value: Interval, below: list[Interval], effort: Effort
) -> Interval:
    """Bounds of one node from those of the nodes below it."""
    index = undecided_entries(graph, i, value)[0].nonzero().flatten()
    shape = graph.nodes[i].shape
    lower, upper = (end.flatten(1).clone() for end in value)
    neurons = sum(graph.nodes[a].size for a in graph.ancestors[i] if graph.nodes[a].operator.bounded)
    if neurons == 0 or len(index) == 0:
        return value
    chunk = max(1, CHUNK_BYTES // (2 * 20 * 8 * neurons))
    intervals, known_sizes = dict(enumerate(below)), sizes(graph, [*below, value])
    for part in index.split(chunk):
        if effort.deadline.passed():
            break
        rows = with_negated(one_hot_rows(part, shape, box.lower))
        target = Target({i: rows}, rows.new_zeros(1, rows.shape[1]), box, intervals, sizes=known_sizes)
        positions = initial_positions(graph, intervals, graph.ancestors[i], rows.shape[1])
        best = optimise(
            graph,
            target,
            Parameters(positions, {}),
            effort.steps,
            lambda _: not effort.deadline.passed(),
            goal=signs_suffice(graph, i),
        )
        below_, above = best.margin[:, : len(part)], -best.margin[:, len(part) :]
        found = outward(Interval(below_, above))
        lower[:, part] = torch.fmax(lower[:, part], found.lower)
        upper[:, part] = torch.fmin(upper[:, part], found.upper)
    return Interval(lower.unflatten(1, shape), upper.unflatten(1, shape))


def signs_suffice(graph: Graph, i: int) -> bool:
    """Whether all that is wanted of node i is the signs of its entries."""
    for user in graph.users[i]:
        operator = graph.nodes[user].operator
        if isinstance(operator, Move):
            if not signs_suffice(graph, user):
                return False
        elif (operator.bounded and not operator.sign_decides) or wanted_beyond(graph, user):
            return False
    return True


def wanted_beyond(graph: Graph, i: int) -> bool:
    """Whether bounds of node i are wanted that are read off the node below it."""
    return graph.nodes[i].operator.exact_image and any(
        graph.nodes[u].operator.bounded or wanted_beyond(graph, u) for u in graph.users[i]
    )


def timed_effort(seconds_per_pass: float, budget: float, deadline: Deadline, most: int = 30) -> Effort:
    """Steps that fit a budget, a step with gradients costing about four passes."""
    steps = int(budget / (4 * max(seconds_per_pass, 1e-4)))
    return Effort(max(0, min(most, steps)), deadline.within(budget))
