"""Properties of outputs behind a softmax, a sigmoid or a tanh as properties of its arguments.

All three keep the order of what they are applied to, so ``y_i <= y_j`` holds exactly where ``z_i <= z_j`` does, and
behind a sigmoid or a tanh ``y_i <= c`` exactly where ``z_i`` is at most the argument that has the value c. Nothing
is relaxed then, and descent does not end where the function is flat: the softmax of a confident
network is 0 and 1 in any precision.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from lirpa_verify.graph.ending import ending, places, without
from lirpa_verify.graph.graph import Graph
from lirpa_verify.operators.sigmoid import Sigmoid
from lirpa_verify.operators.softmax import Softmax
from lirpa_verify.operators.tanh import Tanh
from lirpa_verify.search.specification import Problem, Specification

ROUNDING = 2.0**-48  # relative to a threshold's distance from the function's limits: some units in the last place


def unsquashed(graph: Graph, problem: Problem) -> tuple[Graph, Problem]:
    """The same violations, without the function at the end of the network, if there is one and that is possible.

    Where thresholds are rounded they admit more violations.
    """
    last = ending(graph)
    specification = None if last is None else before(graph, last, problem.specification)
    if last is None or specification is None:
        return graph, problem
    return without(graph, last), replace(problem, specification=specification)


def before(graph: Graph, i: int, specification: Specification) -> Specification | None:
    """Rows over the arguments of node i; None where it is no such function, or some row has no counterpart."""
    node = graph.nodes[i]
    if not isinstance(node.operator, (Softmax, Sigmoid, Tanh)) or specification.input is not None:
        return None
    place = places(graph, i)
    if bool((place < 0).any()):
        return None
    if isinstance(node.operator, Softmax):
        compared = compares(specification, place // node.shape[-1])[used(specification)]
        return specification if node.operator.kept is None and bool(compared.all()) else None
    return behind_elementwise(specification, isinstance(node.operator, Tanh))


def behind_elementwise(specification: Specification, tanh: bool) -> Specification | None:
    """Rows over the arguments of a sigmoid or a tanh: comparisons as they are, thresholds moved."""
    compared = compares(specification, torch.zeros_like(specification.output[0], dtype=torch.int64))
    alone = (specification.output != 0).sum(1)[specification.kind] == 1
    factor = specification.output.sum(1)[specification.kind]  # of the rows about one output
    threshold = specification.rhs / torch.where(alone, factor, 1)
    share = (threshold + 1) / 2 if tanh else threshold  # of the way from the lower to the upper limit
    rest = (1 - threshold) / 2 if tanh else 1 - threshold
    within = (torch.minimum(share, rest) > ROUNDING) & alone
    if not bool((compared | within)[used(specification)].all()):
        return None
    share, rest = torch.where(within, share, 0.5), torch.where(within, rest, 0.5)
    scale = 0.5 if tanh else 1.0  # tanh(x) = 2 sigmoid(2 x) - 1
    moved = factor * scale * (share.log() - rest.log())
    error = ROUNDING * factor.abs() * (1 / share + 1 / rest + moved.abs() / factor.abs().clamp(min=1e-300))
    return replace(specification, rhs=torch.where(within, moved + error, specification.rhs))


def used(specification: Specification) -> Tensor:
    """The numbers of the rows that some disjunct has."""
    return specification.rows[specification.rows >= 0].unique()


def compares(specification: Specification, group: Tensor) -> Tensor:
    """(rows,) whether a row says that one output is at most another one of the same group: ``a y_i - a y_j <= 0``.

    Args:
        specification: the rows.
        group: ``(outputs,)`` int64.
    """
    output = specification.output
    two = ((output != 0).sum(1) == 2) & (output.sum(1) == 0)
    same = group[output.argmax(1)] == group[output.argmin(1)]
    return (two & same)[specification.kind] & (specification.rhs == 0)
