"""Which neuron to split: where the relaxation costs the bound most, checked by bounding both halves.

The score of a neuron is its coefficient in the bound times the gap of the line that the
coefficient's sign selects: what could be gained if its relaxation were exact (in the spirit of
BaBSR, arXiv:1909.06588, for any element-wise function). The best few are then tried by bounding
both children without optimisation (filtered smart branching, arXiv:2104.06718).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from lirpa_verify.graph.graph import Graph
from lirpa_verify.operators.base import Interval, Slopes


@dataclass(frozen=True)
class Layout:
    """The splittable nodes and where their entries start when all are joined."""

    nodes: tuple[int, ...]
    start: tuple[int, ...]
    size: tuple[int, ...]

    def locate(self, entry: Tensor) -> list[tuple[int, Tensor, Tensor]]:
        """Per node: which domains chose it, and which of its entries."""
        found = []
        for node, start, size in zip(self.nodes, self.start, self.size, strict=True):
            mine = ((entry >= start) & (entry < start + size)).nonzero().flatten()
            if len(mine):
                found.append((node, mine, entry[mine] - start))
        return found


def splittable(graph: Graph) -> Layout:
    """Arguments of element-wise nonlinear operators that depend on the input."""
    nodes = sorted(
        {
            node.arguments[0]
            for node in graph.nodes
            if node.operator.bounded and node.operator.splittable
            and graph.depends_on_input[node.arguments[0]]
        }
    )  # fmt: skip
    sizes = [graph.nodes[i].size for i in nodes]
    starts = [sum(sizes[:k]) for k in range(len(sizes))]
    return Layout(tuple(nodes), tuple(starts), tuple(sizes))


def splitter(graph: Graph, z: int) -> int:
    """The nonlinear operator at whose break point the node is split."""
    return next(u for u in graph.users[z] if graph.nodes[u].operator.splittable)


def scores(
    graph: Graph,
    layout: Layout,
    intervals: Mapping[int, Interval],
    slopes: Mapping[int, Slopes],
    coefficients: Mapping[int, Tensor],
) -> Tensor:
    """(batch, entries): how much of the bound each entry's relaxation may cost; 0 only where none has a gap.

    Where optimised slopes would leave no cost but the bound proves nothing yet, any gap counts.
    """
    costly = costs(graph, layout, intervals, slopes, coefficients, optimised=True)
    free = costly.amax(1) <= 0
    if bool(free.any()):
        every = costs(graph, layout, intervals, slopes, coefficients, optimised=False)
        costly = torch.where(free.unsqueeze(1), every, costly)
    return costly


def costs(
    graph: Graph,
    layout: Layout,
    intervals: Mapping[int, Interval],
    slopes: Mapping[int, Slopes],
    coefficients: Mapping[int, Tensor],
    optimised: bool,
) -> Tensor:
    """(batch, entries): coefficients times gaps, those that optimised slopes leave or all of them."""
    batch = next(iter(intervals.values())).lower.shape[0]
    columns = []
    for z, size in zip(layout.nodes, layout.size, strict=True):
        total = torch.zeros(batch, size, dtype=intervals[z].lower.dtype, device=intervals[z].lower.device)
        for user in graph.users[z]:
            rows, operator = coefficients.get(user), graph.nodes[user].operator
            gaps_of = operator.costly_gaps if optimised else operator.gaps
            gaps = gaps_of(intervals[z], slopes.get(user)) if rows is not None else None
            if rows is None or gaps is None:
                continue
            cost = rows.clamp(min=0) * gaps[0] - rows.clamp(max=0) * gaps[1]
            total = total + cost.sum(1).flatten(1)
        columns.append(total)
    return torch.nan_to_num(torch.cat(columns, 1), posinf=0)
