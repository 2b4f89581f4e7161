"""One graph of several networks, each on its part of the inputs, with products of inputs and outputs behind it.

Constraints that relate networks, or are polynomials, are linear in the outputs of this graph.
"""

from __future__ import annotations

from collections import Counter

import torch
from torch import Tensor

from lirpa_verify.graph.graph import Graph
from lirpa_verify.graph.lower import Builder, Symbol
from lirpa_verify.graph.simplify import simplify
from lirpa_verify.operators.constant import Input
from lirpa_verify.operators.multiply import Multiply
from lirpa_verify.operators.power import power
from lirpa_verify.operators.rearrange import Concat, Gather

Product = tuple[int, ...]  # places of the factors among the inputs of all networks and their outputs


def joined_graph(graphs: list[Graph], index: Tensor, products: tuple[Product, ...]) -> Graph:
    """A graph from the distinct inputs to all networks' outputs and the products.

    Args:
        graphs: of the networks.
        index: ``(inputs of all networks,)`` int64, which input of the result each of them is.
        products: what comes behind the outputs.
    """
    builder = Builder(label="query")
    whole = builder.add(Input(), [], (int(index.max()) + 1,))
    parts = index.split([graph.n_inputs for graph in graphs])
    outputs = [
        _spliced(builder, graph, _picked(builder, whole, part)) for graph, part in zip(graphs, parts, strict=True)
    ]
    if products:
        values = _joined(builder, [_picked(builder, whole, index), *outputs])
        outputs.append(_multiplied(builder, values, products))
    last = _joined(builder, outputs)
    if last.node != len(builder.nodes) - 1:  # of several equal networks: the output is the last node
        last = builder.append(Gather(torch.arange(last.shape[0]), last.shape, last.shape), [last], last.shape)
    return simplify(Graph(tuple(builder.nodes)))


def _picked(builder: Builder, x: Symbol, index: Tensor) -> Symbol:
    """Entries of a vector."""
    if torch.equal(index, torch.arange(x.shape[0])):
        return x
    return builder.add(Gather(index, x.shape, (len(index),)), [x], (len(index),))


def _joined(builder: Builder, vectors: list[Symbol]) -> Symbol:
    sizes = tuple(vector.shape[0] for vector in vectors)
    return vectors[0] if len(vectors) == 1 else builder.add(Concat(0, sizes), vectors, (sum(sizes),))


def _spliced(builder: Builder, graph: Graph, x: Symbol) -> Symbol:
    """The nodes of a graph on an input of their own."""
    symbols = [x]
    for node in graph.nodes[1:]:
        builder.label = node.name
        symbols.append(builder.add(node.operator, [symbols[a] for a in node.arguments], node.shape))
    builder.label = "query"
    return builder.reshape(symbols[-1], (graph.n_outputs,))


def _multiplied(builder: Builder, values: Symbol, products: tuple[Product, ...]) -> Symbol:
    """All products of the entries, in their order; those of the same pattern of powers are one node."""
    by_pattern: dict[tuple[int, ...], list[int]] = {}
    factors = [sorted(Counter(product).items(), key=lambda factor: (factor[1], factor[0])) for product in products]
    for number, factored in enumerate(factors):
        by_pattern.setdefault(tuple(exponent for _, exponent in factored), []).append(number)
    results = []
    for pattern, numbers in by_pattern.items():
        result: Symbol | None = None
        for position, exponent in enumerate(pattern):
            places = torch.tensor([factors[number][position][0] for number in numbers])
            factor = _picked(builder, values, places)
            if exponent > 1:
                factor = builder.add(power(exponent), [factor], factor.shape)
            result = factor if result is None else builder.add(Multiply(), [result, factor], factor.shape)
        results.append(result)
    order = torch.tensor([number for numbers in by_pattern.values() for number in numbers])
    return _picked(builder, _joined(builder, [r for r in results if r is not None]), order.argsort())
