"""Backward bounds of entries of one node, other entries in every box of a batch where that is less work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from lirpa_verify.bounds.crown import Gaps, LinearBound, Pushed, backward, with_negated
from lirpa_verify.bounds.rounding import margin, outward
from lirpa_verify.deadline import Deadline
from lirpa_verify.graph.graph import Graph
from lirpa_verify.operators.base import Interval, Lines, Slopes

OWN_ROW_COST = 1.2  # a row with coefficients of its own costs this much more than one that all boxes share
SMALLEST_GROUP, GROUP_SPREAD = 16, 0.7  # boxes taken together, and how few rows one may want of the most


def tighten_entries(
    work: Work, mask: Tensor, union: Tensor, room: int, lower: Tensor, upper: Tensor, until: Deadline
) -> None:
    """Bounds the entries `union` where `mask` wants them, and takes what is tighter into `lower` and `upper`."""
    batch = len(mask)
    groups = alike(mask[:, union].sum(1))
    if OWN_ROW_COST * sum(len(who) * most for who, most in groups) >= batch * len(union):
        for who in torch.arange(batch, device=mask.device).split(max(1, room // len(union))):
            for which in torch.arange(len(union), device=mask.device).split(max(1, room)):
                if until.passed():
                    return
                bounds = work.bound_all(slice(int(who[0]), int(who[-1]) + 1), which)
                absorb(lower, upper, mask, who.unsqueeze(1), union[which], bounds)
        return
    place = torch.zeros_like(mask[0], dtype=torch.int64)
    place[union] = torch.arange(len(union), device=union.device)
    for members, most in groups:
        for who in members.split(max(1, room // most)):
            # Those that want fewer rows than others of the group have some decided entries bounded too.
            entry = union[mask[who][:, union].to(torch.uint8).argsort(1, descending=True)[:, :most]]
            for part in entry.split(max(1, room), 1):
                if until.passed():
                    return
                absorb(lower, upper, mask, who.unsqueeze(1), part, work.bound_own(who, place[part]))


def alike(count: Tensor) -> list[tuple[Tensor, int]]:
    """Boxes with nearly as many undecided entries, and the most that any of them has."""
    ordered, order = count.sort(descending=True)
    wanting = int((ordered > 0).sum())
    groups, begin = [], 0
    while begin < wanting:
        most = int(ordered[begin])
        end = min(wanting, max(begin + SMALLEST_GROUP, int((ordered > GROUP_SPREAD * most).sum())))
        groups.append((order[begin:end], most))
        begin = end
    return groups


def absorb(lower: Tensor, upper: Tensor, mask: Tensor, who: Tensor, entry: Tensor, bounds: Interval) -> None:
    """Intersects entries of some boxes, in place, with new bounds of them: (boxes, entries).

    Only undecided ones, so that the result for a box does not depend on its companions.
    """
    wanted, low, high = mask[who, entry], lower[who, entry], upper[who, entry]
    lower[who, entry] = torch.where(wanted, torch.fmax(low, bounds.lower), low)
    upper[who, entry] = torch.where(wanted, torch.fmin(high, bounds.upper), high)


@dataclass(frozen=True)
class Work:
    """Backward bounds of entries of node i, their coefficients already pushed through what is linear below it."""

    graph: Graph
    i: int
    box: Interval
    values: list[Interval]
    slopes: Mapping[int, Slopes]
    lines: Mapping[int, Lines]  # of nodes whose relaxation is the same whatever the start
    start: Pushed  # (1, wanted entries, *node)
    sizes: Mapping[int, Tensor]
    gaps: Mapping[int, Gaps] | None = None  # with these, rows of one side bound the other one too
    side: Tensor | None = None  # (wanted entries,) 1 for rows of lower bounds, -1 for those of upper bounds

    def bound_all(self, who: slice, which: Tensor) -> Interval:
        """Bounds of some of the wanted entries in every one of some boxes: (boxes, entries)."""
        start = {a: rows[:, which] for a, rows in self.start.coefficients.items()}
        offset, size = self.start.offset[:, which], self.first_size()[:, which]
        if self.side is not None:
            return self.bound_one_side(start, offset, size, self.side[which].unsqueeze(0), who)
        return self.bound(start, offset, size, who)

    def bound_own(self, who: Tensor, which: Tensor) -> Interval:
        """Bounds of entries ``which`` (boxes, entries) of the wanted ones, other entries in every box."""
        start = {a: rows[0][which] for a, rows in self.start.coefficients.items()}
        offset, size = self.start.offset[0][which], self.first_size()[0][which]
        if self.side is not None:
            return self.bound_one_side(start, offset, size, self.side[which], who)
        return self.bound(start, offset, size, who)

    def first_size(self) -> Tensor:
        """(1, wanted entries): what the first steps have added up, in the box where that is most."""
        return (self.start.size + torch.zeros_like(self.start.offset)).amax(0, keepdim=True)

    def bound(self, start: Mapping[int, Tensor], offset: Tensor, size: Tensor, who: Tensor | slice) -> Interval:
        box, linear = self.backward({a: with_negated(coefficients) for a, coefficients in start.items()}, who)
        bound = linear.lower(box) - margin(linear.magnitude(box))
        half = bound.shape[1] // 2
        pad = margin(size + offset.abs())
        return outward(Interval(bound[:, :half] + offset - pad, offset - bound[:, half:] + pad))

    def bound_one_side(
        self, start: Mapping[int, Tensor], offset: Tensor, size: Tensor, side: Tensor, who: Tensor | slice
    ) -> Interval:
        """Bounds from one row per entry, which is ``side`` (batch or 1, entries) times the entry."""
        rows = {a: c * side.reshape(*side.shape, *[1] * (c.dim() - 2)) for a, c in start.items()}
        box, linear = self.backward(rows, who)
        pad = margin(linear.magnitude(box) + linear.spread) + margin(size + offset.abs())
        low, high = linear.lower(box) - pad, linear.upper(box) + pad
        as_is = side > 0
        return outward(Interval(offset + torch.where(as_is, low, -high), offset + torch.where(as_is, high, -low)))

    def backward(self, rows: Mapping[int, Tensor], who: Tensor | slice) -> tuple[Interval, LinearBound]:
        """The boxes, and linear bounds of the rows over them."""

        def chosen(t: Tensor) -> Tensor:
            return t if t.shape[0] == 1 else t[who]

        below = self.graph.ancestors[self.i]
        needed = {a for b in below if self.graph.nodes[b].operator.bounded for a in self.graph.nodes[b].arguments}
        intervals = {a: Interval(chosen(self.values[a].lower), chosen(self.values[a].upper)) for a in needed}
        slopes = {a: Slopes(chosen(s.lower), chosen(s.upper)) for a, s in self.slopes.items() if a in below}
        lines = {a: r.select(chosen) for a, r in self.lines.items() if a in below}
        known = {a: chosen(s) for a, s in self.sizes.items() if a in below}
        linear = backward(self.graph, rows, intervals, slopes, sizes=known, lines=lines, gaps=self.gaps)
        return Interval(self.box.lower[who], self.box.upper[who]), linear
