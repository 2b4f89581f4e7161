"""Bounds of the nodes that feed nonlinear operators, which every linear relaxation needs first.

Intervals are propagated through the whole graph; where a nonlinear operator needs them tighter,
they are intersected with forward or backward linear bounds. Only entries whose relaxation would
change are bounded backwards (a ReLU of known sign needs nothing), and nodes whose interval is
already exact are left alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from lirpa_verify.bounds.crown import Pushed, backward, one_hot_rows, push, with_negated
from lirpa_verify.bounds.forward import concretise, forms_step, input_forms
from lirpa_verify.bounds.interval import interval_step
from lirpa_verify.bounds.rounding import intersect, outward
from lirpa_verify.deadline import Deadline
from lirpa_verify.graph.graph import Graph
from lirpa_verify.operators.base import Interval, Slopes

Method = Literal["ibp", "forward", "crown"]
CHUNK_BYTES = 2**25  # of coefficients alive at one node in a backward pass
NEVER = Deadline(math.inf)
PAIR_COST = 1.5  # a row with relaxations of its own costs this much more than one that shares them


def bound_nodes(
    graph: Graph,
    box: Interval,
    method: Method = "crown",
    known: Mapping[int, Interval] | None = None,
    slopes: Mapping[int, Mapping[int, Slopes]] | None = None,
    until: Deadline = NEVER,
) -> list[Interval]:
    """Bounds of every node, tight at the nodes that nonlinear operators take.

    Args:
        graph: the network.
        box: ``(batch, inputs)`` ends.
        method: what tightens the intervals: nothing, forward or backward linear bounds.
        known: bounds of some nodes that hold as well (of a parent box, say).
        slopes: free slopes per start node and nonlinear node, for `method` crown.
        until: when to be content with interval bounds for what is left.

    Returns:
        One interval per node, ``(batch or 1, *node)``.
    """
    known = known or {}
    slopes = slopes or {}
    values, forms = [box], [input_forms(graph, box)] if method == "forward" else []
    bounded = set(graph.bounded)
    defaults: dict[int, Slopes] = {}
    for i, node in enumerate(graph.nodes[1:], start=1):
        value = interval_step(node, values)
        if i in known:
            value = intersect(value, known[i])
        if method == "forward":
            forms.append(forms_step(graph, i, forms, values, box))
        wanted = i in bounded and not graph.exact_interval[i] and graph.depends_on_input[i]
        if wanted and method == "forward":
            value = intersect(value, outward(concretise(forms[i], box)))
        elif wanted and method == "crown":
            value = tighten(graph, i, box, value, values, slopes.get(i) or defaults, until)
        values.append(value)
        if node.operator.bounded and method == "crown":
            default = node.operator.default_slopes(*(values[a] for a in node.arguments))
            if default is not None:
                defaults[i] = default
    return values


def tighten(
    graph: Graph,
    i: int,
    box: Interval,
    value: Interval,
    values: list[Interval],
    slopes: Mapping[int, Slopes],
    until: Deadline = NEVER,
) -> Interval:
    """Intersects the bounds of node i with backward bounds of its undecided entries.

    Boxes of a batch differ in what is undecided. Either all boxes get the rows that any of them
    wants, or every pair of box and entry is a sub-batch of its own, whichever is less work.
    """
    mask = undecided_entries(graph, i, value).expand(box.lower.shape[0], -1)
    union = mask.any(0).nonzero().flatten()
    if len(union) == 0:
        return value
    batch, shape, element = box.lower.shape[0], graph.nodes[i].shape, box.lower.element_size()
    lower, upper = (end.expand(batch, *shape).flatten(1).clone() for end in value)
    work = Work(graph, i, box, values, slopes)
    most = rows_per_chunk(graph, i, 1, element)
    if batch > 1 and len(union) <= most and PAIR_COST * int(mask.sum()) < batch * len(union):
        start = work.start(union)
        place = torch.zeros_like(mask[0], dtype=torch.int64)
        place[union] = torch.arange(len(union), device=union.device)
        for pairs in mask.nonzero().split(max(1, most // 2)):
            if until.passed():
                break
            who, entry = pairs.unbind(1)
            below, above = work.bound_pairs(start, who, place[entry])
            lower[who, entry] = torch.fmax(lower[who, entry], below)
            upper[who, entry] = torch.fmin(upper[who, entry], above)
    else:
        for entry in union.split(max(1, rows_per_chunk(graph, i, batch, element) // 2)):
            if until.passed():
                break
            below, above = work.bound_all(work.start(entry))
            lower[:, entry] = torch.fmax(lower[:, entry], below)
            upper[:, entry] = torch.fmin(upper[:, entry], above)
    return Interval(lower.unflatten(1, shape), upper.unflatten(1, shape))


@dataclass(frozen=True)
class Work:
    """Backward bounds of entries of node i."""

    graph: Graph
    i: int
    box: Interval
    values: list[Interval]
    slopes: Mapping[int, Slopes]

    def start(self, entry: Tensor) -> Pushed:
        """Coefficients of some entries, pushed through what is linear below them: shared by all boxes."""
        rows = one_hot_rows(entry, self.graph.nodes[self.i].shape, self.box.lower)
        return push(self.graph, {self.i: rows}, {}, {}, lambda a: self.graph.nodes[a].operator.bounded)

    def bound_all(self, pushed: Pushed) -> Interval:
        """Bounds of the entries in every box: (batch, entries)."""
        count = pushed.offset.shape[1]
        start = {a: with_negated(rows) for a, rows in pushed.coefficients.items()}
        bound = backward(self.graph, start, dict(enumerate(self.values)), self.slopes).lower(self.box)
        return outward(Interval(bound[:, :count] + pushed.offset, pushed.offset - bound[:, count:]))

    def bound_pairs(self, pushed: Pushed, who: Tensor, which: Tensor) -> Interval:
        """Bounds of one wanted entry in one box, for pairs of them: (pairs,)."""

        def rows_of(t: Tensor) -> Tensor:
            return t if t.shape[0] == 1 else t[who]

        start = {a: with_negated(rows[0, which].unsqueeze(1)) for a, rows in pushed.coefficients.items()}
        needed = {a for below in self.graph.ancestors[self.i] for a in self.graph.nodes[below].arguments}
        needed &= set(self.graph.bounded)
        intervals = {a: Interval(rows_of(self.values[a].lower), rows_of(self.values[a].upper)) for a in needed}
        slopes = {a: Slopes(rows_of(s.lower), rows_of(s.upper)) for a, s in self.slopes.items()}
        box = Interval(self.box.lower[who], self.box.upper[who])
        bound = backward(self.graph, start, intervals, slopes).lower(box)
        offset = pushed.offset[0, which]
        return outward(Interval(bound[:, 0] + offset, offset - bound[:, 1]))


def undecided_entries(graph: Graph, i: int, value: Interval) -> Tensor:
    """(batch or 1, entries): the entries of node i that some nonlinear user wants tighter."""
    mask = torch.zeros_like(value.lower, dtype=torch.bool)
    for user in graph.users[i]:
        node = graph.nodes[user]
        for position, argument in enumerate(node.arguments):
            if argument == i and node.operator.bounded:
                mask |= node.operator.undecided(value, position)
    return mask.reshape(len(mask), -1)


def rows_per_chunk(graph: Graph, i: int, batch: int, element: int) -> int:
    """How many rows a backward pass from node i may carry at once."""
    widest = max(graph.nodes[a].size for a in graph.ancestors[i])
    return max(2, CHUNK_BYTES // max(1, batch * widest * element))
