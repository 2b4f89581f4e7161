"""Backward linear bounds (CROWN on any graph: arXiv:1811.00866; arXiv:2002.12920, section 3).

Coefficients start at some nodes and are pushed towards the input, operator by operator in reverse
topological order; where paths join they are added. What arrives at the input, with the offset
gathered on the way, is a linear function of the input below the wanted quantity on the whole box.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from lirpa_verify.bounds.sizes import magnitude, weighed
from lirpa_verify.graph.graph import Graph
from lirpa_verify.operators.base import Interval, Lines, Slopes, lines_backward, pair, zero_offset
from lirpa_verify.operators.constant import Constant


@dataclass(frozen=True)
class LinearBound:
    """``weight . x + offset`` is below the bounded quantity for every x of the box."""

    weight: Tensor  # (batch, rows, inputs)
    offset: Tensor  # (batch, rows)
    watched: dict[int, Tensor] = field(default_factory=dict)  # coefficients met at the watched nodes
    size: Tensor | float = 0.0  # (batch, rows): of the terms added up on the way, for rounding
    spread: Tensor | float = 0.0  # (batch, rows): the bounded quantity is at most so much larger, where gaps were given

    def lower(self, box: Interval) -> Tensor:
        """Its minimum over the boxes: (batch, rows)."""
        middle, radius = (box.lower + box.upper) / 2, (box.upper - box.lower) / 2
        return pair(self.weight, middle) - pair(self.weight.abs(), radius) + self.offset

    def upper(self, box: Interval) -> Tensor:
        """Above the bounded quantity over the boxes, where the spread is known: (batch, rows)."""
        middle, radius = (box.lower + box.upper) / 2, (box.upper - box.lower) / 2
        return pair(self.weight, middle) + pair(self.weight.abs(), radius) + self.offset + self.spread

    def magnitude(self, box: Interval) -> Tensor:
        """Of all terms that make up the minimum: (batch, rows)."""
        reach = torch.maximum(box.lower.abs(), box.upper.abs())
        return pair(self.weight.abs(), reach) + self.offset.abs() + self.size

    def corner(self, box: Interval) -> Tensor:
        """The corner of the box where the minimum lies: (batch, rows, inputs)."""
        return torch.where(self.weight > 0, box.lower.unsqueeze(1), box.upper.unsqueeze(1))


@dataclass(frozen=True)
class Pushed:
    """Coefficients that arrived where they were to stop, with the offset gathered on the way."""

    coefficients: dict[int, Tensor]  # per node (batch or 1, rows, *node)
    offset: Tensor  # (batch or 1, rows)
    watched: dict[int, Tensor]
    size: Tensor | float = 0.0  # (batch, rows): of the terms added up on the way
    spread: Tensor | float = 0.0  # (batch, rows): by how much lines may lie below their functions, added up


@dataclass(frozen=True)
class Gaps:
    """How far the lines of an element-wise function are from it at most, at the entries where they are."""

    index: Tensor  # (entries,)
    below: Tensor  # (entries,) for the lower lines
    above: Tensor  # (entries,)

    def spread(self, rows: Tensor) -> Tensor:
        """What rows ``(batch, rows, *node)`` lose with these lines at most: (batch, rows)."""
        met = rows.flatten(2)[:, :, self.index]
        return met.clamp(min=0) @ self.below - met.clamp(max=0) @ self.above


def push(
    graph: Graph,
    start: Mapping[int, Tensor],
    intervals: Mapping[int, Interval],
    slopes: Mapping[int, Slopes],
    stop: Callable[[int], bool],
    watch: Collection[int] = (),
    extra: Mapping[int, Tensor] | None = None,
    sizes: Mapping[int, Tensor] | None = None,
    lines: Mapping[int, Lines] | None = None,
    weigh: Callable[[Tensor, Tensor], Tensor] = weighed,
    gaps: Mapping[int, Gaps] | None = None,
) -> Pushed:
    """Pushes coefficients towards the input, as far as nodes where to stop (the input always is one)."""
    pending, arrived = dict(start), {}
    offset: Tensor | float = 0.0
    size: Tensor | float = 0.0
    spread: Tensor | float = 0.0
    watched: dict[int, Tensor] = {}
    for i in range(max(pending), -1, -1):
        rows = pending.pop(i, None)
        if extra and i in extra:
            rows = extra[i] if rows is None else rows + extra[i]
        if rows is None:
            continue
        if i in watch:
            watched[i] = rows
        node = graph.nodes[i]
        if i == 0 or stop(i):
            arrived[i] = rows
            continue
        if isinstance(node.operator, Constant):
            offset = offset + pair(rows, node.operator.value)
            if sizes is not None:
                size = size + weigh(rows, node.operator.value.abs().unsqueeze(0))
            continue
        needed = tuple(intervals[a] for a in node.arguments) if node.operator.bounded else ()
        if lines and i in lines:
            below = lines_backward(rows, lines[i])
        else:
            below = node.operator.backward(rows, needed, slopes.get(i))
        offset = offset + below.offset
        if gaps and i in gaps:
            spread = spread + gaps[i].spread(rows)
        if sizes is not None and i in sizes:
            size = size + weigh(rows, sizes[i])
        for argument, interval, coefficients in zip(node.arguments, needed, below.coefficients, strict=False):
            if coefficients is None or sizes is None:
                continue
            if argument not in sizes or len(graph.users[argument]) > 1:  # else counted there
                size = size + weigh(coefficients, magnitude(interval))
        for argument, coefficients in zip(node.arguments, below.coefficients, strict=True):
            if coefficients is not None:
                pending[argument] = pending[argument] + coefficients if argument in pending else coefficients
    if not isinstance(offset, Tensor):
        offset = zero_offset(next(iter(start.values())))
    return Pushed(arrived, offset, watched, size, spread)


def backward(
    graph: Graph,
    start: Mapping[int, Tensor],
    intervals: Mapping[int, Interval],
    slopes: Mapping[int, Slopes] | None = None,
    watch: Collection[int] = (),
    extra: Mapping[int, Tensor] | None = None,
    sizes: Mapping[int, Tensor] | None = None,
    lines: Mapping[int, Lines] | None = None,
    gaps: Mapping[int, Gaps] | None = None,
) -> LinearBound:
    """A linear function of the input below ``sum(<start[i], node i>)``.

    Args:
        graph: the network.
        start: coefficients ``(batch or 1, rows, *node)`` per node, at one node or several.
        intervals: bounds of the arguments of every nonlinear operator below `start`.
        slopes: free slopes per nonlinear node; without them each operator's own choice.
        watch: nodes whose coefficients the result keeps.
        extra: coefficients ``(batch, rows, *node)`` to add at nodes on the way (multipliers of constraints).
        sizes: of the terms of every linear operator (`bounds.sizes`), without which their rounding is not counted.
        lines: relaxations of some nodes, where they are known; these nodes' slopes do not count.
        gaps: of the lines of all nonlinear operators below `start`, for a bound of the other side.
    """
    pushed = push(graph, start, intervals, slopes or {}, lambda i: False, watch, extra, sizes, lines, gaps=gaps)
    weight = pushed.coefficients.get(0)
    if weight is None:  # nothing below depends on the input
        rows = next(iter(start.values()))
        weight = rows.new_zeros(1, rows.shape[1], graph.n_inputs)
    return LinearBound(weight, pushed.offset, pushed.watched, pushed.size, pushed.spread)


def one_hot_rows(index: Tensor, shape: tuple[int, ...], like: Tensor) -> Tensor:
    """Rows that pick single entries of a node: (1, k, *node)."""
    rows = like.new_zeros(len(index), math.prod(shape))
    rows[torch.arange(len(index), device=index.device), index] = 1
    return rows.reshape(1, -1, *shape)


def with_negated(rows: Tensor) -> Tensor:
    """The rows and their negatives, whose lower bounds are the upper bounds: (batch, 2 k, *node)."""
    return torch.cat([rows, -rows], 1)
