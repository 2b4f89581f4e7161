"""Projected gradient descent towards a violation, in batches over all disjuncts at once.

Starts are random points and random corners of the boxes; every start aims at one disjunct. The step
is the sign of the gradient scaled by the box's width and shrinks over a run (Madry et al.,
arXiv:1706.06083). An `Attack` can be continued at any time, so that it can share the clock with a proof.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from lirpa_verify.deadline import Deadline
from lirpa_verify.graph.graph import Graph
from lirpa_verify.search.specification import Problem
from lirpa_verify.verdict import Witness

Confirm = Callable[[Tensor], "Witness | None"]

STEPS = 40
FIRST_STEP, LAST_STEP = 0.25, 0.002  # of a box's width
LARGEST_BATCH = 4096
LEAST_STARTS, LONGEST_FIRST = 4, 3.0  # of the first run: starts, and seconds while there are more
PASSES_PER_STEP = 3  # evaluations that a step with its gradient takes as long as
SECONDS_PER_RUN = 0.5  # the batch of starts is chosen so that one run takes about this long


@dataclass
class Attack:
    """A search for a witness that can be continued; `spent` is the time it has used."""

    graph: Graph  # over the varying inputs
    problem: Problem  # in the graph's precision
    confirm: Confirm
    generator: torch.Generator
    starts: int = 64
    runs: int = 0
    spent: float = 0.0
    targets: Tensor = field(init=False)  # (targets, 2): box and disjunct

    def __post_init__(self) -> None:
        self.targets = (self.problem.specification.rows[:, :, 0] >= 0).nonzero().cpu()

    def advance(self, deadline: Deadline) -> Witness | None:
        """One run of projected gradient descent from fresh starts."""
        started = time.monotonic()
        if self.runs == 0:
            self.starts = self.affordable()
        box, disjunct = self.choose_targets()
        points = self.start_points(box)
        witness = self.descend(points, box, disjunct, deadline)
        seconds = time.monotonic() - started
        self.spent += seconds
        self.runs += 1
        if seconds < SECONDS_PER_RUN / 2 and not deadline.passed():
            self.starts = min(LARGEST_BATCH, self.starts * 2)
        return witness

    @torch.no_grad()
    def affordable(self) -> int:
        """Starts of the first run: fewer where the network is so large that the run would take long."""
        started = time.monotonic()
        self.graph.forward(self.problem.box.lower[:1].expand(self.starts, -1))
        run = STEPS * PASSES_PER_STEP * (time.monotonic() - started)
        return self.starts if run <= LONGEST_FIRST else max(LEAST_STARTS, int(self.starts * LONGEST_FIRST / run))

    def choose_targets(self) -> tuple[Tensor, Tensor]:
        """Every target in turn, or a random choice where there are more than starts."""
        if len(self.targets) > self.starts:
            pick = torch.randperm(len(self.targets), generator=self.generator)[: self.starts]
        else:
            pick = torch.arange(max(self.starts, 1)) % len(self.targets)
        chosen = self.targets[pick].to(self.problem.box.lower.device)
        return chosen[:, 0], chosen[:, 1]

    def start_points(self, box: Tensor) -> Tensor:
        """Random points, every fourth a random corner, the first few of the first run the middles."""
        lower, upper = self.problem.box.lower[box], self.problem.box.upper[box]
        share = torch.rand(lower.shape, generator=self.generator, dtype=torch.float64).to(lower)
        share[::4] = share[::4].round()
        if self.runs == 0:
            share[: len(self.targets)] = 0.5
        return lower + share * (upper - lower)

    def descend(self, points: Tensor, box: Tensor, disjunct: Tensor, deadline: Deadline) -> Witness | None:
        lower, upper = self.problem.box.lower[box], self.problem.box.upper[box]
        width = upper - lower
        number = torch.arange(len(points), device=points.device)
        for step in range(STEPS):
            points = points.detach().requires_grad_()
            with torch.enable_grad():
                output = self.graph.forward(points)
                margins = self.problem.specification.margins(points, output, box)[number, disjunct]
                loss = margins.clamp(min=-1e-6).masked_fill(torch.isinf(margins), 0)
                worst = margins.amax(1)
                objective = loss.amax(1).sum() + 0.1 * loss.clamp(min=0).sum()
            gradient = gradient_of(objective, points)
            violating = worst <= 0
            if bool(violating.any()):
                witness = self.confirm(points[violating].detach())
                if witness is not None:
                    return witness
            if deadline.passed() or gradient is None:
                return None
            size = FIRST_STEP * (LAST_STEP / FIRST_STEP) ** (step / (STEPS - 1))
            moved = points.detach() - size * width * torch.nan_to_num(gradient).sign()
            points = torch.minimum(torch.maximum(moved, lower), upper)
        return None


def gradient_of(objective: Tensor, points: Tensor) -> Tensor | None:
    """The gradient, None where the network is piecewise constant all the way: only fresh starts help there."""
    if not objective.requires_grad:
        return None
    (gradient,) = torch.autograd.grad(objective, points, allow_unused=True)
    return gradient if gradient is not None and bool((gradient != 0).any()) else None
