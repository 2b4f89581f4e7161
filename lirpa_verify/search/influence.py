"""Which neurons' relaxations widen the bounds of everything above them most.

The score of a neuron is its coefficient in the bound of a node above, times the largest gap of its relaxation,
relative to the width of that bound, averaged over the undecided entries of the node and summed over
nodes. Splitting such a neuron pays where all bounds are computed again afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from lirpa_verify.bounds.crown import backward, one_hot_rows
from lirpa_verify.bounds.intermediate import undecided_entries
from lirpa_verify.graph.graph import Graph
from lirpa_verify.operators.base import Interval
from lirpa_verify.search.branching import Layout, splitter

ROWS = 256  # entries of a node that stand for all of them


@torch.no_grad()
def influence(
    graph: Graph, layout: Layout, values: Sequence[Interval], start: Mapping[int, Tensor], generator: torch.Generator
) -> Tensor:
    """(entries of the layout,) scores.

    Args:
        graph: the network.
        layout: the entries that can be split.
        values: bounds of all nodes over one box.
        start: coefficients ``(roots, conjuncts, *node)`` of what is to be proved.
        generator: chooses entries of large nodes.
    """
    users = {z: splitter(graph, z) for z in layout.nodes}
    gaps = {z: torch.maximum(*(g.flatten() for g in entry_gaps(graph, u, values[z]))) for z, u in users.items()}
    total = {z: torch.zeros_like(gap) for z, gap in gaps.items()}
    for target, rows in goals(graph, values, start, generator):
        linear = backward(graph, rows, dict(enumerate(values)), watch=tuple(users.values()))
        upper = backward(graph, {i: -r for i, r in rows.items()}, dict(enumerate(values)))
        width = -(linear.lower(values[0]) + upper.lower(values[0]))[0]
        for z, u in users.items():
            if u in linear.watched and u <= target:
                cost = linear.watched[u][0].flatten(1).abs() * gaps[z]
                total[z] += (cost / width.clamp(min=1e-12).unsqueeze(1)).mean(0)
    return torch.nan_to_num(torch.cat([total[z] for z in layout.nodes]), posinf=0.0)


def entry_gaps(graph: Graph, u: int, interval: Interval) -> tuple[Tensor, Tensor]:
    gaps = graph.nodes[u].operator.gaps(interval, None)
    assert gaps is not None  # that is what makes an operator splittable
    return gaps


def goals(
    graph: Graph, values: Sequence[Interval], start: Mapping[int, Tensor], generator: torch.Generator
) -> list[tuple[int, dict[int, Tensor]]]:
    """What is bounded: undecided entries of nodes, and the specification."""
    found: list[tuple[int, dict[int, Tensor]]] = []
    for i in graph.bounded:
        if i == 0 or not graph.depends_on_input[i]:
            continue
        index = undecided_entries(graph, i, values[i])[0].nonzero().flatten()
        if len(index) > ROWS:
            index = index[torch.randperm(len(index), generator=generator)[:ROWS].to(index.device)]
        if len(index):
            found.append((i, {i: one_hot_rows(index, graph.nodes[i].shape, values[0].lower)}))
    rows = {i: r.flatten(0, 1).unsqueeze(0) for i, r in start.items()}
    return [*found, (graph.output, rows)]
