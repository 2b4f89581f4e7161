"""Properties of outputs behind a ReLU as properties of its arguments, which are linear there.

With y = max(z, 0), a > 0 and r >= 0, ``a y_i <= b y_j + r`` holds exactly where ``a z_i <= r`` or
``a z_i <= b z_j + r``: if a z_i is above r >= 0, then a y_i = a z_i, and a z_i - r > 0 is at most b y_j exactly where
it is at most b z_j. What is left of the ReLU is a case of its own, that z_i is not above r / a, and is one for all
comparisons with y_i. As a split of the ReLU within each of them it would have no row that guides a proof.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from lirpa_verify.graph.ending import ending, without
from lirpa_verify.graph.graph import Graph
from lirpa_verify.operators.relu import ReLU
from lirpa_verify.search.specification import Problem, Specification


def unrectified(graph: Graph, problem: Problem) -> tuple[Graph, Problem]:
    """The same violations, without the ReLU at the end of the network, if there is one and that is possible."""
    last = rectifier(graph)
    specification = None if last is None else before_relu(problem.specification)
    if last is None or specification is None:
        return graph, problem
    return without(graph, last), replace(problem, specification=specification)


def rectifier(graph: Graph) -> int | None:
    """The ReLU that all outputs come from, and nothing else."""
    i = ending(graph)
    operator = None if i is None else graph.nodes[i].operator
    return i if isinstance(operator, ReLU) and operator.leak == 0 else None


def before_relu(specification: Specification) -> Specification | None:
    """Rows over the arguments; None where a disjunct has several rows, or one that is no comparison."""
    rows = specification.rows
    used = rows[rows >= 0].unique()
    if specification.input is not None or rows.shape[2] > 1 or not bool(comparable(specification)[used].all()):
        return None
    # Rows as they are, then without their negative coefficients: where no output is above the right-hand side.
    count = len(specification.kind)
    compares = (specification.output > 0).any(1) & (specification.output < 0).any(1)
    alone = torch.where(compares[specification.kind[rows.clamp(min=0)]] & (rows >= 0), rows + count, -1)
    both = Specification(
        torch.cat([specification.output, specification.output.clamp(min=0)]),
        None,
        torch.cat([specification.kind, specification.kind + len(specification.output)]),
        torch.cat([specification.rhs, specification.rhs]),
        torch.cat([rows, alone], 1),
    )
    return without_repetition(both)


def comparable(specification: Specification) -> Tensor:
    """(rows,) whether a row compares outputs in a way that holds for arguments, too."""
    positive, negative = ((specification.output * side > 0).sum(1)[specification.kind] for side in (1, -1))
    compares = (positive == 1) & (negative <= 1) & (specification.rhs >= 0)
    return compares | ((positive == 0) & (negative == 1) & (specification.rhs < 0))


def without_repetition(specification: Specification) -> Specification:
    """Rows that are the same are one, and disjuncts of one such row that a box has several times."""
    output, kind = specification.output.unique(dim=0, return_inverse=True)
    table = torch.stack([kind[specification.kind].double(), specification.rhs], 1)
    table, number = table.unique(dim=0, return_inverse=True)
    rows = specification.rows[..., 0]
    rows = torch.where(rows >= 0, number[rows.clamp(min=0)], -1).sort(1, descending=True).values
    repeated = torch.zeros_like(rows, dtype=torch.bool)
    repeated[:, 1:] = rows[:, 1:] == rows[:, :-1]
    rows = rows.masked_fill(repeated, -1).sort(1, descending=True).values
    rows = rows[:, (rows >= 0).any(0)]
    return Specification(output, None, table[:, 0].long(), table[:, 1], rows.unsqueeze(2))
