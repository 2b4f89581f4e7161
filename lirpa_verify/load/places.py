"""Values that only say where ScatterND writes.

A slice at a place that the input decides has fewer entries where it leaves its tensor. Recordings have fixed
shapes: there the missing entries become places outside, and nothing is written to these. That is the same only if
the slice ends in places (or in shapes, which are those of the full slice), which is found out here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lirpa_verify.load.onnx_model import OnnxGraph, OnnxNode

_MOVING = frozenset({"Unsqueeze", "Squeeze", "Reshape", "Expand", "Concat", "Transpose", "Flatten", "Identity"})
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
            if _all_in(name, uses, shapes, shapes):
                shapes.add(name)
            if _all_in(name, uses, places | shapes, shapes):
                places.add(name)
    return frozenset(places)


def _all_in(name: str, uses: Mapping[str, Sequence[Use]], moved: set[str], shapes: set[str]) -> bool:
    return all(_ends_well(node, position, moved, shapes) for node, position in uses.get(name, ()))


def _ends_well(node: OnnxNode, position: int, moved: set[str], shapes: set[str]) -> bool:
    """Whether a use is a shape, a place (where `moved` are more than shapes), or makes a value that ends well."""
    if node.domain:
        return False
    if node.op in _SHAPES:
        return True
    if node.op == "ScatterND":
        return position == 1 and moved is not shapes
    if node.op in _BROADCASTING:
        return shapes.issuperset(node.outputs)
    first = position == 0 or node.op == "Concat"
    return first and (node.op in _MOVING or node.op == "Slice") and moved.issuperset(node.outputs)
