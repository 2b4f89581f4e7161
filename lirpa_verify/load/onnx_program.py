"""Running an ONNX graph with torch, node by node, under a recorder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from lirpa_verify.errors import LirpaError, ModelError, UnsupportedOperator
from lirpa_verify.load.nodes import OPERATORS, Node
from lirpa_verify.load.onnx2torch_node import has_converter, run_with_onnx2torch
from lirpa_verify.load.onnx_model import OnnxGraph, OnnxModel, OnnxNode
from lirpa_verify.load.places import place_names
from lirpa_verify.load.record import NoEscape, recording_context
from lirpa_verify.load.recorder import Recorder
from lirpa_verify.load.recording import Recording

_CONTROL_FLOW = frozenset({"If", "Loop"})
_LONGEST_LOOP = 10_000


def record_model(model: OnnxModel, name: str) -> Recording:
    """Record the network on an input of zeros; `name` is what error messages call the model."""
    refuse_unknown_operators(model)
    inputs = [torch.zeros(spec.shape, dtype=spec.dtype) for spec in model.graph.inputs]
    recorder = Recorder(inputs, [spec.name for spec in model.graph.inputs])
    with recording_context(), NoEscape(recorder), recorder:
        outputs = _Run(model, recorder, name).graph(model.graph, {}, inputs)
    meta = {"opset": str(model.opsets[""]), "producer": model.producer}
    return recorder.finish(outputs, meta, model.graph.outputs)


def refuse_unknown_operators(model: OnnxModel) -> None:
    """Raise before anything runs if the graph has an operator that cannot be converted."""
    for node in _all_nodes(model.graph):
        if node.domain not in model.opsets:
            raise UnsupportedOperator(f"{node.domain}.{node.op}", node.name, "the model does not import its domain")
        opset = model.opsets[node.domain]
        if node.domain == "" and (node.op in OPERATORS or node.op in _CONTROL_FLOW):
            continue
        if not has_converter(node.op, node.domain, opset):
            full_name = f"{node.domain}.{node.op}" if node.domain else node.op
            raise UnsupportedOperator(
                f"{full_name} (opset {opset})", node.name, "export the model without it, or with a decomposition of it"
            )


def _all_nodes(graph: OnnxGraph) -> Sequence[OnnxNode]:
    nodes = []
    for node in graph.nodes:
        nodes.append(node)
        for value in node.attributes.values():
            if isinstance(value, OnnxGraph):
                nodes.extend(_all_nodes(value))
    return nodes


@dataclass(frozen=True)
class _Run:
    model: OnnxModel
    recorder: Recorder
    name: str

    def graph(
        self, graph: OnnxGraph, outer: Mapping[str, torch.Tensor], inputs: Sequence[torch.Tensor]
    ) -> list[torch.Tensor]:
        """The outputs of the graph; a subgraph sees the values of the graph around it."""
        values: dict[str, torch.Tensor] = {**outer, **graph.constants}
        values.update(zip((spec.name for spec in graph.inputs), inputs, strict=True))
        places = place_names(graph)
        for node in graph.nodes:
            self.recorder.label = node.name
            results = self._node(node, values, places)
            for output, result in zip(node.outputs, results, strict=False):
                if output:
                    values[output] = result
        return [values[output] for output in graph.outputs]

    def _node(
        self, node: OnnxNode, values: Mapping[str, torch.Tensor], places: frozenset[str]
    ) -> Sequence[torch.Tensor]:
        seen = Node(
            op=node.op,
            name=node.name,
            domain=node.domain,
            opset=self.model.opsets[node.domain],
            inputs=node.inputs,
            outputs=node.outputs,
            attributes=dict(node.attributes),
            only_places=places.issuperset(node.outputs),
            depends=self.recorder.depends,
            difference=self.recorder.difference,
        )
        arguments = [values[name] if name else None for name in node.inputs]
        try:
            if node.op == "If" and not node.domain:
                return self._if(seen, values, arguments)
            if node.op == "Loop" and not node.domain:
                return self._loop(seen, values, arguments)
            function: Callable[..., Any] | None = None if node.domain else OPERATORS.get(node.op)
            result = function(seen, *arguments) if function else run_with_onnx2torch(seen, node.proto, arguments)
        except LirpaError:
            raise
        except Exception as error:  # a malformed model fails in any of torch's ways: name the node, keep the cause
            raise ModelError(f"model '{self.name}': node '{node.name}' ({node.op}) fails: {error}") from error
        return result if isinstance(result, (tuple, list)) else (result,)

    def _if(
        self, node: Node, values: Mapping[str, torch.Tensor], arguments: Sequence[torch.Tensor | None]
    ) -> list[torch.Tensor]:
        chosen = node.number(arguments[0])
        if chosen is None:
            raise node.unsupported("its condition depends on the network's input")
        return self.graph(node.get("then_branch" if chosen else "else_branch"), values, ())

    def _loop(
        self, node: Node, values: Mapping[str, torch.Tensor], arguments: Sequence[torch.Tensor | None]
    ) -> list[torch.Tensor]:
        """Unrolled; whether it goes on must not depend on the network's input."""
        body: OnnxGraph = node.get("body")
        limit, going = arguments[0], arguments[1] if len(arguments) > 1 else None
        count = _LONGEST_LOOP if limit is None else (node.integers(limit, "trip count") or [0])[0]
        state = [value for value in arguments[2:] if value is not None]
        scanned: list[list[torch.Tensor]] = [[] for _ in body.outputs[1 + len(state) :]]
        for turn in range(count):
            if going is not None and node.number(going) is None:
                raise node.unsupported("its condition depends on the network's input")
            if going is not None and not node.number(going):
                break
            if turn + 1 == _LONGEST_LOOP:
                raise node.unsupported(f"more than {_LONGEST_LOOP} turns")
            condition = torch.tensor(True) if going is None else going
            going, *results = self.graph(body, values, [torch.tensor(turn), condition, *state])
            state = results[: len(state)]
            for collected, value in zip(scanned, results[len(state) :], strict=True):
                collected.append(value)
        return [*state, *(torch.stack(collected) for collected in scanned)]
