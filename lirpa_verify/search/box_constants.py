"""What is fixed within every box, though not the same in all, is computed once instead of in every bound.

Queries to learned estimators differ in most of their inputs, of which one or two vary in each query. Whole
branches of the network then see fixed inputs only. Their values become inputs of a smaller network, known up to
rounding.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from lirpa_verify.bounds.interval import interval_step
from lirpa_verify.graph.graph import Graph, Node
from lirpa_verify.graph.simplify import simplify
from lirpa_verify.operators.base import Interval, Linear
from lirpa_verify.operators.constant import Input
from lirpa_verify.operators.embed import Embed
from lirpa_verify.operators.uncertain import Uncertain
from lirpa_verify.search.specification import Problem

WORTHWHILE = 0.75  # of all entries of nodes are left at most
MOST_WIDE = 64  # inputs that vary in some box: of a few, what depends on them is soon found out
CHUNK = 64  # boxes whose constants are computed at once


@torch.no_grad()
def with_box_constants(graph: Graph, problem: Problem) -> tuple[Graph, Problem]:
    """The same problem posed to a smaller network, whose first inputs are those of the network; or as it is.

    Args:
        graph: the network over its varying inputs, in double precision.
        problem: boxes and rows.
    """
    lower, upper = problem.box
    wide = (upper > lower).any(0)
    if (
        len(lower) == 1
        or not 0 < int(wide.sum()) < min(MOST_WIDE, len(wide))
        or not all(bool(torch.isfinite(end).all()) for end in problem.box)
    ):
        return graph, problem
    varies = varying_nodes(graph, wide)
    frontier = sorted(
        {a for j, node in enumerate(graph.nodes) if varies[j] for a in node.arguments if not varies[a]}
        - {a for a in range(len(graph.nodes)) if not graph.depends_on_input[a]}
    )
    left = sum(node.size for node, kept in zip(graph.nodes, varies, strict=True) if kept)
    if not varies[graph.output] or not frontier or left > WORTHWHILE * sum(node.size for node in graph.nodes):
        return graph, problem
    bounds = constants(graph, problem.box, varies, frontier)
    if not all(bool(torch.isfinite(end).all()) for value in bounds for end in value):
        return graph, problem
    middles = [(value.lower + value.upper) / 2 for value in bounds]
    # Rounded up generously: the middle is rounded, and so are the differences.
    radii = [
        ((1 + 1e-9) * torch.maximum(value.upper - middle, middle - value.lower)).amax(0)
        for value, middle in zip(bounds, middles, strict=True)
    ]
    known = torch.cat([middle.flatten(1) for middle in middles], 1)
    box = Interval(torch.cat([lower, known], 1), torch.cat([upper, known], 1))
    specification = problem.specification
    if specification.input is not None:
        padding = specification.input.new_zeros(len(specification.input), known.shape[1])
        specification = replace(specification, input=torch.cat([specification.input, padding], 1))
    small = over_constants(graph, varies, dict(zip(frontier, radii, strict=True)))
    return small, replace(problem, box=box, specification=specification)


def varying_nodes(graph: Graph, wide: Tensor) -> list[bool]:
    """Which nodes depend on inputs that vary within some box."""
    varies = [True]
    steps = torch.eye(len(wide), dtype=torch.float64, device=wide.device)[wide]  # (wide inputs, inputs)
    for node in graph.nodes[1:]:
        if node.arguments == (0,) and isinstance(node.operator, Linear):
            varies.append(bool((node.operator.linear(steps) != 0).any()))
        else:
            varies.append(any(varies[a] for a in node.arguments))
    return varies


def constants(graph: Graph, box: Interval, varies: list[bool], frontier: list[int]) -> list[Interval]:
    """Bounds of nodes that do not vary within boxes, box by box: ``(boxes, *node)`` each."""
    parts: list[list[Interval]] = [[] for _ in frontier]
    for k in range(0, len(box.lower), CHUNK):
        here = Interval(*(end[k : k + CHUNK] for end in box))
        values = [here]
        for node, varying in zip(graph.nodes[1:], varies[1:], strict=True):
            values.append(here if varying else interval_step(node, values))  # no fixed node takes a varying one
        for part, i in zip(parts, frontier, strict=True):
            part.append(Interval(*(end.expand(len(here.lower), *graph.nodes[i].shape) for end in values[i])))
    return [Interval(*(torch.cat([p[side] for p in part]) for side in (0, 1))) for part in parts]


def over_constants(graph: Graph, varies: list[bool], radii: dict[int, Tensor]) -> Graph:
    """The varying nodes over the inputs, followed by the constants' values."""
    n, name = graph.n_inputs, graph.nodes[0].name
    total = n + sum(graph.nodes[i].size for i in radii)

    def taken(start: int, shape: tuple[int, ...], size: int) -> Embed:
        like = next(iter(radii.values()))
        index = torch.arange(start, start + size, device=like.device)
        return Embed(index, torch.zeros(size, dtype=like.dtype, device=like.device), total, shape)

    nodes = [Node(Input(), (), (total,), name), Node(taken(0, (n,), n), (0,), (n,), name)]
    place, start = {0: 1}, n
    for i, radius in radii.items():
        node = graph.nodes[i]
        nodes.append(Node(taken(start, node.shape, node.size), (0,), node.shape, node.name))
        nodes.append(Node(Uncertain(radius), (len(nodes) - 1,), node.shape, node.name))
        place[i], start = len(nodes) - 1, start + node.size
    for j, node in enumerate(graph.nodes[1:], start=1):
        if varies[j] or not graph.depends_on_input[j]:
            nodes.append(replace(node, arguments=tuple(place[a] for a in node.arguments)))
            place[j] = len(nodes) - 1
    return simplify(Graph(tuple(nodes)))
