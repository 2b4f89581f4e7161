"""Values that only say where ScatterND writes.

A slice at a place that the input decides has fewer entries where it leaves its tensor. Recordings have fixed
shapes: there the missing entries become places outside, and nothing is written to these. That is the same only if
the slice ends in places (or in shapes, which are those of the full slice), which is found out here.
"""

from __future__ import annotations

from lirpa_verify.load.onnx_model import OnnxGraph, OnnxNode

_MOVING = frozenset({"Unsqueeze", "Squeeze", "Reshape", "Expand", "Transpose", "Flatten", "Identity"})
_BROADCASTING = frozenset({"Add", "Sub", "Mul"})
_SHAPES = frozenset({"Shape", "Size"})

Use = tuple[OnnxNode, int]  # by which node, as which of its inputs


def place_names(graph: OnnxGraph) -> frozenset[str]:
    """Names of the values of a graph that end in places to write to or in shapes, and nowhere else."""
    if any(isinstance(value, OnnxGraph) for node in graph.nodes for value in node.attributes.values()):
        return frozenset()  # a subgraph may use any value
    uses: dict[str, list[Use]] = {}
    for node in graph.nodes:
        for position, name in enumerate(node.inputs):
            uses.setdefault(name, []).append((node, position))
    places: set[str] = set()
    shapes: set[str] = set()  # those that end in shapes alone
    for node in reversed(graph.nodes):
        for name in set(node.outputs).difference(graph.outputs):
            users = uses.get(name, ())
            if all(_ends_in_shapes(user, position, shapes) for user, position in users):
                shapes.add(name)
            if all(_ends_in_places(user, position, places, shapes) for user, position in users):
                places.add(name)
    return frozenset(places)


def _ends_in_shapes(node: OnnxNode, position: int, shapes: set[str]) -> bool:
    if node.domain:
        return False
    carried = node.op in _BROADCASTING or _carries(node, position)
    return node.op in _SHAPES or (carried and shapes.issuperset(node.outputs))


def _ends_in_places(node: OnnxNode, position: int, places: set[str], shapes: set[str]) -> bool:
    if _ends_in_shapes(node, position, shapes):
        return True
    written = node.op == "ScatterND" and position == 1
    return not node.domain and (written or (_carries(node, position) and places.issuperset(node.outputs)))


def _carries(node: OnnxNode, position: int) -> bool:
    """Whether the node only moves what it gets there, or takes a part of it."""
    return node.op == "Concat" or (position == 0 and (node.op in _MOVING or node.op == "Slice"))
