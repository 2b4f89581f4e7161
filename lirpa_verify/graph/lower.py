"""Recording -> graph: ATen calls become operators.

`RULES` maps the name of an ATen call (without its overload) to a function that adds the nodes it
stands for. Rules live in `aten_linear.py` and `aten_nonlinear.py`; this file walks the recording.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from lirpa_verify.errors import UnsupportedOperator
from lirpa_verify.graph.graph import Graph, Node
from lirpa_verify.load.recording import Call, Const, Recording, Ref, TensorSpec
from lirpa_verify.operators.base import Operator
from lirpa_verify.operators.constant import Constant, Input
from lirpa_verify.operators.rearrange import Concat, Gather, Reshape
from lirpa_verify.operators.transforms import differentiated

COMPARED = 64  # entries of a tensor that are compared one by one


@dataclass(frozen=True)
class Symbol:
    """A value that depends on the input: a node of the graph under construction."""

    node: int
    shape: tuple[int, ...]


Rule = Callable[["Builder", Call, list[Any]], "Symbol | tuple[Symbol | None, ...]"]


@dataclass
class Builder:
    """Collects nodes; `label` names the call being lowered."""

    nodes: list[Node] = field(default_factory=list)
    label: str = ""
    truths: set[int] = field(default_factory=set)  # nodes whose values are 0 or 1, as the recorded types say
    integers: set[int] = field(default_factory=set)
    known: dict[Any, Symbol] = field(default_factory=dict)  # by what they compute

    def add(self, operator: Operator, arguments: list[Symbol], shape: tuple[int, ...]) -> Symbol:
        """The node of an operator on nodes; the same again where there is one."""
        key = (identity(operator), tuple(a.node for a in arguments), shape)
        if key not in self.known:
            self.known[key] = self.append(operator, arguments, shape)
        return self.known[key]

    def append(self, operator: Operator, arguments: list[Symbol], shape: tuple[int, ...]) -> Symbol:
        self.nodes.append(Node(operator, tuple(a.node for a in arguments), shape, self.label))
        return Symbol(len(self.nodes) - 1, shape)

    def note_type(self, x: Symbol, spec: TensorSpec | None) -> None:
        if spec is not None and spec.dtype == torch.bool:
            self.truths.add(x.node)
        if spec is not None and not spec.dtype.is_floating_point:
            self.integers.add(x.node)

    def reshape(self, x: Symbol, shape: tuple[int, ...]) -> Symbol:
        return x if x.shape == shape else self.add(Reshape(x.shape, shape), [x], shape)

    def constant(self, value: Tensor) -> Symbol:
        return self.add(Constant(value), [], tuple(value.shape))

    def symbol(self, value: Symbol | Tensor) -> Symbol:
        """A node for a value that may be constant."""
        return value if isinstance(value, Symbol) else self.constant(as_float(value))


def identity(operator: Operator) -> tuple[Any, ...]:
    """What makes two operators the same; of large tensors only their place in memory tells."""
    parts: list[Any] = [type(operator)]
    for f in dataclasses.fields(operator):
        value = getattr(operator, f.name)
        if isinstance(value, Tensor):
            small = value.numel() <= COMPARED and not differentiated(value)  # equal parameters may part
            value = (tuple(value.shape), value.dtype, tuple(value.reshape(-1).tolist()) if small else id(value))
        parts.append(value)
    return tuple(parts)


def as_float(value: Tensor | float) -> Tensor:
    return torch.as_tensor(value, dtype=torch.float64)


def operator_name(call: Call) -> str:
    """``aten.convolution.default`` -> ``convolution``."""
    return call.op.split(".")[1]


def lower(recording: Recording, rules: dict[str, Rule]) -> Graph:
    """The graph of a recording, in float64.

    Inputs are slices of one flat vector in the recording's order, outputs are flattened and joined.

    Raises:
        UnsupportedOperator: a call has no rule; names the call and the node it came from.
    """
    unsupported = [call for call in recording.calls if operator_name(call) not in rules]
    if unsupported:
        call = unsupported[0]
        raise UnsupportedOperator(call.op, call.label, "no bound rule is known for it")
    builder = Builder()
    symbols = _inputs(builder, recording)
    constants = [as_float(c) if c.is_floating_point() else c for c in recording.constants]

    def resolve(value: Any) -> Any:
        if isinstance(value, Ref):
            if value not in symbols:  # a further result that the rule of its call does not make
                call = recording.calls[value.call]
                detail = f"no bound rule is known for its result number {value.item + 1}"
                raise UnsupportedOperator(call.op, call.label, detail)
            return symbols[value]
        if isinstance(value, Const):
            return constants[value.index]
        if isinstance(value, tuple | list):
            return [resolve(v) for v in value]
        return value

    for i, call in enumerate(recording.calls):
        builder.label = call.label or call.op
        result = rules[operator_name(call)](builder, call, resolve(call.args))
        for item, symbol in enumerate(result if isinstance(result, tuple) else (result,)):
            if symbol is not None:
                symbols[Ref(i, item)] = symbol
                builder.note_type(symbol, call.outputs[item])
    builder.label = "output"
    outputs = [builder.symbol(resolve(o)) for o in recording.outputs]
    flat = [builder.reshape(o, (math.prod(o.shape),)) for o in outputs]
    sizes = tuple(o.shape[0] for o in flat)
    joined = builder.add(Concat(0, sizes), flat, (sum(sizes),)) if len(flat) > 1 else flat[0]
    return Graph(_reachable(builder.nodes, joined.node))


def _inputs(builder: Builder, recording: Recording) -> dict[Ref, Symbol]:
    sizes = [math.prod(spec.shape) for spec in recording.inputs]
    whole = builder.add(Input(), [], (sum(sizes),))
    symbols: dict[Ref, Symbol] = {}
    start = 0
    for i, (spec, size) in enumerate(zip(recording.inputs, sizes, strict=True)):
        builder.label = spec.name
        if len(sizes) == 1:
            symbols[Ref(-1)] = builder.reshape(whole, tuple(spec.shape))
        else:
            index = torch.arange(start, start + size)
            symbols[Ref(-1 - i)] = builder.add(
                Gather(index, whole.shape, tuple(spec.shape)), [whole], tuple(spec.shape)
            )
        start += size
    return symbols


def _reachable(nodes: list[Node], output: int) -> tuple[Node, ...]:
    """The nodes that the output needs (the input always), output last, renumbered."""
    needed = {0, output}
    for i in range(output, 0, -1):
        if i in needed:
            needed.update(nodes[i].arguments)
    order = [*sorted(needed - {output}), output]
    if output == 0:  # a network that returns its input: give it a node of its own
        nodes = [*nodes, Node(Reshape(nodes[0].shape, nodes[0].shape), (0,), nodes[0].shape, "output")]
        order = [0, len(nodes) - 1]
    renumber = {old: new for new, old in enumerate(order)}
    return tuple(
        Node(n.operator, tuple(renumber[a] for a in n.arguments), n.shape, n.name) for n in (nodes[i] for i in order)
    )
