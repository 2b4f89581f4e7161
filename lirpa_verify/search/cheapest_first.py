"""Which disjuncts bounds of the nodes leave open, and what the cheapest of these bounds prove.

A property of a network that was trained for such bounds, or of a tiny box, is proved by intervals, which cost two
evaluations, or by lines over intervals, which cost a pass per row. Bounding the nodes by lines first would take a
thousand times as long.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lirpa_verify.bounds.intermediate import NEVER, bound_nodes, rows_per_chunk
from lirpa_verify.bounds.sizes import sizes
from lirpa_verify.deadline import Deadline
from lirpa_verify.graph.graph import Graph
from lirpa_verify.operators.base import Interval
from lirpa_verify.search.bound_boxes import bound_rows, interval_rows, still_open
from lirpa_verify.search.input_split import initial_boxes
from lirpa_verify.search.specification import Problem

MOST_BOXES = 256  # at once


@torch.no_grad()
def proved_by_intervals(graph: Graph, problem: Problem, deadline: Deadline) -> bool:
    """Whether intervals prove all boxes. Few are tried at first, so that little is lost where they do not.

    Args:
        graph: the network over its varying inputs, in double precision.
        problem: boxes and rows.
        deadline: when to stop.
    """
    boxes, done = initial_boxes(problem), 0
    while done < len(boxes):
        if deadline.passed():
            return False
        part = boxes[slice(done, done + min(MOST_BOXES, done + 1))]
        values = bound_nodes(graph, part.interval, "ibp")
        if bool(still_open(part, interval_rows(graph, problem.specification, part, values)).any()):
            return False
        done += len(part)
    return True


@torch.no_grad()
def open_over_intervals(graph: Graph, problem: Problem, b: int, deadline: Deadline) -> tuple[Tensor, list[Interval]]:
    """The disjuncts of box b that intervals of the nodes, and lines over them, leave open, and these intervals.

    Those that the middle of the box is nearest to come first, and the first that stays open ends it: narrower bounds
    of the nodes are needed then, over which the rows of the others cost as little.
    """
    disjuncts = hardest_first(graph, problem, b)
    box = Interval(problem.box.lower[b : b + 1], problem.box.upper[b : b + 1])
    values = bound_nodes(graph, box, "ibp")
    disjuncts = disjuncts[open_by_intervals(graph, problem, b, disjuncts, values)]
    open_ = open_by_lines(graph, problem, b, disjuncts, values, deadline, all_or_none=True)
    return disjuncts[open_].sort().values, values


def open_disjuncts(
    graph: Graph, problem: Problem, b: int, disjuncts: Tensor, values: list[Interval], until: Deadline = NEVER
) -> Tensor:
    """Those of some disjuncts of box b of which no row alone is proved impossible by these bounds of the nodes."""
    disjuncts = disjuncts[open_by_intervals(graph, problem, b, disjuncts, values)]
    return disjuncts[open_by_lines(graph, problem, b, disjuncts, values, until)]


def open_by_intervals(graph: Graph, problem: Problem, b: int, disjuncts: Tensor, values: list[Interval]) -> Tensor:
    """(disjuncts,) bool, by the intervals of the outputs alone: of a sum of steps these are tighter at times."""
    box = initial_boxes(problem, slice(b, b + 1))
    bounds = interval_rows(graph, problem.specification, box, values)
    open_ = torch.zeros_like(box.alive[0])
    open_[bounds.disjuncts] = still_open(box, bounds)[0]
    return open_[disjuncts]


def open_by_lines(
    graph: Graph,
    problem: Problem,
    b: int,
    disjuncts: Tensor,
    values: list[Interval],
    until: Deadline,
    all_or_none: bool = False,
) -> Tensor:
    """(disjuncts,) bool, by one backward pass from their rows, some rows at once.

    Args:
        graph: the network.
        problem: boxes and rows.
        b: the number of the box.
        disjuncts: their numbers.
        values: bounds of the nodes over the box.
        until: when to leave those open that are left.
        all_or_none: whether to do so once one has stayed open.
    """
    open_ = torch.ones_like(disjuncts, dtype=torch.bool)
    if len(disjuncts) == 0:
        return open_
    box = initial_boxes(problem, slice(b, b + 1))
    terms = sizes(graph, values)
    chunk = max(1, rows_per_chunk(graph, graph.output, box.lower.element_size()) // problem.specification.rows.shape[2])
    for part in torch.arange(len(disjuncts), device=disjuncts.device).split(chunk):
        if until.passed():
            break
        open_[part] = still_open(box, bound_rows(graph, problem.specification, box, values, disjuncts[part], terms))[0]
        if all_or_none and bool(open_[part].any()):
            break
    return open_


def hardest_first(graph: Graph, problem: Problem, b: int) -> Tensor:
    """All disjuncts of box b, those first that its middle is nearest to."""
    order = margins_at_middle(graph, problem, b).argsort()
    return order[problem.specification.rows[b, order, 0] >= 0]


def margins_at_middle(graph: Graph, problem: Problem, b: int) -> Tensor:
    """(disjuncts,) how far the middle of box b is from every disjunct: the error that bounds may have."""
    middle = (problem.box.lower[b : b + 1] + problem.box.upper[b : b + 1]) / 2
    at = torch.full((1,), b, device=middle.device)
    return problem.specification.margins(middle, graph.forward(middle), at)[0].amax(1)
