"""Splitting few neurons with all bounds computed again, and searching each part: cube and conquer.

In a deep network the bounds of later layers are so loose that splits which leave them alone gain little.
Here a part (cube) of the network's behaviour is cut at a neuron of great influence; then the bounds of all
nodes are optimised within it. A cube near enough to a proof is left to the activation split, whose splits are a
thousand times cheaper. (The division of labour is that of cube-and-conquer SAT solving: Heule, Kullmann, Wieringa,
Biere 2011.)

Which of the two goes on is decided by predictions: the levels that a tree still needs are its distance from a proof
over the gain per level seen so far, and its cost is that power of 2 times the cost of a node.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TypeVar

import torch
from torch import Tensor

from lirpa_verify.bounds.alpha_crown import Splits
from lirpa_verify.bounds.collapse import collapse
from lirpa_verify.bounds.optimised_nodes import STEP_PASSES, Effort, optimise_nodes
from lirpa_verify.bounds.sizes import sizes
from lirpa_verify.deadline import Deadline
from lirpa_verify.operators.base import Interval
from lirpa_verify.search.activation_split import HOPELESS, ActivationSplit, Outlook
from lirpa_verify.search.box_root import over_box_root
from lirpa_verify.search.cube import (
    TINY,
    Cube,
    Going,
    Growing,
    divisible,
    even_gain,
    growable,
    levels,
    size,
    undecided,
    with_roots,
    worth_starting_anew,
)
from lirpa_verify.search.domains import join
from lirpa_verify.search.halves import Half, halved, looseness
from lirpa_verify.search.in_turn import InTurn
from lirpa_verify.search.influence import influence
from lirpa_verify.search.output_constraint import assume_violation, nothing_in, with_decided
from lirpa_verify.search.roots import Task, root_domains
from lirpa_verify.search.specification import Problem
from lirpa_verify.search.subtrees import common_splits, hull, subtrees
from lirpa_verify.search.trees import Growth, grown
from lirpa_verify.verdict import Progress, Result, Witness

CANDIDATES = 4  # neurons whose two halves are bounded before one is chosen
STEPS, GOAL_STEPS = 8, 20  # gradient steps on the bounds of a cube's nodes, and of what is to be proved
TRIAL_SHARE = 0.25  # of the time left: what comparing a search with cuts may take at most
SWEEP = 0.25  # time of a sweep of bounds under the assumption of a violation, relative to bounding a half
LEAST_GAINED = 0.05  # share of what a bound lacks, or of the undecided entries, that a sweep has to take off
SAVED = 4  # times smaller searches, for which halves that are bounded are taken at once
LONGER = 2  # than their searches may take, parts are narrowed at most
PARTS, HOPE = 4, 8  # of what a search has left; searches are hopeless that would take so many times the time left
DOUBT = 1.0  # of what cuts are expected to cost, as a logarithm to base 2: their gains fall as they go on
RECENT = 2  # cuts whose gains tell what the next ones gain
LEAST_BUDGET = 1.0  # seconds of search before it is judged
FIRST_SPLITS, MORE_SPLITS = 8, 4  # of the first trees per end of a neuron, and the factor to the next ones
DEARER, GROWTH_SHARE = 2, 0.5  # what those take longer, as they have less to decide; of the time left, at most


Found = TypeVar("Found")


def passes_per_half() -> int:
    """Passes over all nodes that a half of a cube takes: bounding candidates, then optimising the one chosen."""
    return CANDIDATES + STEP_PASSES * STEPS


Guide = Callable[[Tensor, int, Tensor], None]  # points (points, inputs), their box, and (points,) their disjuncts


def unwatched(outlook: Outlook) -> None:
    """For searches beside which nothing depends on their outlook."""


@dataclass
class Cubes:
    """The search over cubes."""

    problem: Problem
    box: int
    deadline: Deadline
    confirm: Callable[[Tensor], Witness | None]
    report: Callable[[Progress], None]
    interlude: Callable[[], Result | None]
    watch: Callable[[Outlook], None] = unwatched  # told what a search promises
    guide: Guide | None = None  # takes points where an attack may start
    gains: list[float] = field(default_factory=list)  # of margin, per cut: what both halves might as well have gained
    closed: int = 0
    worked: float = 0.0  # seconds that halves have taken: choosing cuts, bounding, narrowing
    log_step: float = -math.inf  # logarithm of the seconds that a domain of the search takes
    generator: torch.Generator = field(default_factory=lambda: torch.Generator().manual_seed(0))

    def solve(self, root: Cube) -> Result:
        """Closes all cubes, finds a violation, or runs out of time."""
        stack = [root] if len(root.domains.open_index) else []
        rate = math.inf
        while stack:
            if self.deadline.passed():
                return Result("timeout", reason="time is up", statistics={"cubes": self.closed, "open": len(stack)})
            cube = stack.pop()
            self.report(Progress("cubes", len(stack) + 1, self.closed, cube.margin))
            children = None
            if cube.task.cuts.sign and cube.going is None:
                children = self.timed(self.narrow, cube)
            elif cube.searched:
                children = self.narrow(cube)
            if children is None:
                tried = replace(cube, narrowed=cube.narrowed or cube.searched or bool(cube.task.cuts.sign))
                result, children, rate = self.advance(tried, rate)
                if result is not None and result.verdict != "unsat":
                    return result
            self.closed += not children
            stack += children
            beside = self.interlude()
            if beside is not None:
                return beside
        return Result("unsat", reason="activation split", statistics={"cubes": self.closed})

    def advance(self, cube: Cube, rate: float) -> tuple[Result | None, list[Cube], float]:
        """Searches a cube, or cuts it where searches of such a gain per level have no hope.

        Returns:
            The search's result, if it ended; the cubes that replace this one; and the gain per level.
        """
        if levels(cube, rate) + self.log_step > self.cut_cost(cube) + 3 and divisible(cube):
            grows = self.grows(cube, math.inf)
            return None, self.grow(cube, math.inf) if grows else self.timed(self.children, cube), rate
        result, children, rate = self.search(cube)
        if result is not None:
            return result, [], rate
        return None, self.timed(self.children, cube) if children is None else children, rate

    def timed(self, work: Callable[[Cube], Found], cube: Cube) -> Found:
        """What the work on the cube returns; the time it takes counts as that of halves."""
        started = time.monotonic()
        found = work(cube)
        self.worked += time.monotonic() - started
        return found

    def cut_cost(self, cube: Cube) -> float:
        """Logarithm of the seconds that cuts down to a proof would take."""
        recent = self.gains[-RECENT:]
        gain = sum(recent) / len(recent) if recent else math.inf
        levels = -cube.margin / gain if gain > 0 and math.isfinite(cube.margin) else HOPELESS
        per_half = max(cube.seconds, self.worked / max(1, len(self.gains)))
        return math.log2(per_half) + min(levels, HOPELESS) + DOUBT

    def search(self, cube: Cube) -> tuple[Result | None, list[Cube] | None, float]:
        """An activation split for as long as it promises more than cuts do.

        Returns:
            A result, or None with the cubes that are to replace this one where they are known; and the gain per level.
        """
        search, whole = InTurn([cube.going.search if cube.going else self.started(cube)]), replace(cube, searched=True)
        budget = max(LEAST_BUDGET, cube.seconds if cube.narrowed else SWEEP * cube.seconds)
        children = None
        while True:
            soon = min(cube.seconds, TRIAL_SHARE * self.deadline.remaining())
            result = search.run(budget, soon, self.deadline)
            if result.verdict != "timeout" or self.deadline.passed():
                return result, None, math.inf
            cube, outlook = with_roots(whole, search.roots), search.outlook()
            self.watch(outlook)
            self.log_step = outlook.log_step
            if self.grows(cube, outlook.seconds):
                return None, self.grow(cube, outlook.seconds), outlook.rate
            if not cube.narrowed:
                narrower = self.narrow(cube, search.searches[0] if len(search.searches) == 1 else None)
                if narrower is not None:
                    return None, narrower, math.inf
                whole = replace(whole, narrowed=True)
                cube = replace(cube, narrowed=True)
            source = cube.going.cube if cube.going else cube
            if self.partable(source, search, outlook.seconds):
                return None, self.parts(source, search), outlook.rate
            first = not self.gains and divisible(cube)
            if first and min(outlook.seconds, TRIAL_SHARE * self.deadline.remaining()) > 2 * cube.seconds:
                children = self.timed(self.children, cube)
                if SAVED * size(children, outlook.rate) < size([cube], outlook.rate):
                    return None, children, outlook.rate
            if self.gains and outlook.log_seconds > self.cut_cost(cube) and divisible(cube):
                return None, children, outlook.rate
            budget *= 2

    def started(self, cube: Cube) -> ActivationSplit:
        task, domains = over_box_root(cube.task, cube.domains, self.deadline)
        search = ActivationSplit(task, self.confirm, self.report, self.interlude, self.guided(cube.disjuncts))
        search.start(domains)
        return search

    def guided(self, disjuncts: Tensor) -> Callable[[Tensor, Tensor], None] | None:
        """Passes on starts of attacks with the box and the disjunct that they are for."""
        guide = self.guide
        return None if guide is None else lambda points, roots: guide(points, self.box, disjuncts[roots])

    def partable(self, cube: Cube, search: InTurn, seconds: float) -> bool:
        """Whether bounds within parts of what the search has left are worth more than the search that may take so long.

        Where it is hopeless its splits are no better than any.
        """
        same = all(one.exact.graph is cube.task.graph for one in search.searches)
        least = PARTS * max(LEAST_BUDGET, SWEEP * cube.seconds)
        spent = sum(one.spent for one in search.searches)  # parts of a search that has just begun are no better off
        return same and divisible(cube) and least < spent and seconds < HOPE * self.deadline.remaining()

    def parts(self, cube: Cube, search: InTurn) -> list[Cube]:
        """What the search has left: a cube with a search of its own for each of the subtrees of each root."""
        found = []
        for k, one in enumerate(sorted(search.searches, key=lambda s: int(s.open_roots()))):
            root, left = with_roots(cube, [k]), join(one.stack.parts)
            task = root.task
            for index in subtrees(task.layout, left, PARTS):
                started, mine = time.monotonic(), left[index]
                values, splits = hull(mine, task.nodes), common_splits(task.layout, mine)
                part = self.bounded(root, values, with_decided(replace(task, cuts=splits), values), started)
                if len(part.domains.open_index):
                    going = Going(root, one.part(left, index))
                    found.append(replace(part, seconds=cube.seconds, searched=True, trees=cube.trees, going=going))
        return sorted(found, key=lambda c: c.margin)  # the nearest to a proof is taken first

    def grows(self, cube: Cube, seconds: float) -> bool:
        """Whether trees of the cube's neurons are tried before a search that may take so long, or a cut."""
        trees = cube.trees
        cost = DEARER * trees.seconds if trees.splits else cube.seconds
        return growable(cube) and cost < min(seconds, self.deadline.remaining())

    def grow(self, cube: Cube, seconds: float) -> list[Cube]:
        """The same cube with bounds from larger trees, which take as long as a search may; none if they prove it."""
        started, trees, task = time.monotonic(), cube.trees, cube.task
        splits, share = (trees.splits * MORE_SPLITS, GROWTH_SHARE) if trees.splits else (FIRST_SPLITS, TRIAL_SHARE)
        growth = Growth(splits, self.deadline.within(min(seconds, share * self.deadline.remaining())))
        values = grown(task.graph, task.nodes, task.cuts, growth)  # those without trees gain from those with trees:
        values = optimise_nodes(task.graph, values[0], values, Effort(STEPS, self.deadline), task.cuts)
        cuts = with_decided(task, values) if task.cuts.sign else task.cuts
        better = self.bounded(cube, values, cuts, started)
        trees = Growing(splits, time.monotonic() - started, better.margin > (1 - LEAST_GAINED) * cube.margin)
        same = undecided(better.task) == undecided(task)  # else narrowing may gain more than it did
        found = replace(better, seconds=cube.seconds, narrowed=cube.narrowed and same, trees=trees)
        return [found] if len(found.domains.open_index) else []

    def children(self, cube: Cube) -> list[Cube]:
        """Both halves of a cube, cut at the most influential neuron; without those that are proved."""
        bounded, gained = [], []
        for half in self.cut(cube.task):
            child = self.bound_cube(cube, half)
            margin = 0.0 if child is None else min(0.0, child.margin)
            gained.append(max(0.0, margin - cube.margin))
            if child is not None and len(child.domains.open_index):
                bounded.append(child)
        self.gains.append(even_gain(*gained))
        return sorted(bounded, key=lambda c: c.margin)  # the nearest to a proof is taken first

    def narrow(self, cube: Cube, search: ActivationSplit | None = None) -> list[Cube] | None:
        """The cube's open roots one by one, with bounds that assume a violation; None where that gains nothing.

        Args:
            cube: with open roots.
            search: that is going, if it is of one root: it would have to start anew.
        """
        if cube.narrowed or not divisible(cube):
            return None
        open_ = cube.domains.open_index
        first, *others = open_[cube.domains.margin[open_].argsort(descending=True)].tolist()  # the nearest to a proof
        before = with_roots(cube, [first])
        after = self.narrow_root(before)
        if after is before:
            return None
        going = cube.going.search if cube.going else search
        if after and going and not worth_starting_anew(after.margin - cube.margin, going.outlook(), going.spent):
            return None
        left = [] if after is None else [after]
        return [*left, *(with_roots(cube, [k]) for k in reversed(others))]

    def narrow_root(self, cube: Cube) -> Cube | None:
        """A cube with one root, as narrow as sweeps make it; None where nothing is left of it."""
        seconds = TRIAL_SHARE * self.deadline.remaining()
        if cube.going is not None:
            seconds = min(seconds, LONGER * cube.going.search.outlook().seconds)
        effort = Effort(STEPS, self.deadline.within(seconds))
        while True:
            started = time.monotonic()
            values = assume_violation(cube.task, -cube.margin, effort)
            if values is None:
                return None
            after = self.bounded(cube, values, with_decided(cube.task, values), started)
            if len(after.domains.open_index) == 0:
                return None
            decided = 1 - undecided(after.task) / max(1, undecided(cube.task))
            gained = max((after.margin - cube.margin) / max(-cube.margin, TINY), decided)
            if gained < LEAST_GAINED:
                return cube
            cube = replace(after, seconds=cube.seconds, narrowed=True, trees=cube.trees)
            if effort.deadline.passed():
                return cube

    def bound_cube(self, cube: Cube, half: Half) -> Cube | None:
        """Optimises the bounds of all nodes and bounds what is to be proved.

        Returns:
            None where nothing is in it.
        """
        started = time.monotonic()
        graph, cuts, effort = cube.task.graph, half.cuts, Effort(STEPS, self.deadline)
        values = optimise_nodes(graph, half.values[0], half.values, effort, cuts)
        if nothing_in(values):
            return None
        return self.bounded(cube, values, with_decided(replace(cube.task, cuts=cuts), values), started)

    def bounded(self, cube: Cube, values: list[Interval], cuts: Splits, started: float) -> Cube:
        """A part of a cube with these bounds and cuts, which keep all that they decide: then nothing would collapse."""
        known, graph = cube.domains.parameters(), cube.task.graph
        small = None if cuts.sign else collapse(graph, values)
        if small is None:
            task = replace(cube.task, nodes=tuple(values), sizes=sizes(graph, values), cuts=cuts)
        else:
            known = small.carried_parameters(graph, known)
            task = Task.of(small.graph, self.problem, self.box, cube.disjuncts, small.values)
        domains = root_domains(task, self.deadline, GOAL_STEPS, known)
        margin = torch.fmax(domains.margin, cube.domains.margin)  # what holds in the cube holds in its part
        domains = domains.updated({("margin", 0): margin})
        return Cube(task, cube.disjuncts, domains, max(1e-3, time.monotonic() - started))

    @torch.no_grad()
    def cut(self, task: Task) -> tuple[Half, Half]:
        """Both halves for the neuron that decides most of the others."""
        score = influence(task.graph, task.layout, task.nodes, task.roots.start, self.generator)
        best: tuple[float, tuple[Half, Half]] | None = None
        for entry in score.topk(min(CANDIDATES, len(score))).indices:
            halves = halved(task, entry)
            gain = math.prod(max(1e-6, len(task.layout.nodes) - looseness(task, half.values)) for half in halves)
            if best is None or gain > best[0]:
                best = gain, halves
        assert best is not None
        return best[1]
