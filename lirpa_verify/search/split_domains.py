"""Cutting domains of an activation split in two."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from lirpa_verify.bounds.interval import interval_step
from lirpa_verify.bounds.rounding import intersect, single
from lirpa_verify.graph.graph import Graph
from lirpa_verify.operators.base import Interval
from lirpa_verify.search.branching import Layout, splitter
from lirpa_verify.search.domains import Domains, Key


def split(graph: Graph, layout: Layout, domains: Domains, entry: Tensor) -> Domains:
    """Lower halves of all domains, then their upper halves, at one entry of the layout each."""
    changes: dict[Key, Tensor] = {key: torch.cat([value, value]) for key, value in domains.fields.items()}
    batch = len(domains)
    for z, who, where in layout.locate(entry):
        interval = Interval(domains.fields["lower", z][who], domains.fields["upper", z][who])
        point = pick(graph.nodes[splitter(graph, z)].operator.split_point(interval), where)
        point = torch.minimum(torch.maximum(point, pick(interval.lower, where)), pick(interval.upper, where))
        for side, end, sign in ((0, "upper", 1.0), (batch, "lower", -1.0)):
            for name, value in ((end, point), ("point", point), ("sign", sign)):
                changes[name, z].flatten(1)[who + side, where] = value
        both = torch.cat([who, who + batch])
        for i, chain in images(graph, z):
            tighter = image(graph, chain, Interval(changes["lower", z][both], changes["upper", z][both]))
            known = Interval(changes["lower", i][both], changes["upper", i][both])
            changes["lower", i][both], changes["upper", i][both] = intersect(known, tighter)
    return Domains(changes)


def images(graph: Graph, z: int) -> list[tuple[int, tuple[int, ...]]]:
    """Bounded nodes that are exact images of node z, each with the nodes that lead from z to it."""
    found = []
    for i in graph.bounded:
        chain = [i]
        while chain[-1] != z and graph.nodes[chain[-1]].operator.exact_image:
            chain += graph.nodes[chain[-1]].arguments
        if chain[-1] == z and i != z:
            found.append((i, tuple(reversed(chain[:-1]))))
    return found


def image(graph: Graph, chain: tuple[int, ...], interval: Interval) -> Interval:
    """The interval of the chain's last node, computed in double precision, in that of the argument."""
    found = Interval(interval.lower.double(), interval.upper.double())
    for i in chain:
        node = graph.nodes[i]
        found = interval_step(replace(node, arguments=(0,)), [found])
    return found if interval.lower.dtype == torch.float64 else single(found)


def pick(values: Tensor, where: Tensor) -> Tensor:
    return values.flatten(1)[torch.arange(len(where), device=where.device), where]


def feasible(domains: Domains) -> Tensor:
    """Domains whose intervals are not empty."""
    flags = torch.ones(len(domains), dtype=torch.bool, device=domains.margin.device)
    for lower, upper in domains.intervals().values():
        flags &= ~(lower > upper).flatten(1).any(1)  # an end that is not a number excludes nothing
    return flags
