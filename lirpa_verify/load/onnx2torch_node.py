"""One ONNX node through onnx2torch, for the operators that have no function of their own in `nodes`.

Each node becomes a graph of one node whose constant inputs are initialisers, with the shapes of the others known.
onnx2torch reads weights and axes only from initialisers; converted one at a time, while the network runs, every
constant is one, however it was computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx
import torch
from onnx import defs, helper, numpy_helper

from lirpa_verify.load.nodes import Node
from lirpa_verify.load.onnx2torch_import import import_onnx2torch

# Opsets from 19 on changed most operators only by allowing more element types: an older converter still applies.
_TYPES_ONLY = frozenset({19, 20, 21, 22, 23, 24, 25})


def has_converter(op: str, domain: str, opset: int) -> bool:
    """Whether onnx2torch converts this operator in this opset."""
    return _converter(op, domain, opset) is not None


def run_with_onnx2torch(node: Node, proto: onnx.NodeProto | None, values: Sequence[torch.Tensor | None]) -> Any:
    """Convert the node and run it on its inputs."""
    if proto is None:
        raise node.unsupported("it has no converter")
    import_onnx2torch()
    from onnx2torch.onnx_graph import OnnxGraph

    converter = _converter(node.op, node.domain, node.opset)
    named = {name: value for name, value in zip(node.inputs, values, strict=False) if value is not None}
    graph = OnnxGraph(
        helper.make_graph(
            [proto],
            "node",
            [_value_info(name, value) for name, value in named.items() if node.depends(value)],
            [helper.make_tensor_value_info(name, onnx.TensorProto.UNDEFINED, None) for name in node.outputs],
            [numpy_helper.from_array(value.numpy(), name) for name, value in named.items() if not node.depends(value)],
        )
    )
    onnx_node = next(iter(graph.nodes.values()))
    try:
        module, mapping = converter(onnx_node, graph)
    except (NotImplementedError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise node.unsupported(f"onnx2torch cannot convert it: {error}") from error
    with torch.no_grad():
        return module.eval()(*[named.get(name) for name in mapping.inputs])


def _converter(op: str, domain: str, opset: int) -> Any:
    import_onnx2torch()
    from onnx2torch.node_converters.registry import get_converter

    while opset > 0:
        try:
            return get_converter(operation_type=op, version=opset, domain=domain)
        except NotImplementedError:
            since = _since(op, domain, opset)
            if since not in _TYPES_ONLY:
                return None
            opset = since - 1
    return None


def _since(op: str, domain: str, opset: int) -> int | None:
    try:
        return int(defs.get_schema(op, domain=domain, max_inclusive_version=opset).since_version)
    except defs.SchemaError:
        return None


def _value_info(name: str, value: torch.Tensor) -> onnx.ValueInfoProto:
    kind = helper.np_dtype_to_tensor_dtype(torch.empty(0, dtype=value.dtype).numpy().dtype)
    return helper.make_tensor_value_info(name, kind, list(value.shape))
