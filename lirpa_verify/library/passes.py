"""Bounds of all nodes of a graph over any region, differentiable: the verifier's rules without its margins.

The verifier's passes (`bounds/`) know boxes only, add what rounding may cost and work in place.
These here take any set with a least value of linear functions, and keep gradients.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from lirpa_verify.bounds.crown import LinearBound, backward, one_hot_rows, push, with_negated
from lirpa_verify.bounds.intermediate import undecided_entries
from lirpa_verify.bounds.interval import interval_step
from lirpa_verify.bounds.rounding import margin
from lirpa_verify.bounds.sizes import sizes
from lirpa_verify.graph.graph import Graph
from lirpa_verify.operators.base import Interval, Linear, LinearForms, Slopes, pair
from lirpa_verify.operators.constant import Constant, Input
from lirpa_verify.operators.transforms import hidden
from lirpa_verify.perturbations.region import Region

Inner = Literal["ibp", "forward", "crown"]
CHUNK_ENTRIES = 2**24  # of coefficients at the widest node in one backward pass


def bound_nodes(graph: Graph, region: Region, method: Inner, certain: bool = False) -> list[Interval]:
    """An interval of every node over the region.

    Interval arithmetic goes through all nodes. Where a nonlinear operator takes a node, its interval is
    tightened: by a linear function of the input for `forward`, by backward passes for `crown`. Nodes that
    are linear in the input are bounded exactly whatever the method, since a box around the region may
    be far larger than the region.

    Args:
        graph: the network.
        region: what the inputs may be.
        method: how to tighten; `forward` cannot be certain.
        certain: whether intervals are widened by what rounding may have cost, as the verifier's are.

    Returns:
        One interval per node, ``(batch or 1, *node)``.
    """
    values = [region.box]
    forms = [input_forms(region)] if method == "forward" else []
    linear = linear_nodes(graph)
    for i, node in enumerate(graph.nodes[1:], start=1):
        value = interval_step(node, values) if certain else node.operator.interval(*(values[a] for a in node.arguments))
        if method == "forward":
            forms.append(forms_step(graph, i, forms, values, region))
        wanted = i in graph.bounded and graph.depends_on_input[i]
        if wanted and not (region.is_box and graph.exact_interval[i]):
            if method == "crown" or (linear[i] and not region.is_box):
                value = tighten(graph, i, region, value, values, certain)
            elif method == "forward":
                value = narrowed(value, concretise(forms[i], region))
        values.append(value)
    return values


def linear_nodes(graph: Graph) -> list[bool]:
    """Per node whether it is an affine function of the input."""
    linear: list[bool] = []
    for node in graph.nodes:
        known = isinstance(node.operator, Input | Constant | Linear)
        linear.append(known and all(linear[a] for a in node.arguments))
    return linear


def narrowed(a: Interval, b: Interval) -> Interval:
    """Both hold. Where rounding makes them disjoint, the ends may cross by as little."""
    return Interval(torch.maximum(a.lower, b.lower), torch.minimum(a.upper, b.upper))


def tighten(
    graph: Graph, i: int, region: Region, value: Interval, values: list[Interval], certain: bool = False
) -> Interval:
    """Intersects the interval of node i with backward bounds of its entries that are undecided in some example."""
    undecided = undecided_entries(graph, i, value).any(0)
    everywhere = torch.arange(len(undecided), device=undecided.device)
    index = everywhere if hidden(undecided) else everywhere[undecided]
    if len(index) == 0:
        return value
    batch, shape = region.batch, graph.nodes[i].shape
    widest = max(graph.nodes[a].size for a in graph.ancestors[i])
    room = max(1, CHUNK_ENTRIES // (2 * batch * widest))
    lower, upper = (end.expand(batch, *shape).flatten(1) for end in value)
    found = []
    for part in index.split(room):
        rows = with_negated(one_hot_rows(part, shape, region.box.lower))
        if certain:
            linear = backward(graph, {i: rows}, dict(enumerate(values)), sizes=sizes(graph, [*values, value]))
            least = certain_minimum(linear, region)
        else:
            least = region_minimum(backward(graph, {i: rows}, dict(enumerate(values))), region)
        found.append(Interval(least[:, : len(part)], -least[:, len(part) :]))
    tight = Interval(torch.cat([f.lower for f in found], 1), torch.cat([f.upper for f in found], 1))
    lower = lower.index_copy(1, index, torch.maximum(lower[:, index], tight.lower))
    upper = upper.index_copy(1, index, torch.minimum(upper[:, index], tight.upper))
    return Interval(lower.unflatten(1, shape), upper.unflatten(1, shape))


def region_minimum(linear: LinearBound, region: Region) -> Tensor:
    """The least value of linear functions of the input: (batch, rows)."""
    return region.minimum(linear.weight) + linear.offset


def certain_minimum(linear: LinearBound, region: Region) -> Tensor:
    """The same, less what rounding may have cost on the way."""
    return region_minimum(linear, region) - margin(linear.magnitude(region.box))


def rows_from_nodes(graph: Graph, rows: Tensor, region: Region, values: list[Interval]) -> Tensor:
    """Lower bounds of ``<rows, output>`` from the intervals of the nodes next to the output.

    Rows are pushed through what is linear at the output: the last layer's differences are bounded, not
    the difference of its bounds (arXiv:1810.12715, section 3).
    """
    pushed = push(graph, {graph.output: rows}, {}, {}, lambda i: graph.nodes[i].operator.bounded)
    total = pushed.offset.expand(region.batch, -1)
    for i, coefficients in pushed.coefficients.items():
        if i == 0:
            total = total + region.minimum(coefficients)
        else:
            lower, upper = values[i]
            total = total + pair(coefficients.clamp(min=0), lower) + pair(coefficients.clamp(max=0), upper)
    return total


def rows_backward(
    graph: Graph, rows: Tensor, values: list[Interval], slopes: Mapping[int, Slopes] | None = None
) -> LinearBound:
    """Linear functions of the input below ``<rows, output>`` on the region: ``(batch or 1, rows, outputs)`` rows."""
    return backward(graph, {graph.output: rows}, dict(enumerate(values)), slopes)


def rows_forward(graph: Graph, rows: Tensor, region: Region, values: list[Interval]) -> LinearBound:
    """The same from the forward pass."""
    forms = [input_forms(region)]
    for i in range(1, len(graph.nodes)):
        forms.append(forms_step(graph, i, forms, values, region))
    lower_weight, lower_offset, upper_weight, upper_offset = forms[graph.output]
    up, down = rows.clamp(min=0), rows.clamp(max=0)
    weight = up @ lower_weight.mT + down @ upper_weight.mT
    return LinearBound(weight, pair(up, lower_offset) + pair(down, upper_offset))


def input_forms(region: Region) -> LinearForms:
    """The input as linear functions of itself."""
    lower = region.box.lower
    batch, n = lower.shape
    eye = torch.eye(n, dtype=lower.dtype, device=lower.device).expand(batch, n, n)
    zero = torch.zeros_like(lower)
    return LinearForms(eye, zero, eye, zero)


def forms_step(graph: Graph, i: int, forms: list[LinearForms], values: list[Interval], region: Region) -> LinearForms:
    """Linear functions of the input around node i from those around its arguments."""
    node = graph.nodes[i]
    if isinstance(node.operator, Constant):
        offset = node.operator.value.expand(region.batch, *node.shape)
        weight = offset.new_zeros(region.batch, graph.n_inputs, *node.shape)
        return LinearForms(weight, offset, weight, offset)
    return node.operator.compose(tuple(forms[a] for a in node.arguments), tuple(values[a] for a in node.arguments))


def concretise(forms: LinearForms, region: Region) -> Interval:
    """The interval that the linear functions around a node have over the region."""
    lower = region.minimum(forms.lower_weight.flatten(2).mT).reshape(forms.lower_offset.shape) + forms.lower_offset
    upper = forms.upper_offset - region.minimum(-forms.upper_weight.flatten(2).mT).reshape(forms.upper_offset.shape)
    return Interval(lower, upper)
