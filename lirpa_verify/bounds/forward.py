"""Forward linear bounds: every node enclosed by linear functions of the input (arXiv:2002.12920, section 3).

Costs one pass with as many rows as the network has inputs: cheaper than a backward pass per
intermediate node when the inputs are few, usually looser.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lirpa_verify.bounds.rounding import margin
from lirpa_verify.bounds.sizes import magnitude, rounds
from lirpa_verify.graph.graph import Graph, Node
from lirpa_verify.operators.base import Interval, Linear, LinearForms, Lines, lines_compose
from lirpa_verify.operators.constant import Constant


def input_forms(graph: Graph, box: Interval) -> LinearForms:
    batch, n = box.lower.shape
    eye = torch.eye(n, dtype=box.lower.dtype, device=box.lower.device).expand(batch, n, n)
    zero = torch.zeros_like(box.lower)
    return LinearForms(eye, zero, eye, zero)


def varying_forms(graph: Graph, box: Interval) -> tuple[Interval, LinearForms]:
    """Forms of the input over the entries that vary in each box, and the boxes of these: ``(batch, varying)``.

    What is fixed in a box is part of the forms' offsets, so that a pass costs what varies.
    """
    wide = box.upper > box.lower
    n, varying = graph.n_inputs, max(1, int(wide.sum(1).max()))
    if varying == n:
        return box, input_forms(graph, box)
    index = wide.to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :varying]
    weight = box.lower.new_zeros(len(index), varying, n).scatter_(2, index.unsqueeze(2), 1.0)
    offset = box.lower.scatter(1, index, 0.0)
    reduced = Interval(box.lower.gather(1, index), box.upper.gather(1, index))
    return reduced, LinearForms(weight, offset, weight, offset)


def forms_step(
    graph: Graph, i: int, forms: list[LinearForms], intervals: list[Interval], box: Interval, lines: Lines | None = None
) -> LinearForms:
    """Forms of node i from those of its arguments; with the lines of its relaxation where they are known."""
    node = graph.nodes[i]
    if isinstance(node.operator, Constant):
        batch, n = box.lower.shape
        offset = node.operator.value.expand(batch, *node.shape)
        weight = offset.new_zeros(batch, n, *node.shape)
        return LinearForms(weight, offset, weight, offset)
    arguments = tuple(forms[a] for a in node.arguments)
    if lines is None:
        composed = node.operator.compose(arguments, tuple(intervals[a] for a in node.arguments))
    else:
        composed = lines_compose(arguments[0], lines)
    return loosened(node, composed, arguments, box)


def loosened(node: Node, composed: LinearForms, arguments: tuple[LinearForms, ...], box: Interval) -> LinearForms:
    """The forms moved apart by what rounding may have cost in this step."""
    if not rounds(node) and not node.operator.bounded:
        return composed
    size = form_size(composed, box)
    if isinstance(node.operator, Linear):
        size = size + node.operator.term_sizes(*(form_size(a, box) for a in arguments))
    pad = margin(size)
    return composed._replace(lower_offset=composed.lower_offset - pad, upper_offset=composed.upper_offset + pad)


def form_size(forms: LinearForms, box: Interval) -> Tensor:
    """The largest sum of the magnitudes of a form's terms: (batch, *node)."""
    tail = (1,) * (forms.lower_offset.dim() - 1)
    reach = magnitude(box).reshape(*box.lower.shape, *tail)
    lower = (forms.lower_weight.abs() * reach).sum(1) + forms.lower_offset.abs()
    upper = (forms.upper_weight.abs() * reach).sum(1) + forms.upper_offset.abs()
    return torch.maximum(lower, upper)


def concretise(forms: LinearForms, box: Interval) -> Interval:
    """Interval of a node from its forms: (batch, *node) each."""
    tail = (1,) * (forms.lower_offset.dim() - 1)
    middle = ((box.lower + box.upper) / 2).reshape(*box.lower.shape, *tail)
    radius = ((box.upper - box.lower) / 2).reshape(*box.lower.shape, *tail)
    lower = (forms.lower_weight * middle - forms.lower_weight.abs() * radius).sum(1) + forms.lower_offset
    upper = (forms.upper_weight * middle + forms.upper_weight.abs() * radius).sum(1) + forms.upper_offset
    pad = margin(form_size(forms, box))
    return Interval(lower - pad, upper + pad)
