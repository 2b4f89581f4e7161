"""Lower bounds of a specification's rows over a batch of boxes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from lirpa_verify.bounds.crown import LinearBound, backward
from lirpa_verify.bounds.intermediate import NEVER, Method, bound_nodes
from lirpa_verify.bounds.rounding import margin
from lirpa_verify.bounds.sizes import sizes
from lirpa_verify.deadline import Deadline
from lirpa_verify.graph.graph import Graph
from lirpa_verify.operators.base import Interval
from lirpa_verify.search.boxes import Boxes
from lirpa_verify.search.specification import Specification

ROWS_BYTES = 2**29  # of coefficients at the widest node in one pass


@dataclass(frozen=True)
class RowBounds:
    """Bounds of the rows of the disjuncts still alive in any box of the batch.

    A row is proved impossible where its margin is above 0; rounding is already taken off.
    """

    disjuncts: Tensor  # (kept,) which disjuncts the columns are
    margin: Tensor  # (batch, kept, rows): lower bound of row - rhs; -inf at missing rows
    linear: LinearBound  # of row - rhs over the inputs, rounding taken off: (batch, kept * rows, inputs)

    def closed(self) -> Tensor:
        """(batch, kept): disjuncts of which some row is impossible in the whole box."""
        return (self.margin > 0).any(2)

    def __getitem__(self, index: Tensor | slice) -> RowBounds:
        return RowBounds(
            self.disjuncts, self.margin[index], LinearBound(self.linear.weight[index], self.linear.offset[index])
        )


def still_open(boxes: Boxes, bounds: RowBounds) -> Tensor:
    """(batch, kept) disjuncts that could hold a violation."""
    return boxes.alive[:, bounds.disjuncts] & ~bounds.closed()


def bound_boxes(
    graph: Graph,
    specification: Specification,
    boxes: Boxes,
    method: Method,
    until: Deadline = NEVER,
    disjuncts: Tensor | None = None,
) -> RowBounds:
    """Bounds every row that still matters with CROWN.

    Args:
        graph: the network over its varying inputs.
        specification: the rows.
        boxes: where they are bounded.
        method: how intermediate nodes are bounded.
        until: when to be content with interval bounds of nodes.
        disjuncts: which to bound; those alive in any box unless given.
    """
    values = bound_nodes(graph, boxes.interval, method, until=until)
    return bound_rows(graph, specification, boxes, values, disjuncts)


def bound_rows(
    graph: Graph,
    specification: Specification,
    boxes: Boxes,
    values: list[Interval],
    disjuncts: Tensor | None = None,
    terms: Mapping[int, Tensor] | None = None,
) -> RowBounds:
    """Bounds by backward passes from the rows over bounds of the nodes, as many at once as memory allows.

    `terms` are the `sizes` of these bounds, if known.
    """
    kept = boxes.alive.any(0).nonzero().flatten() if disjuncts is None else disjuncts
    terms = sizes(graph, values) if terms is None else terms
    widest = max(node.size for node in graph.nodes) * boxes.lower.element_size()
    most = max(1, ROWS_BYTES // (len(boxes) * specification.rows.shape[2] * widest))
    parts = [rows_at_once(graph, specification, boxes, values, part, terms) for part in kept.split(most)]
    if len(parts) == 1:
        return parts[0]
    weight, offset = (
        torch.cat(ends, 1) for ends in zip(*((p.linear.weight, p.linear.offset) for p in parts), strict=True)
    )
    return RowBounds(kept, torch.cat([part.margin for part in parts], 1), LinearBound(weight, offset))


def rows_at_once(
    graph: Graph,
    specification: Specification,
    boxes: Boxes,
    values: list[Interval],
    kept: Tensor,
    terms: Mapping[int, Tensor],
) -> RowBounds:
    """Bounds of the rows of the disjuncts `kept` in a single backward pass."""
    rows = specification.rows[boxes.origin][:, kept]  # (batch, kept, rows)
    flat = rows.clamp(min=0).flatten(1)
    start = starting_rows(graph, specification, specification.kind[flat])
    linear = backward(graph, start, dict(enumerate(values)), sizes=terms)
    rhs = specification.rhs[flat]
    batch = len(boxes)
    linear = LinearBound(linear.weight.expand(batch, -1, -1), linear.offset.expand(batch, -1) - rhs, size=linear.size)
    slack = margin(linear.magnitude(boxes.interval) + 2 * rhs.abs())
    linear = LinearBound(linear.weight, linear.offset - slack)  # now below the row at every point of the box
    lower = linear.lower(boxes.interval).reshape(rows.shape)
    return RowBounds(kept, lower.masked_fill(rows < 0, -torch.inf), linear)


def interval_rows(graph: Graph, specification: Specification, boxes: Boxes, values: list[Interval]) -> RowBounds:
    """Bounds of the rows from the intervals of the outputs alone."""
    kept = boxes.alive.any(0).nonzero().flatten()
    rows = specification.rows[boxes.origin][:, kept]
    flat = rows.clamp(min=0).flatten(1)
    start = starting_rows(graph, specification, specification.kind[flat])
    rhs = specification.rhs[flat]
    lower, magnitude = -rhs, rhs.abs()
    for i, coefficients in start.items():
        low, high = values[i].lower.flatten(1).unsqueeze(1), values[i].upper.flatten(1).unsqueeze(1)
        lower = lower + torch.minimum(coefficients * low, coefficients * high).sum(2)
        magnitude = magnitude + torch.maximum((coefficients * low).abs(), (coefficients * high).abs()).sum(2)
    weight = lower.new_zeros(*lower.shape, graph.n_inputs)
    lower = lower - margin(magnitude)
    bound = lower.reshape(rows.shape).masked_fill(rows < 0, -torch.inf)
    return RowBounds(kept, bound, LinearBound(weight, lower))


def starting_rows(graph: Graph, specification: Specification, kind: Tensor) -> dict[int, Tensor]:
    """Coefficients at the output, and at the input where rows mention it; shared when all boxes agree."""
    if bool((kind == kind[:1]).all()):
        kind = kind[:1]
    start = {graph.output: specification.output[kind]}
    if specification.input is not None:
        start[0] = specification.input[kind]
    return start
