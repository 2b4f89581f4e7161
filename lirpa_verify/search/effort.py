"""How much work to spend on one box: decided by measurement while the search runs.

Forward bounds of the nodes are cheap, backward ones tighter. The error of a linear relaxation shrinks
with the square of a box's width, so halving one of d inputs shrinks it by 4^(1/d) and doubles the boxes:
a box whose error is r times what a proof allows becomes about r^(d/2) boxes. The method with the smaller
product of this number and the time per box is the better one; where forward bounds close so many boxes
that they save more than they cost, they come first.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from lirpa_verify.bounds.intermediate import Method
from lirpa_verify.deadline import Deadline
from lirpa_verify.graph.graph import Graph
from lirpa_verify.search.bound_boxes import RowBounds, bound_boxes, still_open
from lirpa_verify.search.boxes import Boxes
from lirpa_verify.search.gain import expected_gain
from lirpa_verify.search.parallel import Workers
from lirpa_verify.search.specification import Problem

METHODS: tuple[Method, ...] = ("forward", "crown")  # the cheap one first
SAMPLE, FEWEST = 256, 16  # boxes of a trial: fewer would measure what a batch costs, not a box
FIRST_TRIAL, REPEAT = 0.2, 4.0  # seconds of bounding before the first trial, and the factor to the next
OLDEST_GAIN = 4  # halvings that an expected gain is inherited for: it costs more than a bound, and changes slowly
FEWEST_CHOICES = 3  # varying inputs: of two the wrong one is soon followed by the right one
HANDICAP = 2.5  # cheap bounds alone must be so much better: they also guide the splits worse
HOPELESS = 100.0  # the logarithm that stands for an error without bound
TRIAL_SHARE = 0.1  # of the time left is the most that a trial may take


class Trial(NamedTuple):
    """What one method did on a sample of boxes."""

    method: Method
    seconds: float
    bounds: RowBounds


@dataclass
class Effort:
    """Bounds batches of boxes with the methods that a recent trial found best."""

    graph: Graph
    problem: Problem
    deadline: Deadline
    stages: tuple[Method, ...]
    next_trial: float = math.inf
    spent: float = 0.0

    @staticmethod
    def of(graph: Graph, problem: Problem, deadline: Deadline, method: Method | None) -> Effort:
        """One method throughout, or what trials find."""
        if method is None:
            return Effort(graph, problem, deadline, ("crown",), FIRST_TRIAL)
        return Effort(graph, problem, deadline, (method,))

    def reconsider(self, boxes: Boxes, workers: Workers) -> bool:
        """Tries the methods again where it is time to; whether another choice came out."""
        if self.spent < self.next_trial or len(boxes) < FEWEST or self.deadline.remaining() <= self.spent / 2:
            return False
        before = self.stages
        self.choose(boxes, workers)
        self.next_trial = self.spent * REPEAT
        return self.stages != before

    def bound(self, boxes: Boxes, workers: Workers) -> tuple[Boxes, RowBounds]:
        """Bounds of the boxes that the earlier stages leave open, which come with them."""
        started = time.monotonic()
        for stage in self.stages:
            bounds = self.bound_with(boxes, stage, workers)
            if stage != self.stages[-1]:
                index = still_open(boxes, bounds).any(1)
                boxes, bounds = boxes[index], bounds[index]
            if len(boxes) == 0:
                break
        self.spent += time.monotonic() - started
        return boxes, bounds

    def bound_with(self, boxes: Boxes, method: Method, workers: Workers, until: Deadline | None = None) -> RowBounds:
        alive = boxes.alive.any(0).nonzero().flatten()

        def bounds(part: Boxes) -> RowBounds:
            return bound_boxes(self.graph, self.problem.specification, part, method, until or self.deadline, alive)

        return workers.bound(boxes, bounds)

    def with_gain(self, boxes: Boxes, workers: Workers) -> Boxes:
        """The boxes with what halving each input brings computed anew where that is some halvings old."""
        choices = (boxes.upper > boxes.lower).sum(1)
        stale = ((boxes.age >= OLDEST_GAIN) & (choices >= FEWEST_CHOICES)).nonzero().flatten()
        if len(stale) == 0:
            return boxes
        fresh = torch.cat(workers.map(boxes[stale], self.gain_of_part))
        gain, age = boxes.gain.index_copy(0, stale, fresh), boxes.age.index_fill(0, stale, 0)
        return replace(boxes, gain=gain, age=age)

    def gain_of_part(self, boxes: Boxes) -> Tensor:
        return expected_gain(self.graph, self.problem.specification, boxes, self.stages[-1])

    def choose(self, boxes: Boxes, workers: Workers) -> None:
        """Tries both methods on a sample of the boxes."""
        sample = torch.linspace(0, len(boxes) - 1, min(SAMPLE, len(boxes))).long().to(boxes.lower.device)
        boxes = boxes[sample]
        until = self.deadline.within(TRIAL_SHARE * max(0.0, self.deadline.remaining()))
        trials = []
        for method in METHODS:
            started = time.monotonic()
            bounds = self.bound_with(boxes, method, workers, until)
            trials.append(Trial(method, max(1e-6, time.monotonic() - started), bounds))
            self.spent += trials[-1].seconds
        cheap, dear = trials
        growth = [self.growth(boxes, trial.bounds, dear.bounds) for trial in trials]
        closed = 1 - float(still_open(boxes, cheap.bounds).any(1).double().mean())
        if math.log(HANDICAP * cheap.seconds) + growth[0] <= math.log(dear.seconds) + growth[1]:  # NaN: never
            self.stages = (cheap.method,)
        elif closed * dear.seconds > cheap.seconds:
            self.stages = (cheap.method, dear.method)
        else:
            self.stages = (dear.method,)

    def growth(self, boxes: Boxes, bounds: RowBounds, dear: RowBounds) -> float:
        """The mean logarithm of the number of boxes that a box becomes until it is closed.

        Measured on each box's hardest disjunct, in the row that is nearest to a proof. The row's value where the
        dear bound takes its minimum is the error that a proof allows; a row that is not positive
        there cannot close the box, whatever its bound. Boxes without any such row say nothing.
        """
        count, rows = len(boxes), dear.margin.shape[2]
        number = torch.arange(count, device=boxes.lower.device)
        disjunct = dear.margin.amax(2).masked_fill(~boxes.alive[:, dear.disjuncts], torch.inf).argmin(1)
        weight = dear.linear.weight.unflatten(1, (-1, rows))[number, disjunct]
        corner = torch.where(weight > 0, boxes.lower.unsqueeze(1), boxes.upper.unsqueeze(1)).flatten(0, 1)
        origin = boxes.origin.repeat_interleave(rows)
        margins = self.problem.specification.margins(corner, self.graph.forward(corner), origin)
        margins = margins[:, dear.disjuncts].unflatten(0, (count, rows))  # (batch, corner of row, disjuncts, rows)
        allowed = margins[number, :, disjunct].diagonal(dim1=1, dim2=2)  # (batch, rows)
        error: Tensor = (allowed - bounds.margin[number, disjunct]) / allowed
        levels = torch.nan_to_num(error.clamp(min=1).log(), nan=HOPELESS, posinf=HOPELESS)
        possible = (allowed > 0) & torch.isfinite(allowed)
        levels = levels.masked_fill(~possible, torch.inf).amin(1)[possible.any(1)]
        varying = (boxes.upper > boxes.lower).sum(1)[possible.any(1)]
        return float((varying / 2 * levels).mean()) if len(levels) else math.nan
