"""Small piecewise-linear networks as mixed-integer linear programs (arXiv:1711.07356), solved by HiGHS.

Every ReLU whose sign is not known becomes a binary variable between its bounds; everything linear
between ReLUs is written out by pushing rows down to the ReLUs below. The program asks for a violation
of one disjunct: it is infeasible where there is none. Rows are loosened by more than the solver's
feasibility tolerance, so that what counts as infeasible is so by a margin.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import highspy
import numpy as np
import torch
from torch import Tensor

from lirpa_verify.bounds.crown import one_hot_rows, push
from lirpa_verify.deadline import Deadline
from lirpa_verify.graph.graph import Graph
from lirpa_verify.operators.base import Interval
from lirpa_verify.operators.relu import ReLU

TOLERANCE = 1e-9  # feasibility tolerance asked of the solver
LOOSENED = 1e-6  # by how much constraints of the violation are loosened, relative to their size


@dataclass(frozen=True)
class Answer:
    verdict: Literal["infeasible", "feasible", "open"]
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


@dataclass
class Program:
    """A program under construction: variables of the input and of every ReLU that is not always 0."""

    solver: highspy.Highs
    columns: dict[int, np.ndarray]  # per node (entries,): the variable of each entry, -1 for always 0
    count: int = 0

    def variable(self, lower: float, upper: float) -> int:
        self.solver.addVar(lower, upper)
        self.count += 1
        return self.count - 1

    def binary(self) -> int:
        index = self.variable(0.0, 1.0)
        self.solver.changeColIntegrality(index, highspy.HighsVarType.kInteger)
        return index

    def expression(self, coefficients: Mapping[int, Tensor], row: int) -> tuple[np.ndarray, np.ndarray]:
        """Variables and coefficients of one pushed row."""
        index, value = [], []
        for node, rows in coefficients.items():
            flat = rows[0, row].reshape(-1).numpy()
            columns = self.columns[node]
            used = (flat != 0) & (columns >= 0)
            index.append(columns[used])
            value.append(flat[used])
        joined = np.concatenate(index).astype(np.int32) if index else np.empty(0, np.int32)
        return joined, np.concatenate(value) if value else np.empty(0)

    def row(self, lower: float, upper: float, index: np.ndarray, value: np.ndarray) -> None:
        self.solver.addRow(lower, upper, len(index), index, value)


def solve(
    graph: Graph, values: list[Interval], rows: Mapping[int, Tensor], rhs: Tensor, deadline: Deadline, threads: int = 0
) -> Answer:
    """Looks for a point of the box with ``<rows, node> <= rhs`` for all rows.

    Args:
        graph: a network for which `encodable` holds, in float64 on the CPU.
        values: bounds of every node over one box (batch 1).
        rows: coefficients ``(1, conjuncts, *node)`` at the output (and the input).
        rhs: ``(conjuncts,)``.
        deadline: when to give up.
        threads: for the solver; 0 leaves the choice to it.
    """
    solver = highspy.Highs()
    for option, setting in (("output_flag", False), ("threads", threads), ("time_limit", max(0.1, deadline.remaining())),
                          ("primal_feasibility_tolerance", TOLERANCE), ("mip_feasibility_tolerance", TOLERANCE),
                          ("mip_max_improving_sols", 1)):  # fmt: skip
        solver.setOptionValue(option, setting)
    program = Program(solver, {})
    low, high = values[0].lower[0], values[0].upper[0]
    program.columns[0] = np.array([program.variable(float(a), float(b)) for a, b in zip(low, high, strict=True)])
    for i in sorted(graph.ancestors[graph.output]):
        if isinstance(graph.nodes[i].operator, ReLU):
            add_relus(graph, program, i, values)
    pushed = push(graph, rows, {}, {}, lambda a: graph.nodes[a].operator.bounded)
    for k in range(len(rhs)):
        index, value = program.expression(pushed.coefficients, k)
        limit = float(rhs[k]) - float(pushed.offset[0, k])
        slack = LOOSENED * (1 + abs(limit) + float(np.abs(value).max(initial=0.0)))
        program.row(-highspy.kHighsInf, limit + slack, index, value)
        if k == 0:
            for column, cost in zip(index.tolist(), value.tolist(), strict=True):
                solver.changeColCost(column, cost)
    solver.run()
    return read_answer(solver, graph.n_inputs)


def read_answer(solver: highspy.Highs, n_inputs: int) -> Answer:
    status = solver.getModelStatus()
    if status == highspy.HighsModelStatus.kInfeasible:
        return Answer("infeasible")
    if solver.getInfo().primal_solution_status == highspy.SolutionStatus.kSolutionStatusFeasible:
        return Answer("feasible", torch.tensor(solver.getSolution().col_value[:n_inputs], dtype=torch.float64))
    return Answer("open")


def add_relus(graph: Graph, program: Program, i: int, values: list[Interval]) -> None:
    """Variables and constraints of all ReLUs of node i."""
    node = graph.nodes[i]
    operator = node.operator
    assert isinstance(operator, ReLU)
    z = node.arguments[0]
    lower, upper = (end[0].reshape(-1) for end in values[z])
    leak = operator.leak
    needed = torch.arange(node.size) if leak else (upper > 0).nonzero().flatten()
    columns = np.full(node.size, -1)
    pushed = push(
        graph, {z: one_hot_rows(needed, graph.nodes[z].shape, lower)}, {}, {}, lambda a: graph.nodes[a].operator.bounded
    )
    for k, entry in enumerate(needed.tolist()):
        l, u = float(lower[entry]), float(upper[entry])  # noqa: E741
        index, value = program.expression(pushed.coefficients, k)
        offset = float(pushed.offset[0, k])
        y = program.variable(leak * l if l < 0 else l, u if u > 0 else leak * u)
        columns[entry] = y
        with_y = np.append(index, y).astype(np.int32)
        if l >= 0 or u <= 0:
            slope = 1.0 if l >= 0 else leak
            program.row(slope * offset, slope * offset, with_y, np.append(-slope * value, 1.0))
            continue
        a = program.binary()
        with_both = np.append(with_y, a).astype(np.int32)
        # y >= z, y >= leak z, y <= z - (1 - leak) l (1 - a), y <= leak z + (1 - leak) u a
        program.row(offset, highspy.kHighsInf, with_y, np.append(-value, 1.0))
        if leak:
            program.row(leak * offset, highspy.kHighsInf, with_y, np.append(-leak * value, 1.0))
        room = (1 - leak) * l
        program.row(-highspy.kHighsInf, offset - room, with_both, np.append(-value, [1.0, -room]))
        program.row(-highspy.kHighsInf, leak * offset, with_both, np.append(-leak * value, [1.0, -(1 - leak) * u]))
    program.columns[i] = columns
