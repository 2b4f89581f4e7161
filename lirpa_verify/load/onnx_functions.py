"""Calls of functions replaced by their bodies.

A model may define functions of its own, and the standard defines many operators as functions of simpler ones. Both
are expanded; the standard's only where the operator has no function in `nodes` and no onnx2torch converter.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx
from onnx import inliner

from lirpa_verify.errors import ModelError
from lirpa_verify.load.nodes import OPERATORS
from lirpa_verify.load.onnx2torch_node import has_converter

_DEEPEST = 8  # bodies may again hold functions


def inline_functions(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with every call expanded that can and must be."""
    if len(model.functions):
        try:
            model = inliner.inline_local_functions(model)
        except (RuntimeError, ValueError) as error:
            raise ModelError(f"the functions that the model defines cannot be expanded: {error}") from error
    opset = max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=0)
    tried: set[str] = set()
    for _ in range(_DEEPEST):
        unknown = {
            node.op_type
            for node in nodes_of(model.graph)
            if node.domain in ("", "ai.onnx") and node.op_type not in OPERATORS
        } - tried
        unknown = {op for op in unknown if _is_function(op, opset) and not has_converter(op, "", opset)}
        if not unknown:
            break
        tried |= unknown
        try:
            model = _expand(model, unknown)
        except (
            RuntimeError,
            ValueError,
        ):  # the inliner's way of giving up; the operator is then reported as unsupported
            break
    return model


def _expand(model: onnx.ModelProto, operators: set[str]) -> onnx.ModelProto:
    """The bodies of some functions depend on the types of the arguments, so these are worked out first."""
    typed = onnx.ModelProto()
    typed.CopyFrom(model)
    declared = {value.name for value in (*typed.graph.input, *typed.graph.value_info)}
    for tensor in typed.graph.initializer:
        if tensor.name not in declared:
            typed.graph.value_info.append(
                onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
            )
    typed = onnx.shape_inference.infer_shapes(typed)
    return inliner.inline_selected_functions(
        typed, [("", op) for op in sorted(operators)], exclude=False, inline_schema_functions=True
    )


def _is_function(op: str, opset: int) -> bool:
    try:
        schema = onnx.defs.get_schema(op, max_inclusive_version=opset, domain="")
    except onnx.defs.SchemaError:
        return False
    return bool(schema.has_function or schema.has_context_dependent_function)  # type: ignore[attr-defined]


def nodes_of(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """All nodes, those of attribute graphs included."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from nodes_of(attribute.g)
