"""Branch and bound that splits input boxes, in batches, over all disjuncts at once.

Each round takes a batch of boxes, bounds it, drops what is proved, looks for a witness where the
bounds are worst, cuts away what cannot hold a violation and halves the rest where it matters most.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from lirpa_verify.bounds.intermediate import Method
from lirpa_verify.deadline import Deadline
from lirpa_verify.graph.graph import Graph
from lirpa_verify.search.batch_size import BatchSize
from lirpa_verify.search.bound_boxes import RowBounds, still_open
from lirpa_verify.search.boxes import Boxes, join
from lirpa_verify.search.effort import OLDEST_GAIN, Effort
from lirpa_verify.search.halving import can_halve, split
from lirpa_verify.search.mix import with_mixture
from lirpa_verify.search.parallel import workers
from lirpa_verify.search.shrink import shrink
from lirpa_verify.search.specification import Problem
from lirpa_verify.search.stack import Stack
from lirpa_verify.verdict import Progress, Result, Witness

Confirm = Callable[[Tensor], "Witness | None"]  # candidates (points, varying inputs) -> a confirmed witness
Report = Callable[[Progress], None]

REPORT_SECONDS = 0.2
FILL = 128  # boxes split several times at once: up to so many cost little more than one
FEWEST_PARALLEL = 64  # boxes in the largest batch


@dataclass
class Tally:
    """What the search has done so far."""

    rounds: int = 0
    bounded: int = 0
    closed: int = 0
    points: int = 0  # boxes left open that no floating-point number divides

    def add(self, bounded: int, closed: int, points: int) -> None:
        self.rounds += 1
        self.bounded += bounded
        self.closed += closed
        self.points += points


def initial_boxes(problem: Problem) -> Boxes:
    lower, upper = problem.box
    alive = problem.specification.rows[:, :, 0] >= 0
    number = torch.arange(len(lower), device=lower.device)
    margin = lower.new_full((len(lower),), -torch.inf)
    return Boxes(lower, upper, number, alive, margin, torch.zeros_like(lower), torch.full_like(number, OLDEST_GAIN))


def input_split(
    graph: Graph,
    problem: Problem,
    deadline: Deadline,
    confirm: Confirm,
    report: Report,
    method: Method | None,
    interlude: Callable[[], Result | None],
) -> Result:
    """Proves the property, finds a violation, or runs out of time.

    Args:
        graph: the network over its varying inputs.
        problem: boxes and rows, in the graph's precision.
        deadline: when to stop.
        confirm: replays candidate points; only what it returns is a witness.
        report: takes news for the user.
        method: how intermediate nodes are bounded; None to choose by measurement.
        interlude: called once a round; an attack that runs beside the proof.
    """
    size = BatchSize.of(graph, int((problem.box.upper > problem.box.lower).sum(1).amax()))
    # One box of a wide graph is work enough for torch's own threads.
    parallel = size.limit >= FEWEST_PARALLEL and problem.box.lower.device.type == "cpu"
    with torch.no_grad(), workers(parallel) as crew:
        effort = Effort.of(graph, problem, deadline, crew, method)
        return search(effort, size, confirm, report, interlude)


def search(
    effort: Effort,
    size: BatchSize,
    confirm: Confirm,
    report: Report,
    interlude: Callable[[], Result | None],
) -> Result:
    """Rounds until no box is open, a witness is found or the time is up."""
    graph, problem = effort.graph, effort.problem
    stack: Stack[Boxes] = Stack(join)
    stack.push(initial_boxes(problem))
    tally, reported = Tally(), 0.0
    while stack.count:
        if effort.deadline.passed():
            return Result("timeout", reason="time is up", statistics=statistics(stack, tally))
        boxes = stack.pop(size.now)
        if effort.reconsider(boxes):
            size.rates.clear()
        started = time.process_time()  # what others on the machine do says nothing about a batch
        left, bounds = effort.bound(boxes)
        witness = look_for_witness(graph, problem, left, bounds, confirm)
        size.learn(len(boxes), time.process_time() - started)
        if witness is not None:
            return Result("sat", witness, "input split", statistics(stack, tally))
        beside = interlude()
        if beside is not None:
            return beside
        remaining, sensitivity = reduce(left, bounds)
        divisible = can_halve(remaining).any(1)
        tally.add(len(boxes), len(boxes) - len(remaining), int((~divisible).sum()))
        remaining, sensitivity = remaining[divisible], sensitivity[divisible]
        if len(remaining):
            stack.push(split(effort.with_gain(remaining), sensitivity, room=min(size.now, FILL)))
        if time.monotonic() - reported > REPORT_SECONDS:
            reported = time.monotonic()
            report(Progress("input-split", stack.count, tally.closed, stack.worst()))
    if tally.points:
        reason = "points remain at which bounds, within rounding, neither prove nor violate the property"
        return Result("unknown", reason=reason, statistics=statistics(stack, tally))
    return Result("unsat", reason="input split", statistics=statistics(stack, tally))


def statistics(stack: Stack[Boxes], tally: Tally) -> dict[str, float | int | str]:
    return {"boxes": tally.bounded, "rounds": tally.rounds, "open": stack.count}


def look_for_witness(
    graph: Graph, problem: Problem, boxes: Boxes, bounds: RowBounds, confirm: Confirm
) -> Witness | None:
    """Tries the middle of each open box and the corner where its worst row is smallest."""
    open_ = still_open(boxes, bounds)
    index = open_.any(1).nonzero().flatten()
    if len(index) == 0:
        return None
    rows = bounds.margin.shape[2]
    weight = bounds.linear.weight[index].unflatten(1, (-1, rows))
    hardest = bounds.margin[index].masked_fill(~open_[index].unsqueeze(2), torch.inf).amax(2).argmin(1)
    weight = weight[torch.arange(len(index)), hardest].sum(1)  # rows of that disjunct together
    lower, upper = boxes.lower[index], boxes.upper[index]
    corner = torch.where(weight > 0, lower, upper)
    points = torch.cat([corner, (lower + upper) / 2])
    origin = boxes.origin[index].repeat(2)
    margins = problem.specification.margins(points, graph.forward(points), origin)
    violating = (margins <= 0).all(2).any(1)
    return confirm(points[violating]) if bool(violating.any()) else None


def reduce(boxes: Boxes, bounds: RowBounds) -> tuple[Boxes, Tensor]:
    """Open boxes cut down to where a violation may be, and the sensitivity of their rows to each input."""
    open_ = still_open(boxes, bounds)
    keep = open_.any(1).nonzero().flatten()
    boxes, open_ = boxes[keep], open_[keep]
    rows = bounds.margin.shape[2]
    weight = bounds.linear.weight[keep].unflatten(1, (-1, rows))
    margin = bounds.margin[keep]
    offset = bounds.linear.offset[keep].unflatten(1, (-1, rows)).masked_fill(torch.isinf(margin), -torch.inf)
    cut = shrink(boxes.interval, *with_mixture(boxes.interval, weight, offset), open_)
    alive = boxes.alive.clone()
    alive[:, bounds.disjuncts] = open_
    worst = margin.amax(2).masked_fill(~open_, torch.inf).amin(1)
    sensitivity = weight.abs().amax(2).masked_fill(~open_.unsqueeze(2), 0).amax(1)  # (batch, inputs)
    nonempty = (~(cut.lower > cut.upper).any(1)).nonzero().flatten()  # an end that is not a number excludes nothing
    left = (cut.upper - cut.lower) / (boxes.upper - boxes.lower).clamp(min=torch.finfo(weight.dtype).tiny)
    reduced = Boxes(cut.lower, cut.upper, boxes.origin, alive, worst, boxes.gain * left, boxes.age)
    return reduced[nonempty], sensitivity[nonempty]
