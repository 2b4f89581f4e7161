"""Sums of ReLUs whose arguments are multiples of one another need one of them.

For c > 0, ``relu(c z) = c relu(z)`` and ``relu(-c z) = c relu(z) - c z``. Models write ``|z|`` as
``relu(z) + relu(-z)``, and z itself as ``relu(z) - relu(-z)``; relaxations of both ReLUs do not know that they move
together. `mirror.py` finds such neurons within one layer, this file in sums of layers of their own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from lirpa_verify.graph.graph import Graph, Node
from lirpa_verify.operators.arithmetic import Combine, Scale
from lirpa_verify.operators.constant import Constant
from lirpa_verify.operators.rearrange import Reshape
from lirpa_verify.operators.relu import ReLU

LEAST_LEFT = 1e-3  # of what cancels in a weight; what is smaller, but not 0, may be rounding


def merge_multiples(graph: Graph) -> Graph | None:
    """The same function with fewer ReLUs in sums; None where there is nothing to merge."""
    better = [summed(graph.nodes, node) for node in graph.nodes]
    if all(node is None for node in better):
        return None
    return Graph(tuple(new or old for new, old in zip(better, graph.nodes, strict=True)))


def summed(nodes: Sequence[Node], node: Node) -> Node | None:
    """A sum with the multiples among its terms taken together."""
    if not isinstance(node.operator, Combine):
        return None
    terms: dict[int, list[float]] = {}
    merged = False
    for a, weight in zip(node.arguments, node.operator.weights, strict=True):
        for first in terms:
            c = multiple(nodes, first, a)
            if c is not None:
                terms[first].append(weight * abs(c))
                if c < 0:  # leaky ReLUs: f(-z) = f(z) - (1 + leak) z
                    z, leak = nodes[first].arguments[0], getattr(nodes[first].operator, "leak", 0.0)
                    terms.setdefault(z, []).append(weight * c * (1 + leak))
                merged = True
                break
        else:
            terms.setdefault(a, []).append(weight)
    total = {a: math.fsum(weights) for a, weights in terms.items()}
    if not merged or any(0 < abs(total[a]) < LEAST_LEFT * max(map(abs, terms[a])) for a in terms):
        return None
    left = {a: weight for a, weight in total.items() if weight != 0}
    if not left:
        return Node(Constant(torch.zeros(node.shape, dtype=torch.float64)), (), node.shape, node.name)
    same = list(left.values()) == [1.0]
    operator = Reshape(node.shape, node.shape) if same else Combine(tuple(left.values()))
    return replace(node, operator=operator, arguments=tuple(left))


def multiple(nodes: Sequence[Node], first: int, other: int) -> float | None:
    """The number c such that one node is the first one, or a ReLU of exactly c times the argument of that ReLU."""
    if first == other:
        return 1.0
    here, there = nodes[first].operator, nodes[other].operator
    if not (type(here) is ReLU and type(there) is ReLU and here == there):
        return None
    (below, factor, shift), (also, other_factor, other_shift) = (affine(nodes, i) for i in (first, other))
    if below != also:
        return None
    largest = factor.abs().argmax()
    c = float(other_factor[largest] / factor[largest])
    if c == 0 or not math.isfinite(c):
        return None
    return c if torch.equal(c * factor, other_factor) and torch.equal(c * shift, other_shift) else None


def affine(nodes: Sequence[Node], i: int) -> tuple[int, Tensor, Tensor]:
    """A ReLU's argument as ``factor * node + shift``, the last two as ``(entries,)``."""
    z = nodes[i].arguments[0]
    operator, shape = nodes[z].operator, nodes[z].shape
    one = torch.ones((), dtype=torch.float64)
    if not isinstance(operator, Scale):
        return z, one.expand(shape).flatten(), (0 * one).expand(shape).flatten()
    factor, shift = one if operator.factor is None else operator.factor, operator.shift
    shift = 0 * one if shift is None else shift
    return nodes[z].arguments[0], factor.expand(shape).flatten(), shift.expand(shape).flatten()
