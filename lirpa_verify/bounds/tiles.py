"""When and how the entries of a convolution are bounded window by window instead of all with whole rows."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from lirpa_verify.graph.graph import Graph
from lirpa_verify.graph.window import FIRST, Window, fields, work
from lirpa_verify.operators.convolution import Convolution

SIZES = (1, 2, 4, 8, 16, 32)  # of windows, along every dimension
PER_NODE = 2e6  # multiplications that take as long as what a node costs in every window, however small
WORTHWHILE = 0.7  # of the work of whole rows


def best_size(graph: Graph, i: int, rows: int) -> int | None:
    """The size of windows that bounds `rows` entries of node i with the least work; None for whole rows.

    Nodes are ``(1, channels, *space)`` where convolutions lead to them.
    """
    shape, below = graph.nodes[i].shape, graph.ancestors[i]
    convolves = any(isinstance(graph.nodes[j].operator, Convolution) for j in below)
    if len(shape) <= FIRST or shape[0] != 1 or not convolves:
        return None
    space = shape[FIRST:]
    best, least = None, WORTHWHILE * rows * work(graph, {}, below)
    for size in SIZES:
        if size >= max(space):
            break
        middle = tuple((max(0, n // 2 - size // 2), min(n, max(0, n // 2 - size // 2) + size)) for n in space)
        windows = fields(graph, i, middle)
        if windows is None:
            return None
        count = sum(1 for _ in tiling(space, size))
        total = rows * work(graph, windows, below) + min(count, rows) * PER_NODE * len(below)
        if total < least:
            best, least = size, total
    return best


def tiling(space: tuple[int, ...], size: int) -> Iterator[Window]:
    """Windows side by side that cover a node's space."""
    return product(*([(k, min(k + size, n)) for k in range(0, n, size)] for n in space))
