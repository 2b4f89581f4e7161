"""Networks that see their inputs only rounded: all combinations of rounded values, one after the other.

Every combination is a point at which the network is evaluated, first as it is to find a violation, then in
intervals that account for rounding errors to prove that there is none.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from lirpa_verify.bounds.interval import interval_bounds
from lirpa_verify.deadline import Deadline
from lirpa_verify.graph.graph import Graph
from lirpa_verify.graph.rounded import Rounded, rounded
from lirpa_verify.operators.base import Interval
from lirpa_verify.search.bound_boxes import interval_rows, still_open
from lirpa_verify.search.boxes import Boxes
from lirpa_verify.search.specification import Problem
from lirpa_verify.verdict import Progress, Result, Witness

MOST = 2**20  # combinations
CHUNK_BYTES = 2**24  # of the widest node's values
SHARE = 0.5  # of the time left that a proof by counting may take

Confirm = Callable[[Tensor], "Witness | None"]
Report = Callable[[Progress], None]


def count_combinations(
    graph: Graph, problem: Problem, deadline: Deadline, confirm: Confirm, report: Report
) -> Result | None:
    """Decides the property by all combinations of rounded inputs.

    Args:
        graph: the network over its varying inputs, in double precision.
        problem: boxes and rows.
        deadline: when to stop.
        confirm: replays candidate points.
        report: takes news for the user.

    Returns:
        None where the network is not of this kind, has too many combinations, or one of them is undecided.
    """
    found = rounded(graph) if problem.specification.input is None else None
    if found is None or not all(bool(torch.isfinite(end).all()) for end in problem.box):
        return None
    grid = Grid(found, problem, found.ends(problem.box))
    if sum(grid.sizes) > MOST:
        return None
    with torch.no_grad():
        witness = violation(grid, confirm, deadline)
        if witness is not None:
            return Result("sat", witness, "all combinations of rounded inputs", {"combinations": sum(grid.sizes)})
        return proof(grid, deadline.within(SHARE * deadline.remaining()), report)


@dataclass(frozen=True)
class Grid:
    """All combinations of rounded values in the boxes of a problem."""

    rounded: Rounded
    problem: Problem
    ends: Interval  # (boxes, inputs)

    @property
    def sizes(self) -> list[int]:
        """Combinations per box."""
        counts = (self.ends.upper - self.ends.lower + 1).tolist()
        return [math.prod(int(count) for count in box) for box in counts]

    def chunks(self) -> Iterator[tuple[Tensor, int]]:
        """Combinations (points, inputs) with the box they are in."""
        widest = max(node.size for node in self.rounded.graph.nodes)
        room = max(1, CHUNK_BYTES // (8 * widest))
        for b, size in enumerate(self.sizes):
            first = self.ends.lower[b]
            shape = tuple((self.ends.upper[b] - first + 1).long().tolist())
            for start in range(0, size, room):
                numbers = torch.arange(start, min(size, start + room), device=first.device)
                yield first + torch.stack(torch.unravel_index(numbers, shape), 1), b


def violation(grid: Grid, confirm: Confirm, deadline: Deadline) -> Witness | None:
    """A witness among the combinations, evaluated in single precision."""
    device = grid.ends.lower.device
    graph = grid.rounded.graph.to(torch.float32, device)
    specification = grid.problem.specification.to(torch.float32, device)
    for values, b in grid.chunks():
        if deadline.passed():
            return None
        origin = torch.full((len(values),), b, device=device)
        margins = specification.margins(values.float(), graph.forward(values.float()), origin)
        hit = (margins <= 0).all(2).any(1)
        if bool(hit.any()):
            box = grid.problem.box
            witness = confirm(grid.rounded.points(values[hit], box.lower[b], box.upper[b]))
            if witness is not None:
                return witness
    return None


def proof(grid: Grid, deadline: Deadline, report: Report) -> Result | None:
    """`unsat` if the intervals of every combination exclude every disjunct."""
    specification, total, done = grid.problem.specification, sum(grid.sizes), 0
    started = time.monotonic()
    for values, b in grid.chunks():
        if deadline.passed() or (time.monotonic() - started) * (total - done) > done * deadline.remaining() > 0:
            return None
        alive = (specification.rows[b, :, 0] >= 0).expand(len(values), -1)
        origin = torch.full((len(values),), b, device=values.device)
        boxes = Boxes(values, values, origin, alive, torch.full_like(values[:, 0], -torch.inf))
        bounds = interval_rows(
            grid.rounded.graph, specification, boxes, interval_bounds(grid.rounded.graph, boxes.interval)
        )
        if bool(still_open(boxes, bounds).any()):
            return None
        done += len(values)
        report(Progress("count", total - done, done, float(bounds.margin.amax(2).min())))
    return Result("unsat", reason="all combinations of rounded inputs", statistics={"combinations": total})
