"""The proof for networks with many inputs: alpha-CROWN, then branch and bound on activations.

Where the network is small and piecewise linear, a mixed-integer program looks for a violation in a
thread of its own beside the branch and bound; whichever finishes first decides.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from lirpa_verify.bounds.intermediate import bound_nodes
from lirpa_verify.bounds.optimised_nodes import optimise_nodes, timed_effort
from lirpa_verify.bounds.sizes import sizes
from lirpa_verify.deadline import Deadline
from lirpa_verify.graph.graph import Graph
from lirpa_verify.operators.base import Interval
from lirpa_verify.search import milp
from lirpa_verify.search.activation_split import Roots, activation_split, make_roots, root_domains, splittable
from lirpa_verify.search.branching import Layout
from lirpa_verify.search.domains import Domains
from lirpa_verify.search.specification import Problem
from lirpa_verify.verdict import Progress, Result, Witness

Interlude = Callable[[], "Result | None"]
BOUNDS_SHARE = 0.25  # of the time left that each stage of bounding the whole box may take
LEAST_STEPS = 3  # fewer gradient steps on intermediate bounds are not worth their first pass
MILP_BINARIES = 600  # undecided ReLUs up to which a mixed-integer program is tried


def split_activations(
    graph: Graph,
    problem: Problem,
    deadline: Deadline,
    confirm: Callable[[Tensor], Witness | None],
    report: Callable[[Progress], None],
    interlude: Interlude,
) -> Result:
    """Closes the disjuncts of one input box after the other."""
    layout = splittable(graph)
    for b in range(len(problem.box.lower)):
        box = Interval(problem.box.lower[b : b + 1], problem.box.upper[b : b + 1])
        disjuncts = (problem.specification.rows[b, :, 0] >= 0).nonzero().flatten()
        roots = make_roots(graph, problem, b, disjuncts)
        report(Progress("bounds"))
        values, domains = root_bounds(graph, layout, roots, box, deadline, report)
        roots = replace(roots, sizes=sizes(graph, values))
        open_ = (~(domains.margin > 0)).nonzero().flatten()
        if len(open_) == 0:
            continue
        beside = interlude
        if milp.encodable(graph) and milp.binaries(graph, values) <= MILP_BINARIES:
            beside = Beside(interlude, Solver.started(graph, values, roots, open_.tolist(), deadline), confirm)
        result = activation_split(graph, roots, domains, layout, deadline, report, beside)
        if result.verdict != "unsat":
            return result
    return Result("unsat", reason="activation split")


def root_bounds(
    graph: Graph,
    layout: Layout,
    roots: Roots,
    box: Interval,
    deadline: Deadline,
    report: Callable[[Progress], None],
) -> tuple[list[Interval], Domains]:
    """Bounds over the whole box: CROWN, then optimised intermediate bounds where something is left open."""
    started = time.monotonic()
    with torch.no_grad():
        values = bound_nodes(graph, box, until=deadline.within(BOUNDS_SHARE * deadline.remaining()))
    seconds = time.monotonic() - started
    domains = root_domains(graph, layout, roots, values, box, deadline)
    report(Progress("alpha-crown", int((~(domains.margin > 0)).sum()), 0, float(domains.margin.min())))
    if bool((domains.margin > 0).all()):
        return values, domains
    effort = timed_effort(seconds, BOUNDS_SHARE * deadline.remaining(), deadline)
    if effort.steps < LEAST_STEPS:
        return values, domains
    values = optimise_nodes(graph, box, values, effort)
    domains = root_domains(graph, layout, roots, values, box, deadline)
    report(Progress("alpha-crown", int((~(domains.margin > 0)).sum()), 0, float(domains.margin.min())))
    return values, domains


@dataclass
class Solver:
    """Mixed-integer programs of some disjuncts, one after the other, in a thread."""

    graph: Graph
    values: list[Interval]
    roots: Roots
    disjuncts: list[int]
    deadline: Deadline
    answer: milp.Answer | None = None  # infeasible: all are; feasible: with the point
    thread: threading.Thread = field(init=False)

    @staticmethod
    def started(graph: Graph, values: list[Interval], roots: Roots, disjuncts: list[int], deadline: Deadline) -> Solver:
        """Starts on the CPU; the thread ends with the process."""

        def cpu(t: Tensor) -> Tensor:
            return t.to("cpu", torch.float64) if t.is_floating_point() else t.cpu()

        here = [Interval(cpu(v.lower), cpu(v.upper)) for v in values]
        moved = Roots({i: cpu(rows) for i, rows in roots.start.items()}, cpu(roots.rhs))
        solver = Solver(graph.map_tensors(cpu), here, moved, disjuncts, deadline)
        solver.thread = threading.Thread(target=solver.run, daemon=True)
        solver.thread.start()
        return solver

    def run(self) -> None:
        for d in self.disjuncts:
            start = {i: rows[d : d + 1] for i, rows in self.roots.start.items()}
            answer = milp.solve(self.graph, self.values, start, self.roots.rhs[d], self.deadline, threads=1)
            if answer.verdict != "infeasible":
                self.answer = answer
                return
        self.answer = milp.Answer("infeasible")


@dataclass
class Beside:
    """The attack and the solver, asked once a round of the branch and bound."""

    attack: Interlude
    solver: Solver
    confirm: Callable[[Tensor], Witness | None]
    spoken: bool = False

    def __call__(self) -> Result | None:
        return self.verdict() or self.attack()

    def verdict(self) -> Result | None:
        """What the solver's answer decides; a point that does not hold up decides nothing."""
        answer = self.solver.answer
        if answer is None or self.spoken:
            return None
        self.spoken = True
        if answer.verdict == "infeasible":
            return Result("unsat", reason="mixed-integer program")
        witness = None if answer.point is None else self.confirm(answer.point.unsqueeze(0))
        return None if witness is None else Result("sat", witness, "mixed-integer program")
