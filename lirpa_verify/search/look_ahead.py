"""Choosing a split: the entries with the best scores are tried by bounding both halves (filtered smart branching).

Without optimisation, from the parent's slopes and multipliers (arXiv:2104.06718, section 3.3).
"""

from __future__ import annotations

import torch
from torch import Tensor

from lirpa_verify.bounds.alpha_crown import bound
from lirpa_verify.search.costliest import scored
from lirpa_verify.search.domains import Domains
from lirpa_verify.search.roots import Task
from lirpa_verify.search.split_domains import split

CANDIDATES = 8  # entries per domain that are tried


@torch.no_grad()
def choose(task: Task, domains: Domains) -> Tensor:
    """Per domain an entry of the layout to split, or -1 where no relaxation has a gap."""
    graph, layout = task.graph, task.layout
    found = scored(task, domains)
    if found is None:
        return torch.full_like(domains.root, -1)
    before, score = found
    best = score.topk(min(CANDIDATES, score.shape[1]), dim=1)
    gains = []
    for k in range(best.indices.shape[1]):
        entry = torch.where(best.values[:, k] > 0, best.indices[:, k], best.indices[:, 0])
        children = split(graph, layout, domains, entry)
        margin, _ = bound(graph, task.target(children), children.parameters())
        left, right = (margin - torch.cat([before, before]))[:, 0].clamp(min=1e-9).log().chunk(2)
        gains.append(left + right)
    pick = torch.stack(gains, 1).argmax(1, keepdim=True)
    entry = best.indices.gather(1, pick)[:, 0]
    return torch.where(best.values[:, 0] > 0, entry, -1)
