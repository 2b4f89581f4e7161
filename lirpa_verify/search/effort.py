"""How much work to spend on one box: decided by measurement while the search runs.

Forward bounds of the nodes are cheap, backward ones tighter. The error of a linear relaxation shrinks
with the square of a box's width, so halving one of d inputs shrinks it by 4^(1/d) and doubles the
boxes: errors that are r times smaller save a factor r^(d/2) of boxes. Backward bounds pay when they
cost less than that. Where the cheap bounds close many boxes they come first, whatever else follows.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import torch
from torch import Tensor

from lirpa_verify.bounds.intermediate import Method
from lirpa_verify.deadline import Deadline
from lirpa_verify.graph.graph import Graph
from lirpa_verify.search.bound_boxes import RowBounds, bound_boxes, still_open
from lirpa_verify.search.boxes import Boxes
from lirpa_verify.search.specification import Problem

SAMPLE = 24  # boxes of a trial
FIRST_TRIAL = 2  # the round of the first trial; the round number doubles or so between trials
REPEAT = 3
TRIAL_SHARE = 0.05  # of the time left is the most a trial may take


@dataclass
class Trial:
    """What both methods did on the same boxes."""

    cheap: float  # seconds
    dear: float
    closed: float  # share of the boxes that the cheap one closed
    ratio: float  # how much smaller the errors of the dear one are

    def dear_pays(self, inputs: int) -> bool:
        return math.log(self.dear / self.cheap) < inputs / 2 * math.log(self.ratio)

    def cheap_first_pays(self) -> bool:
        return self.closed * self.dear > self.cheap


@dataclass
class Effort:
    """Bounds batches of boxes with the methods that a recent trial found best."""

    graph: Graph
    problem: Problem
    deadline: Deadline
    stages: tuple[Method, ...]
    rounds: int = 0
    next_trial: float = math.inf

    @staticmethod
    def automatic(graph: Graph, problem: Problem, deadline: Deadline) -> Effort:
        return Effort(graph, problem, deadline, ("crown",), next_trial=FIRST_TRIAL)

    def bound(self, boxes: Boxes) -> tuple[Boxes, RowBounds]:
        """Bounds of the boxes that the earlier stages leave open, which come with them."""
        self.rounds += 1
        if self.rounds >= self.next_trial and len(boxes) >= SAMPLE:
            self.next_trial = self.rounds * REPEAT
            self.choose(boxes)
        for stage in self.stages[:-1]:
            bounds = self.bound_with(boxes, stage)
            boxes = boxes[still_open(boxes, bounds).any(1)]
            if len(boxes) == 0:
                return boxes, bounds[:0]
        return boxes, self.bound_with(boxes, self.stages[-1])

    def bound_with(self, boxes: Boxes, method: Method, until: Deadline | None = None) -> RowBounds:
        return bound_boxes(self.graph, self.problem.specification, boxes, method, until or self.deadline)

    def choose(self, boxes: Boxes) -> None:
        generator = torch.Generator().manual_seed(self.rounds)
        sample = torch.randperm(len(boxes), generator=generator)[:SAMPLE]
        trial = self.try_both(boxes[sample.to(boxes.lower.device)])
        if not trial.dear_pays(self.graph.n_inputs):
            self.stages = ("forward",)
        elif trial.cheap_first_pays():
            self.stages = ("forward", "crown")
        else:
            self.stages = ("crown",)

    def try_both(self, boxes: Boxes) -> Trial:
        until = self.deadline.within(TRIAL_SHARE * max(0.0, self.deadline.remaining()))
        started = time.monotonic()
        cheap = self.bound_with(boxes, "forward")
        between = time.monotonic()
        dear = self.bound_with(boxes, "crown", until)
        ended = time.monotonic()
        closed = 1 - float(still_open(boxes, cheap).any(1).double().mean())
        ratio = error_ratio(self.graph, self.problem, boxes, cheap, dear)
        return Trial(max(1e-6, between - started), max(1e-6, ended - between), closed, ratio)


def error_ratio(graph: Graph, problem: Problem, boxes: Boxes, cheap: RowBounds, dear: RowBounds) -> float:
    """Geometric mean of how much nearer the dear bounds are to the row's value where they take their minimum.

    Measured on each box's hardest disjunct, in the row that is nearest to a proof.
    """
    open_ = boxes.alive[:, dear.disjuncts]
    number = torch.arange(len(boxes), device=open_.device)
    disjunct = dear.margin.amax(2).masked_fill(~open_, torch.inf).argmin(1)
    row = dear.margin[number, disjunct].argmax(1)
    flat = disjunct * dear.margin.shape[2] + row
    corner = torch.where(dear.linear.weight[number, flat] > 0, boxes.lower, boxes.upper)
    margins = problem.specification.margins(corner, graph.forward(corner), boxes.origin)
    value = margins[:, dear.disjuncts][number, disjunct, row]
    errors = [(value - bounds.margin[number, disjunct, row]).clamp(min=1e-300) for bounds in (cheap, dear)]
    logarithm: Tensor = (errors[0] / errors[1]).log()
    logarithm = logarithm[torch.isfinite(logarithm)]
    return float(logarithm.mean().clamp(0, 100).exp()) if len(logarithm) else 1.0
