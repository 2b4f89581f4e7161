"""Only outputs that matter cost anything: of a network that ends in an image, the field of what is asked about.

A property of a detector may mention the scores of one cell among hundreds. What lies outside of the
field of that cell in every layer need not be bounded.
"""

from __future__ import annotations

from torch import Tensor

from lirpa_verify.graph.graph import Graph, Node
from lirpa_verify.graph.simplify import simplify
from lirpa_verify.graph.window import FIRST, Window, cut, fields, renumbered
from lirpa_verify.operators.rearrange import Gather
from lirpa_verify.operators.unravelled import unravelled


def demanded(graph: Graph, wanted: Tensor) -> Graph:
    """The network with only some of its outputs.

    Args:
        graph: the network.
        wanted: ``(k,)`` int64, the numbers of the outputs that are left, in rising order.
    """
    if len(wanted) == graph.n_outputs:
        return graph
    last = graph.nodes[-1]
    gather = Node(Gather(wanted, last.shape, (len(wanted),)), (graph.output,), (len(wanted),), last.name)
    graph = simplify(Graph((*graph.nodes, gather)))
    return within_field(graph) or graph


def within_field(graph: Graph) -> Graph | None:
    """The graph cut to the field of the window that its last node picks its entries from; None if it picks none."""
    last = graph.nodes[-1]
    if not isinstance(last.operator, Gather):
        return None
    (i,) = last.arguments
    shape = graph.nodes[i].shape
    if len(shape) <= FIRST or shape[0] != 1:
        return None
    index = last.operator.index
    kept = unravelled(index[index >= 0], shape)[FIRST:]
    window: Window = tuple((int(place.min()), int(place.max()) + 1) for place in kept)
    windows = fields(graph, i, window)
    if windows is None:
        return None
    part = cut(graph, i, windows)
    below = part.graph.nodes[-1].shape
    gather = renumbered(last.operator, index, below, window)
    picked = Node(Gather(gather.index, below, last.shape), (part.graph.output,), last.shape, last.name)
    return simplify(Graph((*part.graph.nodes, picked)))
