"""The fields of a node's windows: cut graphs, each with what is known of the nodes within it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from torch import Tensor

from lirpa_verify.bounds.interval import interval_step
from lirpa_verify.graph.graph import Graph
from lirpa_verify.graph.window import Cut, Window, cropped, cut, fields, of_used_inputs
from lirpa_verify.operators.base import Interval


@dataclass(frozen=True)
class Field:
    """What a window of a node depends on."""

    window: Window
    part: Cut
    graph: Graph  # the part over the inputs that it uses; its output is the window
    values: list[Interval]  # of the graph's nodes
    wanted: Tensor  # (batch, entries of the window)


def fields_of(
    graph: Graph, i: int, box: Interval, values: list[Interval], wanted: Tensor, windows: Iterable[Window]
) -> Iterator[Field]:
    """The fields of those windows of node i in which something is wanted.

    Args:
        graph: the network.
        i: a node with `best_size`.
        box: ``(batch, inputs)`` ends.
        values: bounds of the nodes up to node i.
        wanted: ``(batch, *node)`` mask.
        windows: of `tiling`.
    """
    for window in windows:
        here = cropped(wanted, window, 1)
        below = fields(graph, i, window) if bool(here.any()) else None
        if below is None:
            continue
        part = cut(graph, i, below)
        known: list[Interval] = []
        for node, source in zip(part.graph.nodes, part.source, strict=True):
            if source is None:
                known.append(interval_step(node, known))
            else:
                known.append(Interval(*(part.take(source, end) for end in values[source])))
        small, inputs = of_used_inputs(part.graph)
        known[0] = Interval(box.lower[:, inputs], box.upper[:, inputs])
        yield Field(window, part, small, known, here.flatten(1))
