"""The neurons that a bound pays most for: their relaxations are those worth tightening for its sake."""

from __future__ import annotations

import torch
from torch import Tensor

from lirpa_verify.bounds.alpha_crown import bound, slopes_at
from lirpa_verify.search.branching import scores
from lirpa_verify.search.domains import Domains
from lirpa_verify.search.roots import Task


@torch.no_grad()
def scored(task: Task, domains: Domains) -> tuple[Tensor, Tensor] | None:
    """Margins (batch, 1) of domains and what every entry's relaxation costs them (batch, entries); None without any."""
    graph, layout = task.graph, task.layout
    target, parameters = task.target(domains), domains.parameters()
    users = tuple(u for z in layout.nodes for u in graph.users[z] if graph.nodes[u].operator.splittable)
    if not users:
        return None
    margin, linear = bound(graph, target, parameters, users)
    slopes = slopes_at(graph, target.intervals, parameters.positions)
    return margin, scores(graph, layout, target.intervals, slopes, linear.watched)


def costliest(task: Task, domain: Domains, most: int) -> dict[int, Tensor]:
    """Of every node that is split, at most so many entries (k,) that cost the bound of a single domain anything."""
    found: dict[int, Tensor] = {}
    known = scored(task, domain)
    if known is None:
        return found
    for z, part in zip(task.layout.nodes, known[1][0].split(task.layout.size), strict=True):
        best = part.topk(min(most, len(part)))
        found[z] = best.indices[best.values > 0]
    return found
