"""A mixed-integer program in a thread of its own, beside the branch and bound; whichever finishes first decides."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import highspy
import torch
from torch import Tensor

from lirpa_verify.deadline import Deadline
from lirpa_verify.graph.graph import Graph
from lirpa_verify.operators.base import Interval
from lirpa_verify.search import milp
from lirpa_verify.search.roots import Roots
from lirpa_verify.verdict import Result, Witness

Interlude = Callable[[], "Result | None"]


@dataclass
class Solver:
    """Mixed-integer programs of some disjuncts, one after the other, in a thread."""

    graph: Graph
    values: list[Interval]
    roots: Roots
    disjuncts: list[int]
    deadline: Deadline
    answer: milp.Answer | None = None  # infeasible: all are; feasible: with the point
    running: highspy.Highs | None = None
    stopping: threading.Event = field(default_factory=threading.Event)
    thread: threading.Thread = field(init=False)

    @staticmethod
    def started(graph: Graph, values: list[Interval], roots: Roots, disjuncts: list[int], deadline: Deadline) -> Solver:
        """Starts on the CPU."""

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
            if self.stopping.is_set():
                return
            start = {i: rows[d : d + 1] for i, rows in self.roots.start.items()}
            rhs = self.roots.rhs[d]
            answer = milp.solve(self.graph, self.values, start, rhs, self.deadline, started=self.watch)
            if answer.verdict != "infeasible":
                self.answer = answer
                return
        self.answer = milp.Answer("infeasible")

    def watch(self, running: highspy.Highs) -> None:
        self.running = running

    def stop(self) -> None:
        """Ends the thread, which must not outlive the interpreter."""
        self.stopping.set()
        while self.thread.is_alive():
            if self.running is not None:
                self.running.cancelSolve()
            self.thread.join(0.02)


@contextmanager
def running(solver: Solver) -> Iterator[Solver]:
    """Stopped at the end, however that comes."""
    try:
        yield solver
    finally:
        solver.stop()


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
