"""Cubes bounded under the assumption that the property is violated (INVPROP: arXiv:2302.01404, section 3).

What a network does where it obeys the property does not matter to a search for violations. So the bounds of a
node may assume the constraint ``rows . y <= rhs`` of a violation, which enters with a multiplier of its own for each
bound. Nodes are taken from the output downwards, as far as bounds get narrower: near the output the constraint
says most, and narrower bounds there make it say more further down. Sweeps are repeated while they gain;
where an interval becomes empty there is no violation.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from lirpa_verify.bounds.alpha_crown import Splits
from lirpa_verify.bounds.intermediate import signs_suffice, undecided_entries
from lirpa_verify.bounds.interval import interval_step
from lirpa_verify.bounds.optimised_nodes import Effort, Goal, gain, optimise_entries
from lirpa_verify.bounds.rounding import intersect, margin
from lirpa_verify.bounds.sizes import magnitude
from lirpa_verify.graph.graph import Graph, Node
from lirpa_verify.operators.base import Interval
from lirpa_verify.operators.joint_dense import JointDense
from lirpa_verify.search.roots import Task

LEAST_NARROWED = 0.01  # share of a node's widths that has to go for the nodes below it to be tried


@torch.no_grad()
def assume_violation(task: Task, lacking: float, effort: Effort) -> list[Interval] | None:
    """One sweep over the nodes of a task with one root.

    Args:
        task: in double precision.
        lacking: what the bound of the root lacks to exclude a violation, > 0.
        effort: gradient steps per bound, and a deadline.

    Returns:
        Bounds of the nodes that hold at every violation; None where there is none.
    """
    graph, splits = with_violation(task)
    fast = graph.to(torch.float32, task.roots.rhs.device)
    values = [*task.nodes, interval_step(graph.nodes[-1], list(task.nodes))]
    for i in sorted(graph.tightened, reverse=True):
        entries = undecided_entries(graph, i, values[i])[0].nonzero().flatten()
        if len(entries) == 0:
            continue
        goal = Goal(effort, splits, signs_suffice(graph, i), lacking)
        with torch.enable_grad():
            found = optimise_entries(graph, fast, i, entries, values, goal)
        narrowed = gain(values[i], found, entries)
        values[i] = found
        if nothing_in([found]):
            return None
        if narrowed < LEAST_NARROWED:
            break
    return propagated(task.graph, values[:-1])


def propagated(graph: Graph, values: Sequence[Interval]) -> list[Interval]:
    """Bounds of all nodes intersected with what follows from those before them."""
    found = list(values[:1])
    for i, node in enumerate(graph.nodes[1:], start=1):
        found.append(intersect(values[i], interval_step(node, found)))
    return found


def with_violation(task: Task) -> tuple[Graph, Splits]:
    """The network with one more node, which is at most 0 where the only root is violated, and all constraints."""
    graph, roots = task.graph, task.roots
    taken = sorted(roots.start)
    rows = [roots.start[i][0].flatten(1) for i in taken]  # (conjuncts, *node) each
    left = JointDense(
        torch.cat(rows, 1).T.contiguous(),
        -roots.rhs[0],
        torch.zeros_like(roots.rhs[0]),
        tuple(r.shape[1] for r in rows),
    )
    node = Node(left, tuple(taken), tuple(roots.rhs.shape[1:]), "violation")
    top = torch.ones_like(roots.rhs)
    splits = Splits(
        {**task.cuts.sign, graph.output + 1: top}, {**task.cuts.point, graph.output + 1: torch.zeros_like(top)}
    )
    return Graph((*graph.nodes, node)), splits


def nothing_in(values: Sequence[Interval]) -> bool:
    """Whether an interval is empty by more than rounding; an end that is not a number excludes nothing."""
    return any(bool((lower - upper > margin(magnitude(Interval(lower, upper)))).any()) for lower, upper in values)


def with_decided(task: Task, values: Sequence[Interval]) -> Splits:
    """The task's cuts, and those that tighter bounds make: entries that have a sign now.

    Bounds that hold under constraints only must stay constraints themselves: a ReLU that is linear by
    assumption is not linear in the rest of the box.
    """
    signs, points = dict(task.cuts.sign), dict(task.cuts.point)
    for z in task.layout.nodes:
        (old_lower, old_upper), (lower, upper) = task.nodes[z], values[z]
        zero = torch.zeros_like(lower)
        crossed = (old_lower < 0) & (old_upper > 0)
        above, below = crossed & (lower >= 0), crossed & (upper <= 0)
        sign, point = signs.get(z, zero), points.get(z, zero)
        sign = torch.where(above, -1.0, torch.where(below, 1.0, sign))
        point = torch.where(above, lower, torch.where(below, upper, point))
        if bool((sign != 0).any()):
            signs[z], points[z] = sign, point
    return Splits(signs, points)
