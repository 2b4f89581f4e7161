"""Networks that see their inputs only rounded: all combinations of rounded values, one after the other.

Every combination is a point at which the network is evaluated, first as it is to find a violation, then in
intervals that account for rounding errors to prove that there is none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from lirpa_verify.bounds.intermediate import bound_nodes
from lirpa_verify.bounds.interval import interval_step
from lirpa_verify.deadline import Deadline
from lirpa_verify.graph.graph import Graph
from lirpa_verify.graph.rounded import Rounded, rounded
from lirpa_verify.operators.base import Interval
from lirpa_verify.operators.discrete import Lookup
from lirpa_verify.operators.unravelled import unravelled
from lirpa_verify.search.bound_boxes import bound_rows, interval_rows, still_open
from lirpa_verify.search.boxes import Boxes
from lirpa_verify.search.specification import Problem
from lirpa_verify.verdict import Progress, Result, Witness

MOST = 2**20  # combinations
CHUNK_BYTES = 2**25  # of the widest node's values
CLOSE_BATCH = 8  # combinations at once whose interval bounds do not suffice
CLEARANCE = 1e-3  # of the original model's outputs from a threshold: far more than single precision can be wrong
SHARE = 0.25  # of the time left after which a proof by counting that would not end in time is given up

Confirm = Callable[[Tensor], "Witness | None"]
Report = Callable[[Progress], None]
Evaluate = Callable[[Tensor], Tensor]  # points (points, varying inputs) -> outputs (points, mentioned outputs)


def count_combinations(
    graph: Graph, problem: Problem, deadline: Deadline, confirm: Confirm, evaluate: Evaluate, report: Report
) -> Result | None:
    """Decides the property by all combinations of rounded inputs.

    Args:
        graph: the network over its varying inputs, in double precision.
        problem: boxes and rows.
        deadline: when to stop.
        confirm: replays candidate points.
        evaluate: the original model's outputs at points, for combinations at which the graph is not defined (a window
            that leaves the image, say). All points of a combination have the same outputs there, bit by bit.
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
        return proof(grid, confirm, evaluate, Pace.of(deadline, sum(grid.sizes)), report)


@dataclass(frozen=True)
class Pace:
    """Whether a proof that goes through all combinations ends in time: told from how far it came so far."""

    deadline: Deadline
    total: int  # combinations
    given: float  # seconds left when it began

    @staticmethod
    def of(deadline: Deadline, total: int) -> Pace:
        return Pace(deadline, total, deadline.remaining())

    def in_time(self, done: int) -> bool:
        remaining = self.deadline.remaining()
        spent = self.given - remaining
        telling = spent > SHARE * self.given
        return remaining > 0 and not (telling and spent * (self.total - done) > remaining * done)


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
            blocks = [math.prod(shape[k:]) for k in range(len(shape))]
            step = max((block for block in blocks if block <= room), default=room)  # the first inputs stay the same
            for start in range(0, size, step):
                numbers = torch.arange(start, min(size, start + step), device=first.device)
                yield first + torch.stack(unravelled(numbers, shape), 1), b


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


def proof(grid: Grid, confirm: Confirm, evaluate: Evaluate, pace: Pace, report: Report) -> Result | None:
    """Excludes every disjunct for all combinations, or finds a violation where only the original model is defined."""
    done = 0
    for values, b in grid.chunks():
        if not pace.in_time(done):
            return None
        boxes = point_boxes(grid, values, b)
        nodes = while_defined(grid.rounded.graph, boxes.interval)
        defined = finite(nodes[-1]).expand(len(values))
        near, undefined = torch.zeros_like(defined), ~defined
        if len(nodes) == len(grid.rounded.graph.nodes):
            bounds = interval_rows(grid.rounded.graph, grid.problem.specification, boxes, nodes)
            open_ = still_open(boxes, bounds).any(1)
            near, undefined = open_ & defined, open_ & ~defined
        if bool(undefined.any()):
            original = Original.of(grid, values[undefined], b, evaluate)
            witness = original.violation(confirm)
            if witness is not None:
                return Result("sat", witness, "all combinations of rounded inputs", {"combinations": pace.total})
            if not original.excluded():
                return None
        if bool(near.any()) and not proved_closely(grid, values[near], b, pace, done):
            return None
        done += len(values)
        report(Progress("count", pace.total - done, done))
    return Result("unsat", reason="all combinations of rounded inputs", statistics={"combinations": pace.total})


def while_defined(graph: Graph, box: Interval) -> list[Interval]:
    """Intervals of the nodes up to the first one at which no number in a look-up is in the table, for any box."""
    nodes = [box]
    for node in graph.nodes[1:]:
        nodes.append(interval_step(node, nodes))
        if isinstance(node.operator, Lookup) and not bool(finite(nodes[-1]).any()):
            break
    return nodes


def finite(interval: Interval) -> Tensor:
    """(batch,): whether all entries are."""
    return torch.isfinite(interval.lower + interval.upper).flatten(1).all(1)


def point_boxes(grid: Grid, values: Tensor, b: int) -> Boxes:
    """Combinations of box b as boxes without extent."""
    alive = (grid.problem.specification.rows[b, :, 0] >= 0).expand(len(values), -1)
    origin = torch.full((len(values),), b, device=values.device)
    margin = torch.full_like(values[:, 0], -torch.inf)
    zero = torch.zeros_like(origin)
    return Boxes(values, values, origin, alive, margin, torch.zeros_like(values), zero, torch.ones_like(margin))


@dataclass(frozen=True)
class Original:
    """What the original model computes for combinations at which the graph is not defined."""

    points: Tensor  # (points, varying inputs)
    outputs: Tensor  # (points, mentioned outputs)
    margins: Tensor  # (points, disjuncts, rows)

    @staticmethod
    def of(grid: Grid, values: Tensor, b: int, evaluate: Evaluate) -> Original:
        box, specification = grid.problem.box, grid.problem.specification
        points = grid.rounded.points(values, box.lower[b], box.upper[b])
        outputs = evaluate(points)
        origin = torch.full((len(points),), b, device=points.device)
        return Original(points, outputs, specification.margins(points, outputs, origin))

    def violation(self, confirm: Confirm) -> Witness | None:
        hit = (self.margins <= 0).all(2).any(1)
        return confirm(self.points[hit]) if bool(hit.any()) else None

    def excluded(self) -> bool:
        """Whether all points are clear of every disjunct."""
        clearance = CLEARANCE * (1 + self.outputs.abs().amax())
        clear = (self.margins > clearance).any(2) | torch.isposinf(self.margins[..., 0])
        return bool(clear.all())


def proved_closely(grid: Grid, values: Tensor, b: int, pace: Pace, done: int) -> bool:
    """Whether linear bounds, in which rounding errors do not multiply from layer to layer, exclude every disjunct."""
    for part in values.split(CLOSE_BATCH):
        if not pace.in_time(done):
            return False
        done += len(part)
        boxes = point_boxes(grid, part, b)
        nodes = bound_nodes(grid.rounded.graph, boxes.interval)
        bounds = bound_rows(grid.rounded.graph, grid.problem.specification, boxes, nodes)
        if bool(still_open(boxes, bounds).any()):
            return False
    return True
