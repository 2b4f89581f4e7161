"""The neurons that a bound pays most for: their relaxations are those worth tightening for its sake."""

from __future__ import annotations

import torch
from torch import Tensor

from lirpa_verify.bounds.alpha_crown import bound, slopes_at
from lirpa_verify.search.branching import scores
from lirpa_verify.search.domains import Domains
from lirpa_verify.search.roots import Task


@torch.no_grad()
def costliest(task: Task, domain: Domains, most: int) -> dict[int, Tensor]:
    """Of every node that is split, at most so many entries (k,) that cost the bound of a single domain anything."""
    graph, layout = task.graph, task.layout
    target, parameters = task.target(domain), domain.parameters()
    users = tuple(u for z in layout.nodes for u in graph.users[z] if graph.nodes[u].operator.splittable)
    _, linear = bound(graph, target, parameters, users)
    slopes = slopes_at(graph, target.intervals, parameters.positions)
    score = scores(graph, layout, target.intervals, slopes, linear.watched)[0]
    found = {}
    for z, part in zip(layout.nodes, score.split(layout.size), strict=True):
        best = part.topk(min(most, len(part)))
        found[z] = best.indices[best.values > 0]
    return found
