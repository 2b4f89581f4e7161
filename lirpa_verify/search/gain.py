"""What halving an input is expected to gain: the gradient of the bound with respect to the box's ends.

The coefficients of a linear bound say where the bound is small, not why. Most of what a proof lacks is
error of the relaxations, which shrinks when the neurons' intervals do: a long chain from the box's width,
through every intermediate bound, that automatic differentiation follows in one pass. To first order, halving
an input gains its lower half half a width times minus the derivative with respect to the upper end, the
upper half as much for the lower end. (The linear bounds are differentiable functions of the box:
arXiv:2002.12920, section 3.)
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from lirpa_verify.bounds.intermediate import Method
from lirpa_verify.graph.graph import Graph
from lirpa_verify.search.bound_boxes import RowBounds, bound_boxes, still_open
from lirpa_verify.search.boxes import Boxes
from lirpa_verify.search.specification import Specification

CHUNK_BYTES = 2**27  # of what autograd keeps for one chunk of boxes
KEPT = 24  # tensors that it keeps per node, about, each with a row per varying input


def expected_gain(graph: Graph, specification: Specification, boxes: Boxes, method: Method) -> Tensor:
    """How much halving each input raises the bound of the hardest disjunct, to first order, both halves together.

    The bound that is differentiated is the one that `method` gives: others rank the inputs differently.

    Returns:
        ``(batch, inputs)``, at least 0; 0 where there is no derivative.
    """
    width = max(1, int((boxes.upper > boxes.lower).sum(1).max())) if len(boxes) else 1
    each = 8 * KEPT * (width + 1) * sum(node.size for node in graph.nodes)
    parts = [gain_of(graph, specification, boxes[who], method) for who in chunks(len(boxes), CHUNK_BYTES // each)]
    return torch.cat(parts) if parts else torch.zeros_like(boxes.lower)


def chunks(count: int, size: int) -> list[slice]:
    size = max(1, size)
    return [slice(k * size, min(count, (k + 1) * size)) for k in range(math.ceil(count / size))]


def gain_of(graph: Graph, specification: Specification, boxes: Boxes, method: Method) -> Tensor:
    with torch.enable_grad():
        lower, upper = boxes.lower.detach().requires_grad_(), boxes.upper.detach().requires_grad_()
        bounds = bound_boxes(graph, specification, replace(boxes, lower=lower, upper=upper), method)
        nearest = nearest_row(graph, specification, boxes, bounds)
        hardest = nearest.masked_fill(~still_open(boxes, bounds), torch.inf).amin(1)
        usable = torch.isfinite(hardest)
        total = hardest[usable].sum()
        if not total.requires_grad:
            return torch.zeros_like(boxes.lower)
        rising, falling = torch.autograd.grad(total, (lower, upper))
    gain = (rising - falling) * (boxes.upper - boxes.lower) / 2
    return torch.nan_to_num(gain, nan=0.0, posinf=0.0, neginf=0.0).clamp(min=0)


def nearest_row(graph: Graph, specification: Specification, boxes: Boxes, bounds: RowBounds) -> Tensor:
    """(batch, kept): the margin of the row by which each disjunct is nearest to a proof.

    That is where the error of the bound is the smallest multiple of what a proof allows: the row's value at the corner
    where its bound is least. A row with a value below 0 there cannot close the box, however small its margin.
    """
    margin = bounds.margin
    kept, rows = margin.shape[1:]
    if rows == 1:
        return margin[:, :, 0]
    with torch.no_grad():
        corner = bounds.linear.corner(boxes.interval).flatten(0, 1)  # (batch * kept * rows, inputs)
        origin = boxes.origin.repeat_interleave(kept * rows)
        values = specification.margins(corner, graph.forward(corner), origin)[:, bounds.disjuncts]
        values = values.unflatten(0, (-1, kept, rows))  # (batch, corner of disjunct and row, disjunct and row)
        allowed = values.diagonal(dim1=1, dim2=3).diagonal(dim1=1, dim2=2)  # (batch, kept, rows)
        possible = (allowed > 0) & torch.isfinite(allowed)
        error = torch.where(possible, (allowed - margin) / allowed, torch.inf)
        pick = torch.where(possible.any(2), error.argmin(2), margin.argmax(2))
    return margin.gather(2, pick.unsqueeze(2)).squeeze(2)
