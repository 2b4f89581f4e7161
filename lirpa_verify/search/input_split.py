"""Branch and bound that splits input boxes, in batches, over all disjuncts at once.

Each round takes a batch of boxes, bounds it, drops what is proved, looks for a witness where the
bounds are worst, cuts away what cannot hold a violation and halves the rest where it matters most.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

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
from lirpa_verify.search.parallel import Workers, workers
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


def initial_boxes(problem: Problem, which: slice = slice(None)) -> Boxes:
    """All boxes of the problem, or those of some numbers, before any split."""
    lower, upper = (end[which] for end in problem.box)
    alive = problem.specification.rows[which, :, 0] >= 0
    number = torch.arange(len(problem.box.lower), device=lower.device)[which]
    margin = lower.new_full((len(lower),), -torch.inf)
    age = torch.full_like(number, OLDEST_GAIN)
    return Boxes(lower, upper, number, alive, margin, torch.zeros_like(lower), age, torch.ones_like(margin))


def most_varying(problem: Problem) -> int:
    """Inputs that vary in one box, at most."""
    return int((problem.box.upper > problem.box.lower).sum(1).amax())


@dataclass(frozen=True)
class Milestone:
    """How far the search was at some time."""

    spent: float = 0.0  # seconds
    closed: float = 0.0  # share of all trees


@dataclass
class InputSplit:
    """A search that goes on for as long as it is told to."""

    effort: Effort
    size: BatchSize
    confirm: Confirm
    report: Report
    interlude: Callable[[], Result | None]
    parallel: bool
    stack: Stack[Boxes]
    earlier: Milestone = Milestone()
    later: Milestone = Milestone()
    tally: Tally = field(default_factory=Tally)
    reported: float = 0.0
    spent: float = 0.0  # seconds

    @staticmethod
    def of(
        graph: Graph,
        problem: Problem,
        deadline: Deadline,
        confirm: Confirm,
        report: Report,
        method: Method | None,
        interlude: Callable[[], Result | None],
    ) -> InputSplit:
        """A search that has not begun.

        Args:
            graph: the network over its varying inputs.
            problem: boxes and rows, in the graph's precision.
            deadline: when to stop at the latest.
            confirm: replays candidate points; only what it returns is a witness.
            report: takes news for the user.
            method: how intermediate nodes are bounded; None to choose by measurement.
            interlude: called once a round; an attack that runs beside the proof.
        """
        size = BatchSize.of(graph, most_varying(problem))
        # One box of a wide graph is work enough for torch's own threads.
        parallel = size.limit >= FEWEST_PARALLEL and problem.box.lower.device.type == "cpu"
        stack: Stack[Boxes] = Stack(join)
        stack.push(initial_boxes(problem))
        effort = Effort.of(graph, problem, deadline, method)
        return InputSplit(effort, size, confirm, report, interlude, parallel, stack)

    @property
    def trees(self) -> int:
        """One for each box of the problem."""
        return len(self.effort.problem.box.lower)

    @torch.no_grad()
    def run(self, deadline: Deadline) -> Result:
        """Rounds until no box is open, a witness is found, or it stops with `timeout` and can be run again."""
        started, before = time.monotonic(), self.spent
        with workers(self.parallel) as crew:
            while self.stack.count:
                if deadline.passed():
                    return Result("timeout", reason="time is up", statistics=self.statistics())
                decided = self.round(crew) or self.interlude()
                self.spent = before + time.monotonic() - started
                if decided is not None:
                    return decided
        if self.tally.points:
            reason = "points remain at which bounds, within rounding, neither prove nor violate the property"
            return Result("unknown", reason=reason, statistics=self.statistics())
        return Result("unsat", reason="input split", statistics=self.statistics())

    def round(self, crew: Workers) -> Result | None:
        """Bounds a batch of boxes and halves those that are left."""
        effort, size = self.effort, self.size
        boxes = self.stack.pop(size.now)
        if effort.reconsider(boxes, crew):
            size.rates.clear()
        started = time.process_time()  # what others on the machine do says nothing about a batch
        left, bounds = effort.bound(boxes, crew)
        witness = look_for_witness(effort.graph, effort.problem, left, bounds, self.confirm)
        size.learn(len(boxes), time.process_time() - started)
        if witness is not None:
            return Result("sat", witness, "input split", self.statistics())
        remaining, sensitivity = reduce(left, bounds)
        divisible = can_halve(remaining).any(1)
        self.tally.add(len(boxes), len(boxes) - len(remaining), int((~divisible).sum()))
        remaining, sensitivity = remaining[divisible], sensitivity[divisible]
        if len(remaining):
            self.stack.push(split(effort.with_gain(remaining, crew), sensitivity, room=min(size.now, FILL)))
        if time.monotonic() - self.reported > REPORT_SECONDS:
            self.reported = time.monotonic()
            self.report(Progress("input-split", self.stack.count, self.tally.closed, self.stack.worst()))
        return None

    def outlook(self) -> float:
        """Seconds that the rest may take if the tree goes on closing as it has done lately."""
        now = Milestone(self.spent, 1 - sum(float(part.share.sum()) for part in self.stack.parts) / self.trees)
        if now.spent > 2 * self.later.spent:
            self.earlier, self.later = self.later, now
        closed = now.closed - self.earlier.closed
        if closed <= 0:
            return math.inf
        rest = (1 - now.closed) * (now.spent - self.earlier.spent) / closed
        return max(rest, self.spent)  # what took long will take as long again

    def statistics(self) -> dict[str, float | int | str]:
        return {"boxes": self.tally.bounded, "rounds": self.tally.rounds, "open": self.stack.count}


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
    reduced = Boxes(cut.lower, cut.upper, boxes.origin, alive, worst, boxes.gain * left, boxes.age, boxes.share)
    return reduced[nonempty], sensitivity[nonempty]
