"""The bytes of an ONNX file as nodes, constants and input specifications."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import onnx
import torch
from onnx import numpy_helper

from lirpa_verify.errors import ModelError, UnsupportedOperator
from lirpa_verify.load.nodes import OPERATORS
from lirpa_verify.load.nodes.types import known_type, to_torch
from lirpa_verify.load.onnx_functions import inline_functions, nodes_of
from lirpa_verify.load.recording import TensorSpec

_DEFAULT_DOMAINS = ("", "ai.onnx")


@dataclass(frozen=True)
class OnnxGraph:
    """A graph in the order in which its nodes run; attribute graphs (of If and Loop) are graphs again."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[str, ...]
    constants: Mapping[str, torch.Tensor]
    nodes: tuple[OnnxNode, ...]


@dataclass(frozen=True)
class OnnxNode:
    op: str
    name: str
    domain: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]
    proto: onnx.NodeProto | None  # kept only for operators that onnx2torch converts


@dataclass(frozen=True)
class OnnxModel:
    graph: OnnxGraph
    opsets: Mapping[str, int]  # per domain, "" for the standard one
    producer: str


def parse_model(data: bytes, name: str) -> OnnxModel:
    """Read a model; `name` is what error messages call it."""
    proto = _read(data, name)
    _refuse_external_data(proto, name)
    proto = inline_functions(proto)
    opsets = {"" if entry.domain in _DEFAULT_DOMAINS else entry.domain: entry.version for entry in proto.opset_import}
    if "" not in opsets:
        raise ModelError(f"model '{name}' does not say which opset it uses")
    graph = _graph(proto.graph, name)
    if not graph.inputs:
        raise ModelError(f"model '{name}' has no inputs that are not constants")
    if not graph.outputs:
        raise ModelError(f"model '{name}' has no outputs")
    return OnnxModel(graph, opsets, " ".join(filter(None, (proto.producer_name, proto.producer_version))))


def without_zero_dimensions(data: bytes) -> bytes:
    """The same model with input dimensions of 0, which some exporters write for unknown ones, as 1.

    onnxruntime takes a 0 at its word and refuses anything but empty inputs.
    """
    proto = onnx.load_model_from_string(data)
    zero = [
        dim
        for value in proto.graph.input
        for dim in value.type.tensor_type.shape.dim
        if dim.HasField("dim_value") and not dim.dim_value
    ]
    for dim in zero:
        dim.dim_value = 1
    serialized: bytes = proto.SerializeToString()
    return serialized if zero else data


def _read(data: bytes, name: str) -> onnx.ModelProto:
    try:
        proto = onnx.load_model_from_string(data)
    except Exception as error:  # protobuf's decoding errors share no public base class
        raise ModelError(f"model '{name}' is not an ONNX file (damaged or incomplete): {error}") from error
    if not proto.graph.node and not proto.graph.output:
        raise ModelError(f"model '{name}' holds no graph")
    garbled = next((text for text in _names(proto) if not isinstance(text, str)), None)
    if garbled is not None:
        raise ModelError(f"model '{name}' is damaged: the name {garbled!r} is no text")
    return proto


def _names(proto: onnx.ModelProto) -> Iterator[str | bytes]:
    """Names in the model; protobuf gives those that are no UTF-8 as bytes."""
    for node in nodes_of(proto.graph):
        yield from (node.op_type, node.domain, node.name, *node.input, *node.output)
        yield from (attribute.name for attribute in node.attribute)
    for values in (proto.graph.initializer, proto.graph.input, proto.graph.output):
        yield from (value.name for value in values)
    yield from (entry.domain for entry in proto.opset_import)


def _refuse_external_data(proto: onnx.ModelProto, name: str) -> None:
    for tensor in proto.graph.initializer:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            raise ModelError(
                f"model '{name}' keeps the weights '{tensor.name}' in another file; store it as one file "
                "(onnx.save_model without save_as_external_data)"
            )


def _graph(proto: onnx.GraphProto, name: str) -> OnnxGraph:
    if len(proto.sparse_initializer):
        raise ModelError(f"model '{name}' has sparse weights, which are not supported")
    constants = {tensor.name: _tensor(tensor, name, tensor.name) for tensor in proto.initializer}
    inputs = tuple(_input(value, name) for value in proto.input if value.name not in constants)
    known = constants.keys() | {value.name for value in inputs}
    nodes = _sorted_nodes([_node(node, name, i) for i, node in enumerate(proto.node)], known, name)
    outputs = tuple(value.name for value in proto.output)
    produced = known | {output for node in nodes for output in node.outputs}
    for output in outputs:
        if output not in produced:
            raise ModelError(f"model '{name}': nothing computes the output '{output}'")
    return OnnxGraph(inputs, outputs, constants, tuple(nodes))


