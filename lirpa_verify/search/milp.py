"""Small piecewise-linear networks as mixed-integer linear programs (arXiv:1711.07356), solved by HiGHS.

Every ReLU whose sign is not known becomes a binary variable between its bounds; everything linear
between ReLUs is written out by pushing rows down to the ReLUs below. The program asks for a violation
of one disjunct: it is infeasible where there is none.

What counts as infeasible must be so in exact arithmetic. Tolerances of the solver are absolute and it
drops small coefficients, so every variable is scaled to [-1, 1] and every row to a largest coefficient
of 1, and rows are loosened by more than rounding, dropped coefficients and tolerances may amount to.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import highspy
import numpy as np
import torch
from torch import Tensor

from lirpa_verify.bounds.alpha_crown import NONE, Splits
from lirpa_verify.bounds.crown import Pushed, one_hot_rows, push
from lirpa_verify.bounds.rounding import RELATIVE
from lirpa_verify.bounds.sizes import sizes
from lirpa_verify.deadline import Deadline
from lirpa_verify.graph.graph import Graph
from lirpa_verify.operators.base import Interval
from lirpa_verify.operators.relu import ReLU
from lirpa_verify.quiet_highs import QuietHighs

TOLERANCE = 1e-9  # feasibility tolerance asked of the solver
LOOSENED = 1e-8  # by how much scaled rows are loosened
VIOLATION_LOOSENED = 1e-6  # the same for the rows of the violation, relative to their size
DROPPED = 1e-9  # coefficients of scaled rows that the solver would ignore
ROUNDING = RELATIVE[torch.float64]


@dataclass(frozen=True)
class Answer:
    verdict: Literal["infeasible", "feasible", "stopped", "open"]  # stopped: time was up, or another thread's wish
    point: Tensor | None = None  # (inputs,) of a feasible solution


def encodable(graph: Graph) -> bool:
    """Whether all nonlinear operators are (leaky) ReLUs."""
    return all(isinstance(node.operator, ReLU) for node in graph.nodes if node.operator.bounded)


def binaries(graph: Graph, values: list[Interval]) -> int:
    """How many ReLUs are undecided over the (single) box."""
    count = 0
    for node in graph.nodes:
        if isinstance(node.operator, ReLU):
            lower, upper = values[node.arguments[0]]
            count += int(((lower < 0) & (upper > 0)).sum())
    return count


class Entries(NamedTuple):
    """The entries of a node: ``middle + radius * variable`` with the variable in [-1, 1], none where it is -1."""

    variable: np.ndarray
    middle: np.ndarray
    radius: np.ndarray


@dataclass(frozen=True)
class Expression:
    """``sum(value * variable[index]) + constant``; `size` bounds the terms that rounding is relative to."""

    index: np.ndarray
    value: np.ndarray
    constant: float
    size: float

    def plus(self, other: Expression, factor: float) -> Expression:
        """``self + factor * other``, which have no variable in common."""
        return Expression(
            np.concatenate([self.index, other.index]),
            np.concatenate([self.value, factor * other.value]),
            self.constant + factor * other.constant,
            self.size + abs(factor) * other.size,
        )


@dataclass
class Program:
    """A program under construction: variables of the input and of every ReLU that is not always 0."""

    solver: highspy.Highs
    entries: dict[int, Entries]
    count: int = 0
    rows: int = 0

    def variable(self) -> int:
        self.solver.addVar(-1.0, 1.0)
        self.count += 1
        return self.count - 1

    def binary(self) -> Expression:
        index = self.variable()
        self.solver.changeColBounds(index, 0.0, 1.0)
        self.solver.changeColIntegrality(index, highspy.HighsVarType.kInteger)
        return Expression(np.array([index]), np.array([1.0]), 0.0, 1.0)

    def between(self, lower: np.ndarray, upper: np.ndarray) -> Entries:
        """Variables for entries with these bounds; those of one value need none."""
        middle, radius = lower / 2 + upper / 2, upper / 2 - lower / 2  # differences of large bounds may overflow
        return Entries(np.array([self.variable() if r > 0 else -1 for r in radius], dtype=np.int64), middle, radius)

    def expression(self, pushed: Pushed, row: int) -> Expression:
        """One pushed row."""
        index, value = [np.empty(0, np.int64)], [np.empty(0)]
        constant = float(pushed.offset[0, row])
        size = abs(constant) + float(torch.as_tensor(pushed.size).expand(1, len(pushed.offset[0]))[0, row])
        for node, rows in pushed.coefficients.items():
            flat = rows[0, row].reshape(-1).numpy()
            entries = self.entries[node]
            used = (flat != 0) & (entries.variable >= 0)
            index.append(entries.variable[used])
            value.append((flat * entries.radius)[used])
            constant += float(flat @ entries.middle)
            size += float(np.abs(flat) @ (np.abs(entries.middle) + entries.radius))
        return Expression(np.concatenate(index), np.concatenate(value), constant, size)

    def at_most(self, left: Expression, limit: float = 0.0, loosened: float = LOOSENED) -> None:
        """``left <= limit``, loosened."""
        scale = float(np.abs(left.value).max(initial=0.0)) or 1.0
        scaled = left.value / scale
        kept = np.abs(scaled) > DROPPED
        room = ROUNDING * (left.size + abs(limit)) / scale + float(np.abs(scaled[~kept]).sum()) + loosened
        bound = (limit - left.constant) / scale + room
        self.solver.addRow(-highspy.kHighsInf, bound, int(kept.sum()), left.index[kept].astype(np.int32), scaled[kept])
        self.rows += 1


def solve(
    graph: Graph,
    values: list[Interval],
    rows: Mapping[int, Tensor],
    rhs: Tensor,
    deadline: Deadline,
    splits: Splits = NONE,
    started: Callable[[highspy.Highs], None] = lambda solver: None,
) -> Answer:
    """Looks for a point of the box with ``<rows, node> <= rhs`` for all rows.

    Args:
        graph: a network for which `encodable` holds, in float64 on the CPU.
        values: bounds of every node over one box (batch 1).
        rows: coefficients ``(1, conjuncts, *node)`` at the output (and the input).
        rhs: ``(conjuncts,)``.
        deadline: when to give up.
        splits: constraints on nodes of one sub-problem (batch 1).
        started: is given the solver before it runs, to cancel it from another thread.
    """
    solver = QuietHighs()
    for option, setting in (("time_limit", max(0.1, deadline.remaining())),
                          ("primal_feasibility_tolerance", TOLERANCE), ("mip_feasibility_tolerance", TOLERANCE),
                          ("mip_max_improving_sols", 1)):  # fmt: skip
        solver.setOptionValue(option, setting)
    program = Program(solver, {})
    relus = [i for i in sorted(graph.ancestors[graph.output]) if isinstance(graph.nodes[i].operator, ReLU)]
    known = sizes(graph, values)
    pushed = push(graph, rows, {}, {}, lambda a: graph.nodes[a].operator.bounded, sizes=known)
    bounds = [values[0], *(values[graph.nodes[i].arguments[0]] for i in relus)]
    numbers = [rhs, pushed.offset, *pushed.coefficients.values(), *(end for interval in bounds for end in interval)]
    if not all(bool(torch.isfinite(t).all()) for t in numbers):
        return Answer("open")
    program.entries[0] = program.between(*(end[0].numpy() for end in values[0]))
    for i in relus:
        add_relus(graph, program, i, values, known)
    for z in splits.on(range(len(graph.nodes))).sign:
        add_splits(graph, program, z, splits, known)
    for k in range(len(rhs)):
        expression, limit = program.expression(pushed, k), float(rhs[k])
        scale = float(np.abs(expression.value).max(initial=0.0)) or 1.0
        program.at_most(expression, limit, VIOLATION_LOOSENED * (1 + abs(limit - expression.constant) / scale))
        if k == 0:
            for column, cost in zip(expression.index.tolist(), (expression.value / scale).tolist(), strict=True):
                solver.changeColCost(column, cost)
    if (solver.getNumCol(), solver.getNumRow()) != (program.count, program.rows):
        return Answer("open")  # something was refused: the program is not what it should be
    solver.HandleUserInterrupt = True
    started(solver)
    solver.run()
    return read_answer(solver, program.entries[0])


def read_answer(solver: highspy.Highs, inputs: Entries) -> Answer:
    status = solver.getModelStatus()
    if status == highspy.HighsModelStatus.kInfeasible:
        return Answer("infeasible")
    if solver.getInfo().primal_solution_status == highspy.SolutionStatus.kSolutionStatusFeasible:
        solution = np.append(np.array(solver.getSolution().col_value), 0.0)  # the last one for inputs without variable
        return Answer("feasible", torch.from_numpy(inputs.middle + inputs.radius * solution[inputs.variable]))
    early = status in (highspy.HighsModelStatus.kTimeLimit, highspy.HighsModelStatus.kInterrupt)
    return Answer("stopped" if early else "open")


def add_splits(graph: Graph, program: Program, z: int, splits: Splits, known: Mapping[int, Tensor]) -> None:
    """``sign * (z - point) <= 0``."""
    sign, point = splits.sign[z][0].flatten(), splits.point[z][0].flatten()
    index = sign.nonzero().flatten()
    rows = one_hot_rows(index, graph.nodes[z].shape, point) * sign[index].reshape(
        1, -1, *[1] * len(graph.nodes[z].shape)
    )
    pushed = push(graph, {z: rows}, {}, {}, lambda a: graph.nodes[a].operator.bounded, sizes=known)
    for k, limit in enumerate((sign * point)[index].tolist()):
        program.at_most(program.expression(pushed, k), limit)


def add_relus(graph: Graph, program: Program, i: int, values: list[Interval], known: Mapping[int, Tensor]) -> None:
    """Variables and constraints of all ReLUs of node i."""
    node = graph.nodes[i]
    operator = node.operator
    assert isinstance(operator, ReLU)
    z = node.arguments[0]
    lower, upper = (end[0].reshape(-1) for end in values[z])
    leak = operator.leak
    needed = torch.arange(node.size) if leak else (upper > 0).nonzero().flatten()
    start = {z: one_hot_rows(needed, graph.nodes[z].shape, lower)}
    pushed = push(graph, start, {}, {}, lambda a: graph.nodes[a].operator.bounded, sizes=known)
    below = [program.expression(pushed, k) for k in range(len(needed))]
    # Bounds may be off by rounding of what they were computed from.
    pad = ROUNDING * np.array([e.size for e in below])
    l, u = lower[needed].numpy() - pad, upper[needed].numpy() + pad  # noqa: E741
    mine = program.between(np.where(l < 0, leak * l, l), np.where(u > 0, u, leak * u))
    for k, argument in enumerate(below):
        own = np.array([mine.variable[k]]), np.array([mine.radius[k]])
        y = Expression(*(own if mine.variable[k] >= 0 else (own[0][:0], own[1][:0])), float(mine.middle[k]),
                       abs(float(mine.middle[k])) + float(mine.radius[k]))  # fmt: skip
        add_relu(program, y, argument, float(l[k]), float(u[k]), leak)
    entries = Entries(np.full(node.size, -1), np.zeros(node.size), np.zeros(node.size))
    for all_of_them, some in zip(entries, mine, strict=True):
        all_of_them[needed.numpy()] = some
    program.entries[i] = entries


def add_relu(program: Program, y: Expression, z: Expression, lower: float, upper: float, leak: float) -> None:
    """``y = max(z, leak * z)`` for z between its bounds."""
    if lower >= 0 or upper <= 0:
        slope = 1.0 if lower >= 0 else leak
        program.at_most(y.plus(z, -slope))
        program.at_most(replace(y, value=-y.value, constant=-y.constant).plus(z, slope))
        return
    active = program.binary()
    negated = replace(y, value=-y.value, constant=-y.constant)
    program.at_most(negated.plus(z, 1.0))
    if leak:
        program.at_most(negated.plus(z, leak))
    # y <= z - (1 - leak) lower (1 - active), y <= leak z + (1 - leak) upper active
    room = (1 - leak) * lower
    program.at_most(y.plus(z, -1.0).plus(active, -room), -room)
    program.at_most(y.plus(z, -leak).plus(active, -(1 - leak) * upper))
