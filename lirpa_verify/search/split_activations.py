"""The proof for networks with many inputs: alpha-CROWN, then branch and bound on activations.

Where the network is small and piecewise linear, a mixed-integer program looks for a violation in a
thread of its own beside the branch and bound; whichever finishes first decides.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from lirpa_verify.bounds.collapse import collapse
from lirpa_verify.bounds.intermediate import bound_nodes
from lirpa_verify.bounds.optimised_nodes import STEP_PASSES, optimise_nodes, timed_effort
from lirpa_verify.deadline import Deadline
from lirpa_verify.graph.graph import Graph
from lirpa_verify.operators.base import Interval
from lirpa_verify.search import milp
from lirpa_verify.search.activation_split import Outlook
from lirpa_verify.search.cheapest_first import open_disjuncts, open_over_intervals
from lirpa_verify.search.cube import Cube
from lirpa_verify.search.cubes import Cubes, Guide, passes_per_half, unwatched
from lirpa_verify.search.domains import Domains
from lirpa_verify.search.enclosed_root import enclosed
from lirpa_verify.search.jumps import decide_jumps, one_sided
from lirpa_verify.search.milp_beside import Beside, Interlude, Solver, running
from lirpa_verify.search.roots import Task, make_roots, open_domains, root_domains, rooted
from lirpa_verify.search.specification import Problem
from lirpa_verify.search.turns import SharedDeadline, Turns
from lirpa_verify.search.where_it_pays import narrowed
from lirpa_verify.verdict import Progress, Result, Witness

FIRST_SHARE = 0.85  # of the time left for the first bounds of the whole box, without which nothing else succeeds
PAYING_SHARE = 0.4  # of the time left for bounds of those entries of the nodes first that the property pays most for
JUMPS_SHARE = 0.8  # of the time left for the sides of jumps, if these can close anything
BOUNDS_SHARE = 0.25  # of the time left that improving them may take
LEAST_STEPS = 3  # fewer gradient steps on intermediate bounds are not worth their first pass
FEW_STEPS = 6  # gradient steps on intermediate bounds of networks that are not collapsed: 0.95 of what 15 gain
QUICK_STEPS = 20  # of alpha-CROWN before intermediate bounds are optimised too
MILP_BINARIES = 600  # undecided ReLUs up to which a mixed-integer program is tried


def split_activations(
    graph: Graph,
    problem: Problem,
    deadline: Deadline,
    confirm: Callable[[Tensor], Witness | None],
    report: Callable[[Progress], None],
    interlude: Interlude,
    watch: Callable[[Outlook], None] = unwatched,
    guide: Guide | None = None,
) -> Result:
    """Closes the disjuncts of one input box after the other.

    Args:
        graph: the network over its varying inputs.
        problem: boxes and rows, in the graph's precision.
        deadline: when to stop.
        confirm: replays candidate points; only what it returns is a witness.
        report: takes news for the user.
        interlude: called once a round, and while long bounds are made; what runs beside the proof and may decide all of
            it first.
        watch: told what a search promises.
        guide: takes points where an attack may start.
    """
    turns = Turns(interlude)
    shared = SharedDeadline(deadline.at, turns)
    for b in range(len(problem.box.lower)):
        decided = turns()  # what runs beside the proof decides all boxes
        if decided is not None:
            return decided
        box = Interval(problem.box.lower[b : b + 1], problem.box.upper[b : b + 1])
        report(Progress("bounds"))
        disjuncts, values = open_over_intervals(graph, problem, b, shared)
        until = shared.within(PAYING_SHARE * deadline.remaining())
        disjuncts, values = narrowed(graph, problem, b, disjuncts, values, until)
        if len(disjuncts) == 0:
            continue
        started = time.monotonic()
        with torch.no_grad():
            known = dict(enumerate(values[1:], start=1))
            until = shared.within(FIRST_SHARE * deadline.remaining())
            values = bound_nodes(graph, box, known=known, until=until, signs_first=True, one_sided=one_sided(graph))
            disjuncts = open_disjuncts(graph, problem, b, disjuncts, values, shared)
        seconds = time.monotonic() - started
        if len(disjuncts) == 0:
            continue
        values = with_jumps(graph, problem, b, disjuncts, values, shared, report)
        disjuncts = open_disjuncts(graph, problem, b, disjuncts, values, shared)
        if len(disjuncts) == 0:
            continue
        task = Task.of(graph, problem, b, disjuncts, values)
        found = open_domains(task, shared, QUICK_STEPS)
        if found is None:
            return Result(
                "unknown", reason="there is too little memory to bound so many disjuncts of so large a network"
            )
        if len(found) == 0:
            continue
        report(Progress("alpha-crown", len(found), 0, float(found.margin.min())))
        disjuncts = disjuncts[found.root]
        started = time.monotonic()
        before = values
        task, values, seconds = refined(task, values, problem, b, disjuncts, seconds, shared)
        # Where nothing but the choice of disjuncts is new, these are bounded.
        same = values is before
        domains = rooted(found, task.roots) if same else alpha_crown(task, shared, report)
        open_ = domains.open_index
        if len(open_) == 0:
            continue
        if turns.decided is not None:
            return turns.decided
        cubes = Cubes(problem, b, deadline, confirm, report, interlude, watch, guide)
        root = Cube(task, disjuncts, domains, max(time.monotonic() - started, passes_per_half() * seconds))
        if milp.encodable(graph) and milp.binaries(graph, values) <= MILP_BINARIES:
            roots = make_roots(graph, problem, b, disjuncts)
            with running(Solver.started(graph, values, roots, open_.tolist(), deadline)) as solver:
                result = replace(cubes, interlude=Beside(interlude, solver, confirm)).solve(root)
        else:
            result = solve(cubes, root, deadline)
        if result.verdict != "unsat":
            return result
    return Result("unsat", reason="activation split")


@torch.no_grad()
def with_jumps(
    graph: Graph,
    problem: Problem,
    b: int,
    disjuncts: Tensor,
    values: list[Interval],
    deadline: Deadline,
    report: Callable[[Progress], None],
) -> list[Interval]:
    """Bounds of the nodes with arguments of jumps decided, where that may close some disjuncts."""

    def open_(known: list[Interval]) -> Tensor:
        return torch.isin(disjuncts, open_disjuncts(graph, problem, b, disjuncts, known))

    until = deadline.within(JUMPS_SHARE * deadline.remaining())
    return decide_jumps(graph, values, open_, until, lambda left: report(Progress("jumps", left)))


def solve(cubes: Cubes, root: Cube, deadline: Deadline) -> Result:
    """Searches the enclosed network where that loses little; where its splits do not suffice, the network itself."""
    small = enclosed(root.task, root.disjuncts, root.domains, deadline)
    result = Result("unknown") if small is None else cubes.solve(small)
    return cubes.solve(root) if result.verdict == "unknown" else result


def alpha_crown(task: Task, deadline: Deadline, report: Callable[[Progress], None]) -> Domains:
    domains = root_domains(task, deadline)
    report(Progress("alpha-crown", len(domains.open_index), 0, float(domains.margin.min())))
    return domains


def refined(
    task: Task,
    values: list[Interval],
    problem: Problem,
    b: int,
    disjuncts: Tensor,
    seconds: float,
    deadline: Deadline,
) -> tuple[Task, list[Interval], float]:
    """The network collapsed to what is undecided, with optimised bounds, and these as bounds of the network.

    The last result is the seconds that a pass over it takes, as `seconds` for the network itself.
    """
    graph = task.graph
    small = collapse(graph, values)
    if small is None:
        effort = timed_effort(seconds, BOUNDS_SHARE * deadline.remaining(), deadline, FEW_STEPS)
        if effort.steps >= LEAST_STEPS:
            values = optimise_nodes(graph, values[0], values, effort)
        return Task.of(graph, problem, b, disjuncts, values), values, seconds
    started = time.monotonic()
    with torch.no_grad():
        known = dict(enumerate(small.values))
        del known[0]
        tighter = bound_nodes(small.graph, values[0], known=known)
    seconds = time.monotonic() - started
    effort = timed_effort(seconds, BOUNDS_SHARE * deadline.remaining(), deadline)
    if effort.steps >= LEAST_STEPS:
        started = time.monotonic()
        tighter = optimise_nodes(small.graph, values[0], tighter, effort)
        seconds = min(seconds, (time.monotonic() - started) / (STEP_PASSES * effort.steps))
    smaller = collapse(small.graph, tighter)
    assert smaller is not None  # a part of one that was not too large
    return Task.of(smaller.graph, problem, b, disjuncts, smaller.values), small.restore(values, tighter), seconds
