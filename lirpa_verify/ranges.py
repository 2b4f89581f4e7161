"""Certified ranges of all outputs over the input set."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from lirpa_verify.bounds.crown import backward, one_hot_rows, with_negated
from lirpa_verify.bounds.intermediate import Method, bound_nodes
from lirpa_verify.bounds.rounding import intersect, margin, outward
from lirpa_verify.bounds.sizes import sizes
from lirpa_verify.deadline import Deadline
from lirpa_verify.network import Network
from lirpa_verify.operators.base import Interval
from lirpa_verify.search.specification import enclosing_box
from vnnlib import Property

if TYPE_CHECKING:
    from lirpa_verify.strategy import Options

ROWS = 256  # outputs bounded at once


@torch.no_grad()
def output_ranges(
    network: Network, prop: Property, deadline: Deadline, options: Options
) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper bounds ``(outputs,)`` of every output over the smallest box around the input set."""
    boxes = enclosing_box(prop, network.in_single_precision)
    box = Interval(boxes.lower.amin(0, keepdim=True), boxes.upper.amax(0, keepdim=True))
    method: Method = "forward" if options.method == "forward" else "ibp" if options.method == "ibp" else "crown"
    graph = network.graph
    values = bound_nodes(graph, box, method)
    result = values[-1]
    if method != "ibp":
        parts = []
        for index in torch.arange(graph.n_outputs).split(ROWS):
            rows = with_negated(one_hot_rows(index, graph.nodes[-1].shape, box.lower))
            linear = backward(graph, {graph.output: rows}, dict(enumerate(values)), sizes=sizes(graph, values))
            bound = (linear.lower(box) - margin(linear.magnitude(box)))[0]
            parts.append(torch.stack([bound[: len(index)], -bound[len(index) :]]))
        lower, upper = torch.cat(parts, 1).unsqueeze(1)
        result = intersect(result, Interval(lower, upper))
    lower, upper = outward(result)
    return lower[0].numpy(), upper[0].numpy()
