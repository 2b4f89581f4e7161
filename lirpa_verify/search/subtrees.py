"""Open domains of an activation split as a few subtrees, and what all domains of one have in common.

The splits that lead to a subtree are constraints in all of it, and so is the hull of its domains' intervals.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lirpa_verify.bounds.alpha_crown import Splits
from lirpa_verify.bounds.rounding import intersect
from lirpa_verify.operators.base import Interval
from lirpa_verify.search.branching import Layout
from lirpa_verify.search.domains import Domains


def subtrees(layout: Layout, domains: Domains, count: int) -> list[Tensor]:
    """Indices of the domains of each subtree: about `count` of one root's, those with most domains divided first."""
    signs = torch.cat([domains.fields["sign", z].flatten(1) for z in layout.nodes], 1)
    groups = [torch.arange(len(domains), device=signs.device)]
    while len(groups) < count:
        largest = max(range(len(groups)), key=lambda k: len(groups[k]))
        index = groups[largest]
        mine = signs[index]
        above = (mine > 0).sum(0)
        shared = (mine != 0).all(0) & (above > 0) & (above < len(index))  # at the least where the subtree was split
        if not bool(shared.any()):
            break
        entry = torch.where(shared, torch.minimum(above, len(index) - above), -1).argmax()
        groups[largest : largest + 1] = [index[mine[:, entry] > 0], index[mine[:, entry] < 0]]
    return groups


def common_splits(layout: Layout, domains: Domains) -> Splits:
    """Constraints (1, *node) that hold in all domains; the weakest of several on one entry."""
    found = Splits({}, {})
    for z in layout.nodes:
        sign, point = domains.fields["sign", z], domains.fields["point", z]
        same = (sign == sign[:1]).all(0, keepdim=True)
        sign = torch.where(same, sign[:1], 0.0)
        found.sign[z] = sign.double()
        found.point[z] = torch.where(sign > 0, point.amax(0, keepdim=True), point.amin(0, keepdim=True)).double()
    return found


def hull(domains: Domains, values: Sequence[Interval]) -> list[Interval]:
    """Bounds of all nodes in any of the domains, from bounds of them over the box."""
    found = list(values)
    for i, (lower, upper) in domains.intervals().items():
        around = Interval(lower.amin(0, keepdim=True).double(), upper.amax(0, keepdim=True).double())
        found[i] = intersect(values[i], around)
    return found