def _subgraph(proto: onnx.GraphProto, name: str) -> OnnxGraph:
    """The graph in an attribute: it reads values of the graph around it, and its inputs need no types."""
    constants = {tensor.name: _tensor(tensor, name, tensor.name) for tensor in proto.initializer}
    inputs = tuple(TensorSpec(value.name, (), torch.float32) for value in proto.input)
    nodes = tuple(_node(node, name, i) for i, node in enumerate(proto.node))
    return OnnxGraph(inputs, tuple(value.name for value in proto.output), constants, nodes)


def values_read(node: OnnxNode) -> set[str]:
    """The values that a node reads: its inputs, and what its subgraphs take from around them."""
    read = set(node.inputs) - {""}
    for value in node.attributes.values():
        if isinstance(value, OnnxGraph):
            inner = {spec.name for spec in value.inputs} | value.constants.keys()
            inner |= {output for child in value.nodes for output in child.outputs}
            read |= set().union(value.outputs, *(values_read(child) for child in value.nodes)) - inner
    return read


def _input(value: onnx.ValueInfoProto, name: str) -> TensorSpec:
    if not value.type.HasField("tensor_type"):
        raise ModelError(f"model '{name}': input '{value.name}' is not a tensor")
    kind = value.type.tensor_type
    dtype = known_type(kind.elem_type)
    if dtype is None:
        type_name = onnx.TensorProto.DataType.Name(kind.elem_type)
        raise ModelError(
            f"model '{name}': input '{value.name}' has element type {type_name}; "
            "convert the model to float32 or float64"
        )
    if not kind.HasField("shape"):
        raise ModelError(f"model '{name}': input '{value.name}' has no shape")
    # Dynamic and zero dimensions count as 1, as in the competition's rules.
    return TensorSpec(value.name, tuple(dim.dim_value or 1 for dim in kind.shape.dim), dtype)


def _node(proto: onnx.NodeProto, name: str, position: int) -> OnnxNode:
    label = proto.name or next(filter(None, proto.output), "") or f"{proto.op_type}_{position}"
    domain = "" if proto.domain in _DEFAULT_DOMAINS else proto.domain
    attributes = {entry.name: _attribute(entry, name, label) for entry in proto.attribute}
    kept = None
    if domain or proto.op_type not in OPERATORS:
        kept = onnx.NodeProto()  # a copy: the node itself would keep the whole file in memory
        kept.CopyFrom(proto)
    return OnnxNode(proto.op_type, label, domain, tuple(proto.input), tuple(proto.output), attributes, kept)


def _attribute(proto: onnx.AttributeProto, name: str, label: str) -> Any:
    if proto.type == onnx.AttributeProto.GRAPH:
        return _subgraph(proto.g, name)
    value = onnx.helper.get_attribute_value(proto)
    if isinstance(value, onnx.TensorProto):
        return _tensor(value, name, label)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [entry.decode("utf-8", "replace") if isinstance(entry, bytes) else entry for entry in value]
    return value


def _tensor(proto: onnx.TensorProto, name: str, label: str) -> torch.Tensor:
    if known_type(proto.data_type) is None and proto.data_type not in (
        onnx.TensorProto.UINT32,
        onnx.TensorProto.UINT64,
        onnx.TensorProto.UINT16,
    ):
        type_name = onnx.TensorProto.DataType.Name(proto.data_type)
        raise UnsupportedOperator("Constant", label, f"element type {type_name} is not supported")
    try:
        return to_torch(numpy_helper.to_array(proto), label)
    except ValueError as error:
        raise ModelError(f"model '{name}': the constant '{label}' is damaged: {error}") from error


def _sorted_nodes(nodes: list[OnnxNode], known: Set[str], name: str) -> list[OnnxNode]:
    """Nodes in an order in which they can run: the standard asks for it, some writers do not keep to it."""
    ready, waiting = set(known), list(nodes)
    result: list[OnnxNode] = []
    while waiting:
        later = []
        for node in waiting:
            if ready.issuperset(values_read(node)):
                result.append(node)
                ready.update(node.outputs)
            else:
                later.append(node)
        if len(later) == len(waiting):
            missing = sorted(values_read(later[0]) - ready)[0]
            raise ModelError(
                f"model '{name}': node '{later[0].name}' reads '{missing}', which nothing computes before it"
            )
        waiting = later
    return result
