"""Branch and bound that splits the arguments of nonlinear functions (beta-CROWN, arXiv:2103.06624).

Each round takes a batch of domains, splits each at the neuron whose relaxation costs its bound most,
and bounds the children with optimised slopes and multipliers, starting from the parent's. Intervals
of intermediate nodes are the parent's, cut at the split. The search runs in single precision; what it takes
for proved is bounded once more, with the same slopes and multipliers, in double precision with
an account of rounding, and only that closes a domain. A domain without any relaxation error is
settled by a linear program.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, field

import torch
from torch import Tensor

from lirpa_verify.bounds.alpha_crown import Parameters, bound, optimise
from lirpa_verify.bounds.input_parts import Part, input_parts
from lirpa_verify.deadline import Deadline
from lirpa_verify.search import milp
from lirpa_verify.search.domains import Domains, join, parameter_fields
from lirpa_verify.search.look_ahead import choose
from lirpa_verify.search.roots import Task, unproved
from lirpa_verify.search.split_domains import feasible, split
from lirpa_verify.search.stack import Stack
from lirpa_verify.search.stopping import Stopping
from lirpa_verify.verdict import Progress, Result, Witness

CHILD_STEPS, CHILD_RATE = 20, 0.05
SPLIT_RATE = 0.3  # of the multiplier of a split that is new; the others' are near where they should be
ROUNDS = 6  # of so many steps; what is closed leaves the batch after each
HOPELESS = 60.0  # levels that no tree reaches
TELLING = 0.02  # share of a tree that is closed, from which on it tells how long the rest takes
BATCH_BYTES = 2**29
REPORT_SECONDS = 0.2
GUIDES, GUIDE_SECONDS = 32, 1.0  # starts of attacks from so many domains, no more often

Confirm = Callable[[Tensor], Witness | None]
Guide = Callable[[Tensor, Tensor], None]  # points (points, inputs), and of which root's violation each may be


@dataclass(frozen=True)
class Outlook:
    """What a search that goes on may cost."""

    seconds: float
    rate: float  # gain of margin per level of the tree
    log_step: float  # logarithm to base 2 of the seconds that a domain takes

    @property
    def log_seconds(self) -> float:
        return math.log2(max(self.seconds, 1e-9))


@dataclass
class ActivationSplit:
    """A search that goes on for as long as it is told to."""

    exact: Task  # in double precision
    confirm: Confirm
    report: Callable[[Progress], None]
    interlude: Callable[[], Result | None]  # called once a round: what runs beside the proof and may decide first
    guide: Guide | None = None  # takes points where an attack may start
    fast: Task = field(init=False)
    parts: tuple[Part, ...] = field(init=False)  # of the inputs of `fast`
    glance: Task = field(init=False)  # `fast` with a part of the inputs: enough to compare splits with each other
    stack: Stack[Domains] = field(default_factory=lambda: Stack(join))
    bounded: int = 0
    closed: int = 0
    reported: float = 0.0
    guided: float = 0.0  # when points were given last
    spent: float = 0.0  # seconds
    roots: Tensor = field(init=False)  # (roots,) margins before the first split
    gained: Tensor = field(init=False)  # (roots,) sums over closed domains: share of a tree times gain per level

    def __post_init__(self) -> None:
        self.fast = self.exact.single()
        self.parts = input_parts(self.fast.graph, self.fast.nodes[0])
        self.glance = self.fast.glance(self.parts[0]) if self.parts else self.fast

    def start(self, domains: Domains) -> None:
        """Takes bounded root domains; those that are open are searched."""
        domains = domains.updated({("share", 0): torch.ones_like(domains.margin)}).single()
        self.roots, self.gained = domains.margin, torch.zeros_like(domains.margin)
        self.stack.push(open_domains(domains))

    def apart(self) -> list[ActivationSplit]:
        """A search for each open root, the nearest to a proof first."""
        open_ = self.open_roots()
        left = join(self.stack.parts)
        nearest = open_[self.roots[open_].argsort(descending=True)]
        return [self.part(left, (left.root == k).nonzero().flatten()) for k in nearest]

    def part(self, left: Domains, index: Tensor) -> ActivationSplit:
        """The search of some of the open domains that are `left`, with its share of what was spent."""
        part, share = copy(self), len(index) / len(left)
        part.stack, part.gained = Stack(join), self.gained.clone()
        part.stack.push(left[index])
        part.bounded, part.spent = math.ceil(share * self.bounded), share * self.spent
        return part

    def open_roots(self) -> Tensor:
        """(open roots,) in ascending order."""
        return torch.cat([part.root for part in self.stack.parts]).unique()

    def run(self, deadline: Deadline) -> Result:
        """Closes all domains, finds a violation, or stops with `timeout` and can be run again."""
        started = time.monotonic()
        try:
            return self.rounds(deadline)
        finally:
            self.spent += time.monotonic() - started

    def rounds(self, deadline: Deadline) -> Result:
        """As `run`, without counting the time."""
        size = max(1, BATCH_BYTES // self.fast.bytes_per_domain())
        while self.stack.count:
            if deadline.passed():
                return Result("timeout", reason="time is up", statistics=self.statistics())
            domains = self.stack.pop(size)
            entry = choose(self.glance, domains)
            undivided = (entry < 0).nonzero().flatten()
            if len(undivided):
                divided = (entry >= 0).nonzero().flatten()
                decided = self.settle(domains[undivided], deadline)
                domains, entry = domains[divided], entry[divided]
                if decided is not None:
                    self.stack.push(domains)
                    return decided
            children = self.bound_children(domains, entry, deadline)
            open_ = open_domains(children)
            self.bounded += len(children)
            self.closed += len(children) - len(open_)
            self.count_gains(children[(children.margin > 0).nonzero().flatten()])
            self.stack.push(open_)
            self.give_starts(open_)
            beside = self.interlude()
            if beside is not None:
                return beside
            self.tell()
        return Result("unsat", reason="activation split", statistics={"domains": self.bounded})

    def bound_children(self, domains: Domains, entry: Tensor, deadline: Deadline) -> Domains:
        """Both halves of every domain, bounded; those in which nothing lies are left out."""
        # Intervals that splits narrow are used as they are for what is certified: they follow from the exact network.
        children = split(self.exact.graph, self.exact.layout, domains, entry)
        children = children.updated({("share", 0): children.fields["share", 0] / 2})
        possible = feasible(children)
        self.count_gains(children[(~possible).nonzero().flatten()])
        children = children[possible.nonzero().flatten()]
        if len(children) == 0:
            return children
        done, stopping = [], Stopping(children.margin, len(children))
        for _ in range(ROUNDS):
            children = self.certified(self.optimised(children, stopping, deadline))
            closed = children.margin > 0
            if stopping.ended or bool(closed.all()) or deadline.passed():
                break
            stopping.drop(closed)
            done.append(children[closed.nonzero().flatten()])
            children = children[(~closed).nonzero().flatten()]
        return join([*done, children])

    def optimised(self, domains: Domains, stopping: Stopping, deadline: Deadline) -> Domains:
        """The domains with better slopes and multipliers, and the margins reached with them."""
        task, inherited = self.fast, domains.parameters()
        active = {z: m for z, m in inherited.multipliers.items() if bool((domains.fields["sign", z] != 0).any())}
        start = Parameters(inherited.positions, active, inherited.weights)

        def going(margin: Tensor) -> bool:
            return unproved(margin) and not deadline.passed() and stopping.worthwhile(margin[:, 0])

        target = task.target(domains)
        best = optimise(
            task.graph, target, start, CHILD_STEPS, going, CHILD_RATE, parts=self.parts, unused_rate=SPLIT_RATE
        )
        reached = best.margin
        if self.parts:
            with torch.no_grad():
                reached, _ = bound(task.graph, target, best.parameters)
        margin = torch.fmax(reached[:, 0], domains.margin)
        return domains.updated({**parameter_fields(best.parameters), ("margin", 0): margin})

    @torch.no_grad()
    def certified(self, domains: Domains) -> Domains:
        """The margins above 0 replaced with what holds in spite of rounding."""
        index = (domains.margin > 0).nonzero().flatten()
        if len(index) == 0:
            return domains
        claimed = domains[index].double()
        sure, _ = bound(self.exact.graph, self.exact.target(claimed), claimed.parameters())
        margin = domains.margin.clone()
        margin[index] = torch.where(sure[:, 0] > 0, margin[index], -torch.finfo(margin.dtype).tiny)
        return domains.updated({("margin", 0): margin})

    def settle(self, domains: Domains, deadline: Deadline) -> Result | None:
        """Linear programs for domains whose relaxations are exact; None where all of them are infeasible.

        Those that time does not suffice for go back on the stack.
        """
        task = self.exact
        for k in range(len(domains)):
            domain = domains[k : k + 1].double()
            root = int(domain.root)
            rows = {i: r[root : root + 1] for i, r in task.roots.start.items()}
            if not milp.encodable(task.graph):
                return Result("unknown", reason="a sub-problem without relaxation error cannot be proved")
            values = task.values(domain)
            answer = milp.solve(task.graph, values, rows, task.roots.rhs[root], deadline, domain.splits())
            if answer.verdict == "feasible" and answer.point is not None:
                witness = self.confirm(answer.point.unsqueeze(0))
                if witness is not None:
                    return Result("sat", witness, "activation split", self.statistics())
            if answer.verdict == "stopped":
                self.stack.push(domains[k:])
                return Result("timeout", reason="time is up", statistics=self.statistics())
            if answer.verdict != "infeasible":
                return Result("unknown", reason="a sub-problem is neither proved nor refuted within rounding")
            self.closed += 1
        return None

    def count_gains(self, closed: Domains) -> None:
        self.gained.index_add_(0, closed.root, self.gain_per_level(closed, closed=True))

    def gain_per_level(self, domains: Domains, closed: bool) -> Tensor:
        """(batch,) how much margin each level of splits has gained, times the share of the tree."""
        share, root = domains.fields["share", 0], self.roots[domains.root]
        gain = -root if closed else torch.minimum(domains.margin, torch.zeros_like(root)) - root
        return share * gain / (-share.log2()).clamp(min=1)

    def outlook(self) -> Outlook:
        """What the rest of the search may take, if it goes on as it did."""
        share, gained = torch.zeros_like(self.gained), self.gained.clone()
        for part in self.stack.parts:
            share.index_add_(0, part.root, part.fields["share", 0])
            gained.index_add_(0, part.root, self.gain_per_level(part, False))
        open_ = self.open_roots()
        step = self.spent / max(1, self.bounded)
        by_levels = step * sum(float(self.below(part, gained).sum()) for part in self.stack.parts)
        done = 1 - float(share[open_].mean())
        by_share = self.spent / done if done > TELLING else 0.0  # hard parts come late: it is a lower limit
        more = max(by_levels, by_share - self.spent, self.spent)  # what took long will take as long again
        return Outlook(more, float(gained[open_[self.roots[open_].argmin()]]), math.log2(max(step, 1e-9)))

    def below(self, domains: Domains, rates: Tensor) -> Tensor:
        """(batch,) how many domains each may become: where splits gained less than elsewhere, they may go on so."""
        levels = (-domains.fields["share", 0].log2()).clamp(min=1)
        rate = (rates[domains.root] + (domains.margin - self.roots[domains.root]) / levels) / 2
        return 2 ** (1 - domains.margin.double() / rate.clamp(min=1e-30)).clamp(max=HOPELESS)

    def give_starts(self, domains: Domains) -> None:
        """The points at which the bounds of the domains furthest from a proof are least."""
        if self.guide is None or len(domains) == 0 or time.monotonic() - self.guided < GUIDE_SECONDS:
            return
        worst = domains[domains.margin.argsort()[:GUIDES]]
        self.guide(least_points(self.fast, worst), worst.root)
        self.guided = time.monotonic()

    def tell(self) -> None:
        if time.monotonic() - self.reported > REPORT_SECONDS:
            self.reported = time.monotonic()
            self.report(Progress("activation-split", self.stack.count, self.closed, self.stack.worst()))

    def statistics(self) -> dict[str, float | int | str]:
        return {"domains": self.bounded, "open": self.stack.count}


@torch.no_grad()
def least_points(task: Task, domains: Domains) -> Tensor:
    """(batch, inputs) where in the box the linear bound of each domain is least: near a violation, if there is one."""
    target = task.target(domains)
    _, linear = bound(task.graph, target, domains.parameters())
    return torch.where(linear.weight[:, 0] > 0, target.box.lower.flatten(1), target.box.upper.flatten(1))


def open_domains(domains: Domains) -> Domains:
    return domains[domains.open_index]
