"""Choosing a split: the entries with the best scores are tried by bounding both halves (filtered smart branching).

Without optimisation, from the parent's slopes and multipliers (arXiv:2104.06718, section 3.3). A half differs from its
parent in the lines of one neuron. Where nothing else follows from a split, all halves of a domain are rows of one pass,
which have the lines of all other neurons in common.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from lirpa_verify.bounds.alpha_crown import between, bound, slopes_at
from lirpa_verify.bounds.collapse import collapsible
from lirpa_verify.operators.base import Interval, Lines, Operator, Slopes
from lirpa_verify.search.costliest import scored
from lirpa_verify.search.domains import Domains
from lirpa_verify.search.roots import Task
from lirpa_verify.search.split_domains import images, split

CANDIDATES = 8  # entries per domain that are tried
ROWS_ENTRIES = 2**22  # of the rows of all domains at the widest node


@torch.no_grad()
def choose(task: Task, domains: Domains) -> Tensor:
    """Per domain an entry of the layout to split, or -1 where no relaxation has a gap."""
    found = scored(task, domains)
    if found is None:
        return torch.full_like(domains.root, -1)
    before, score = found
    best = score.topk(min(CANDIDATES, score.shape[1]), dim=1)
    entries = torch.where(best.values > 0, best.indices, best.indices[:, :1])
    margins = margins_by_rows if separate(task) else margins_by_domains
    halves = torch.cat(list(margins(task, domains, entries)), 1)  # (batch, candidates, halves)
    gains = (halves - before.unsqueeze(2)).clamp(min=1e-9).log().sum(2)
    entry = entries.gather(1, gains.argmax(1, keepdim=True))[:, 0]
    return torch.where(best.values[:, 0] > 0, entry, -1)


def separate(task: Task) -> bool:
    """Whether a split changes nothing but the lines of functions of the neuron."""
    graph, nodes = task.graph, task.layout.nodes
    return 0 not in nodes and collapsible(graph) and not any(images(graph, z) for z in nodes)


def margins_by_domains(task: Task, domains: Domains, entries: Tensor) -> Iterator[Tensor]:
    """Margins of both halves at each of the entries (batch, candidates): (batch, 1, halves) each."""
    for entry in entries.unbind(1):
        children = split(task.graph, task.layout, domains, entry)
        margin, _ = bound(task.graph, task.target(children), children.parameters())
        yield torch.stack(margin[:, 0].chunk(2), 1).unsqueeze(1)


def margins_by_rows(task: Task, domains: Domains, entries: Tensor) -> Iterator[Tensor]:
    """As `margins_by_domains`, for several entries at once, where splits are separate.

    An earlier split of an entry stays a constraint, with its multiplier.
    """
    graph, target, parameters = task.graph, task.target(domains), domains.parameters()
    slopes = slopes_at(graph, target.intervals, parameters.positions)
    lines = {}
    for u, at in slopes.items():
        relaxed = graph.nodes[u].operator.relaxation(target.intervals[graph.nodes[u].arguments[0]], at)
        assert relaxed is not None
        lines[u] = relaxed
    room = max(1, ROWS_ENTRIES // (2 * len(domains) * max(node.size for node in graph.nodes[1:])))
    for part in entries.split(room, 1):
        changed = dict(lines)
        for z, pairs, where in task.layout.locate(part.flatten()):
            who, which = pairs // part.shape[1], pairs % part.shape[1]
            interval = target.intervals[z]
            picked = Interval(*(end.flatten(1)[who, where].unsqueeze(0) for end in interval))
            for u in graph.users[z]:
                if u in lines:
                    position = Slopes(*(p.flatten(2)[who, :, where].mT.unsqueeze(0) for p in parameters.positions[u]))
                    halves = halves_lines(graph.nodes[u].operator, picked, position)
                    changed[u] = with_rows(lines[u], halves, who, 2 * which, where, 2 * part.shape[1])
        margin, _ = bound(graph, target, parameters, (), changed)
        yield margin.expand(-1, 2 * part.shape[1]).unflatten(1, (-1, 2))


def halves_lines(operator: Operator, interval: Interval, position: Slopes) -> tuple[Lines, Lines]:
    """Lines of a function on both halves of intervals (1, entries) at the same positions (1, 1, entries)."""
    point = operator.split_point(interval)
    point = torch.minimum(torch.maximum(point, interval.lower), interval.upper)
    found = []
    for half in (Interval(interval.lower, point), Interval(point, interval.upper)):
        limits = operator.slope_range(half)
        lines = operator.relaxation(half, None if limits is None else between(position, limits))
        assert lines is not None
        found.append(lines)
    return found[0], found[1]


def with_rows(lines: Lines, halves: tuple[Lines, Lines], who: Tensor, row: Tensor, where: Tensor, rows: int) -> Lines:
    """Lines (batch, 1, *node) for so many rows; from `row` on the halves' lines hold for an entry each."""

    def changed(field: Tensor, first: Tensor, second: Tensor) -> Tensor:
        field = field.expand(len(lines.upper), rows, *lines.upper.shape[2:]).clone()
        field.flatten(2)[who, row, where] = first.flatten()
        field.flatten(2)[who, row + 1, where] = second.flatten()
        return field

    low, high = halves
    lower, upper = changed(lines.lower, low.lower, high.lower), changed(lines.upper, low.upper, high.upper)
    above, below = changed(lines.upper_offset, low.upper_offset, high.upper_offset), lines.lower_offset
    if not lines.through_zero:
        below = changed(below, low.lower_offset, high.lower_offset)
    finite = lines.finite and low.finite and high.finite
    return Lines(lower, below, upper, above, finite, lines.through_zero)
