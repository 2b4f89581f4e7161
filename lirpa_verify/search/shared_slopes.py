"""Bounds under the assumption that a root is violated, with the slopes and multipliers that the root's own bound has.

`output_constraint.py` optimises slopes for every entry z. But where a bound leans on the constraint, what counts is how
the constraint's row gets through the network, and for that the root's own slopes are the best already. So
``z + g (row - rhs)``, which is at most z at a violation, is bounded with these for a few shares g: without gradients,
and with the same relaxations for all rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lirpa_verify.bounds.alpha_crown import Parameters, Target, bound
from lirpa_verify.bounds.crown import one_hot_rows, with_negated
from lirpa_verify.bounds.optimised_nodes import gain
from lirpa_verify.bounds.rounding import outward, single, with_entries
from lirpa_verify.operators.base import Interval
from lirpa_verify.search.domains import Domains
from lirpa_verify.search.output_constraint import nothing_in, propagated
from lirpa_verify.search.roots import Task

SHARES = (0.07, 0.1, 0.14, 0.2, 0.4, 1.0)  # of the constraint, in units of an entry's width for what the root lacks
FIRST = 1  # place of the share from which, and the next, the others are tried: small ones are best most often
SMALLEST_LACK = 1e-9
LEAST_NARROWED = 0.08  # share of the entries' widths that has to go for the nodes below to be tried


@torch.no_grad()
def assume_with_slopes(task: Task, domain: Domains, entries: Mapping[int, Tensor]) -> list[Interval] | None:
    """One sweep over some entries (k,) of nodes, from the output downwards.

    Args:
        task: in double precision, with one root of one row.
        domain: the root's, with the slopes and multipliers of its bound, which is not above 0.
        entries: of nodes, those that are bounded.

    Returns:
        Bounds of the nodes that hold at every violation; None where there is none.
    """
    exact, guess = Shared(task, domain.parameters()), Shared(task.single(), domain.single().parameters())
    values = list(task.nodes)
    for i in sorted(entries, reverse=True):
        index = entries[i]
        if len(index) == 0:
            continue
        lower, upper = (end.flatten(1)[:, index] for end in values[i])
        unit = (upper - lower).repeat(1, 2) / max(-float(domain.margin), SMALLEST_LACK)
        rows = with_negated(one_hot_rows(index, task.graph.nodes[i].shape, lower))
        nodes = [single(value) for value in values]
        margins = torch.cat([lower, -upper], 1)
        best, place = best_shares(guess, nodes, i, rows.float(), unit.float())
        useful = (best > margins[0]).nonzero().flatten()  # others gain nothing
        if len(useful):
            share = unit.new_tensor(SHARES)[place[useful]] * unit[:, useful]
            margins[:, useful] = exact.margins(values, i, rows[:, useful], share)
        found = with_entries(values[i], index, outward(Interval(margins[:, : len(index)], -margins[:, len(index) :])))
        gained = gain(values[i], found, index)
        values[i] = found
        if nothing_in([found]):
            return None
        if gained < LEAST_NARROWED:
            break
    return propagated(task.graph, values)


def best_shares(guess: Shared, values: Sequence[Interval], i: int, rows: Tensor, unit: Tensor) -> tuple[Tensor, Tensor]:
    """The best margin of every row over `SHARES`, and which share it has: (rows,) each.

    With relaxations that are the same for all shares a bound is the least value of a linear program whose objective
    is linear in the share, so it is concave in it: from two neighbouring shares a row climbs as long as it gains.
    """

    def at(place: int, index: Tensor) -> Tensor:
        return guess.margins(values, i, rows[:, index], SHARES[place] * unit[:, index])[0]

    every = torch.arange(rows.shape[1], device=rows.device)
    left, right = at(FIRST, every), at(FIRST + 1, every)
    best, place = torch.maximum(left, right), torch.where(right > left, FIRST + 1, FIRST)
    for start, step in ((FIRST + 1, 1), (FIRST, -1)):
        climbing = (place == start).nonzero().flatten()
        for k in range(start + step, len(SHARES) if step > 0 else -1, step):
            if len(climbing) == 0:
                break
            found = at(k, climbing)
            better = found > best[climbing]
            climbing = climbing[better]
            best[climbing], place[climbing] = found[better], k
    return best, place


@dataclass(frozen=True)
class Shared:
    """What a root's own bound was computed with."""

    task: Task
    parameters: Parameters

    def margins(self, values: Sequence[Interval], i: int, rows: Tensor, share: Tensor) -> Tensor:
        """Lower bounds (1, rows) of rows of node i at violations, each with a share (1, rows) of the constraint."""
        task = self.task
        start = {i: rows}
        for j, row in task.roots.start.items():
            part = spread(share, row)
            start[j] = start[j] + part if j in start else part
        cuts = task.cuts.on(range(len(values)))
        multipliers = {z: spread(share, self.parameters.multipliers[z]) for z in cuts.sign}
        target = Target(start, share * task.roots.rhs, values[0], dict(enumerate(values)), cuts, task.sizes)
        return bound(task.graph, target, Parameters(self.parameters.positions, multipliers))[0]


def spread(share: Tensor, row: Tensor) -> Tensor:
    """(1, rows) shares of a row (1, 1, *node)."""
    return share.reshape(*share.shape, *[1] * (row.dim() - 2)) * row
