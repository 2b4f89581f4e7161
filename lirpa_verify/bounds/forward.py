"""Forward linear bounds: every node enclosed by linear functions of the input (arXiv:2002.12920, section 3).

Costs one pass with as many rows as the network has inputs: cheaper than a backward pass per
intermediate node when the inputs are few, usually looser.
"""

from __future__ import annotations

import torch

from lirpa_verify.graph.graph import Graph
from lirpa_verify.operators.base import Interval, LinearForms
from lirpa_verify.operators.constant import Constant


def input_forms(graph: Graph, box: Interval) -> LinearForms:
    batch, n = box.lower.shape
    eye = torch.eye(n, dtype=box.lower.dtype, device=box.lower.device).expand(batch, n, n)
    zero = torch.zeros_like(box.lower)
    return LinearForms(eye, zero, eye, zero)


def forms_step(graph: Graph, i: int, forms: list[LinearForms], intervals: list[Interval], box: Interval) -> LinearForms:
    """Forms of node i from those of its arguments."""
    node = graph.nodes[i]
    if isinstance(node.operator, Constant):
        batch, n = box.lower.shape
        offset = node.operator.value.expand(batch, *node.shape)
        weight = offset.new_zeros(batch, n, *node.shape)
        return LinearForms(weight, offset, weight, offset)
    arguments = tuple(forms[a] for a in node.arguments)
    return node.operator.compose(arguments, tuple(intervals[a] for a in node.arguments))


def concretise(forms: LinearForms, box: Interval) -> Interval:
    """Interval of a node from its forms: (batch, *node) each."""
    tail = (1,) * (forms.lower_offset.dim() - 1)
    middle = ((box.lower + box.upper) / 2).reshape(*box.lower.shape, *tail)
    radius = ((box.upper - box.lower) / 2).reshape(*box.lower.shape, *tail)
    lower = (forms.lower_weight * middle - forms.lower_weight.abs() * radius).sum(1) + forms.lower_offset
    upper = (forms.upper_weight * middle + forms.upper_weight.abs() * radius).sum(1) + forms.upper_offset
    return Interval(lower, upper)
