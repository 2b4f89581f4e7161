"""Projected gradient descent towards a violation, in batches over all disjuncts at once.

Every start aims at one disjunct, half of them at the nearest one where there are more disjuncts than starts, and
is the best of a few random points and corners of its box: violations that fill some thousandth of a box are found by
looking, where descent would run past them. The step is the sign of the gradient scaled by the box's width, of
different first sizes, and shrinks over a run (Madry et al., arXiv:1706.06083). Every second run moves its starts apart
first, and its steps stay long for longer. The others begin where a proof that runs beside them found its bounds
least. An `Attack` can be continued at any time, so that it can share the clock with a proof.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from lirpa_verify.attack.diversified import diversified, gradient_of
from lirpa_verify.deadline import Deadline
from lirpa_verify.graph.graph import Graph
from lirpa_verify.operators.base import Interval
from lirpa_verify.search.specification import Problem
from lirpa_verify.verdict import Witness

Confirm = Callable[[Tensor], "Witness | None"]

STEPS = 40
FIRST_STEPS, LAST_STEP = (0.25, 0.05), 0.002  # of a box's width; the starts take turns
CANDIDATES = 8  # points of which a start is the best
LARGEST_BATCH = 4096
LEAST_STARTS, LONGEST_FIRST = 4, 3.0  # of the first run: starts, and seconds while there are more
LONGEST_RUN = 10.0  # seconds: a proof waits meanwhile
PASSES_PER_STEP = 3  # evaluations that a step with its gradient takes as long as
SECONDS_PER_RUN = 0.5  # the batch of starts is chosen so that one run takes about this long


@dataclass(frozen=True)
class Starts:
    """Points, and the box and the disjunct that each aims at."""

    points: Tensor  # (starts, inputs)
    box: Tensor  # (starts,)
    disjunct: Tensor  # (starts,)

    def replaced(self, first: Starts) -> Starts:
        """With the first ones replaced, at most half of them."""
        k = min(len(first.points), (len(self.points) + 1) // 2)
        return Starts(
            torch.cat([first.points[:k], self.points[k:]]),
            torch.cat([first.box[:k], self.box[k:]]),
            torch.cat([first.disjunct[:k], self.disjunct[k:]]),
        )


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
    given: Starts | None = None  # for the next run whose starts are not moved apart

    def __post_init__(self) -> None:
        self.targets = (self.problem.specification.rows[:, :, 0] >= 0).nonzero().cpu()

    def begin(self, deadline: Deadline) -> Witness | None:
        """One run of either kind, or a single one where that takes long."""
        witness = self.advance(deadline)
        return self.advance(deadline) if witness is None and self.spent < SECONDS_PER_RUN else witness

    def advance(self, deadline: Deadline) -> Witness | None:
        """One run of projected gradient descent from fresh starts."""
        started = time.monotonic()
        deadline = deadline.within(LONGEST_RUN)
        if self.runs == 0:
            self.starts = self.affordable()
        box, disjunct = self.choose_targets()
        points, witness = self.start_points(box, disjunct, deadline)
        if witness is None:
            apart, starts = self.runs % 2 == 1, Starts(points, box, self.aimed(points, box, disjunct))
            if apart:
                ends = Interval(self.problem.box.lower[box], self.problem.box.upper[box])
                starts = replace(starts, points=diversified(self.graph, points, ends, self.generator, deadline))
            elif self.given is not None:
                starts, self.given = starts.replaced(self.given), None
            witness = self.descend(starts, deadline, apart)
        seconds = time.monotonic() - started
        self.spent += seconds
        self.runs += 1
        if seconds < SECONDS_PER_RUN / 2 and not deadline.passed():
            self.starts = min(LARGEST_BATCH, self.starts * 2)
        return witness

    @torch.no_grad()
    def affordable(self) -> int:
        """Starts of the first run: fewer where the network is so large that the run would take long."""
        for starts in (1, self.starts):
            started = time.monotonic()
            self.graph.forward(self.problem.box.lower[:1].expand(starts, -1))
            longest = LONGEST_RUN if starts == 1 else LONGEST_FIRST
            run = STEPS * PASSES_PER_STEP * (time.monotonic() - started)
            if run > longest:
                return max(min(LEAST_STARTS, starts), int(starts * longest / run))
        return self.starts

    def choose_targets(self) -> tuple[Tensor, Tensor]:
        """Every target in turn, or a random choice where there are more than starts."""
        if len(self.targets) > self.starts:
            pick = torch.randperm(len(self.targets), generator=self.generator)[: self.starts]
        else:
            pick = torch.arange(max(self.starts, 1)) % len(self.targets)
        chosen = self.targets[pick].to(self.problem.box.lower.device)
        return chosen[:, 0], chosen[:, 1]

    @torch.no_grad()
    def aimed(self, points: Tensor, box: Tensor, disjunct: Tensor) -> Tensor:
        """The disjuncts, where there are more than starts the nearest one instead for every second start."""
        if len(self.targets) <= self.starts:
            return disjunct
        nearest = self.problem.specification.margins(points, self.graph.forward(points), box).amax(2).argmin(1)
        return torch.where(torch.arange(len(points), device=points.device) % 2 == 0, nearest, disjunct)

    def start_points(self, box: Tensor, disjunct: Tensor, deadline: Deadline) -> tuple[Tensor, Witness | None]:
        """The best of some candidates for every start, and a witness where one of them is one."""
        best, least = self.random_points(box), torch.full_like(box, torch.inf, dtype=torch.float32)
        for k in range(CANDIDATES):
            if k > 0 and deadline.passed():
                break
            points = self.random_points(box)
            if self.runs == 0 and k == 0:
                middle = (self.problem.box.lower[box] + self.problem.box.upper[box]) / 2
                points[: len(self.targets)] = middle[: len(self.targets)]
            with torch.no_grad():
                loss, violating = self.losses(points, box, disjunct)
            witness = self.confirmed(points, violating)
            if witness is not None:
                return best, witness
            better = loss < least
            best, least = torch.where(better.unsqueeze(1), points, best), torch.where(better, loss, least)
        return best, None

    def random_points(self, box: Tensor) -> Tensor:
        """Uniform ones, every fourth a corner."""
        lower, upper = self.problem.box.lower[box], self.problem.box.upper[box]
        share = torch.rand(lower.shape, generator=self.generator, dtype=torch.float64).to(lower)
        share[::4] = share[::4].round()
        return lower + share * (upper - lower)

    def losses(self, points: Tensor, box: Tensor, disjunct: Tensor) -> tuple[Tensor, Tensor]:
        """How far each point is from its disjunct, and whether it satisfies any of its box."""
        margins = self.problem.specification.margins(points, self.graph.forward(points), box)
        violating = (margins.detach() <= 0).all(2).any(1)
        own = margins[torch.arange(len(points), device=points.device), disjunct]
        loss = own.clamp(min=-1e-6).masked_fill(torch.isinf(own), 0)
        return loss.amax(1) + 0.1 * loss.clamp(min=0).sum(1), violating

    def confirmed(self, points: Tensor, violating: Tensor) -> Witness | None:
        return self.confirm(points[violating].detach()) if bool(violating.any()) else None

    def guide(self, points: Tensor, box: int, disjunct: Tensor) -> None:
        """Takes points (points, inputs) of a box where it may be that disjuncts (points,) hold nearby."""
        lower, upper = self.problem.box.lower[box], self.problem.box.upper[box]
        disjunct = disjunct.to(lower.device)
        inside = torch.minimum(torch.maximum(points.to(lower), lower), upper)  # a proof's box may be rounded outwards
        self.given = Starts(inside, torch.full_like(disjunct, box), disjunct)

    def descend(self, starts: Starts, deadline: Deadline, linear: bool) -> Witness | None:
        """Sign steps whose size falls in equal steps (`linear`), or by equal factors."""
        points, box, disjunct = starts.points, starts.box, starts.disjunct
        lower, upper = self.problem.box.lower[box], self.problem.box.upper[box]
        width = upper - lower
        first = points.new_tensor(FIRST_STEPS).repeat(len(points))[: len(points)].unsqueeze(1)
        time_left = max(1e-9, deadline.remaining())
        for step in range(STEPS):
            points = points.detach().requires_grad_()
            with torch.enable_grad():  # the proof that it runs beside has no use for gradients
                loss, violating = self.losses(points, box, disjunct)
                total = loss.sum()
            gradient = gradient_of(total, points)
            witness = self.confirmed(points, violating)
            if witness is not None or deadline.passed() or gradient is None:
                return witness
            late = int((STEPS - 1) * (1 - deadline.remaining() / time_left))  # steps that should have been done
            done = max(step, late) / (STEPS - 1)
            size = first + done * (LAST_STEP - first) if linear else first * (LAST_STEP / first) ** done
            moved = points.detach() - size * width * torch.nan_to_num(gradient).sign()
            points = torch.minimum(torch.maximum(moved, lower), upper)
        return None
