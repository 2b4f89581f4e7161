"""Definite quadratic forms as sums of squares.

``sum((A z + a) * (B z + b))`` (a Lyapunov function ``z^T P z``, an energy, a distance) is a quadratic form of z.
Planes for each product know nothing of the others. Where the form is convex, it is a sum of squares of
linear functions along the eigenvectors of its matrix, plus a linear function: tangents of the squares at one point
add up to a tangent plane of the form, the tightest bound from that side.

Bounds of the squares allow for rounding relative to these, not to the products, whose terms may be much larger. So
coefficients of the form are computed exactly and then rounded, and a form that is nearly singular stays as it is:
an eigenvalue that may be a rounding error may as well be a negative one, which matters far away from zero.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction

import torch
from torch import Tensor

from lirpa_verify.graph.graph import Graph, Node
from lirpa_verify.graph.simplify import prune
from lirpa_verify.operators.arithmetic import Combine
from lirpa_verify.operators.dense import Dense
from lirpa_verify.operators.multiply import Multiply
from lirpa_verify.operators.power import EvenPower
from lirpa_verify.operators.rearrange import Reshape, Sum

LEAST = 1e-5  # of the largest eigenvalue is the smallest: its own relative error is that of rounding over this
MOST_TERMS = 2**16  # of the matrix, which is added up in rational numbers


@dataclass(frozen=True)
class Affine:
    """``z @ weight + bias`` of one node."""

    argument: int
    weight: Tensor  # (entries of z, outputs)
    bias: Tensor  # (outputs,)


def join_definite_forms(graph: Graph) -> Graph:
    """The same function with every definite quadratic form written as a sum of squares."""
    nodes: list[Node] = []
    position: list[int] = []
    for i, node in enumerate(graph.nodes):
        factors = factors_of_form(graph, i)
        squares = None if factors is None else squares_of(*factors)
        if squares is None:
            nodes.append(replace(node, arguments=tuple(position[a] for a in node.arguments)))
        else:
            source = position[squares[0].argument]
            nodes.extend(sum_of_squares(len(nodes), node, source, *squares))
        position.append(len(nodes) - 1)
    return prune(nodes) if len(nodes) > len(graph.nodes) else graph


def factors_of_form(graph: Graph, i: int) -> tuple[Affine, Affine] | None:
    """The two affine functions of one vector whose scalar product node i is; None where it is none."""
    node = graph.nodes[i]
    if not isinstance(node.operator, Sum) or node.size != 1:
        return None
    product = graph.nodes[node.arguments[0]]
    if not isinstance(product.operator, Multiply) or len(graph.users[node.arguments[0]]) != 1:
        return None
    first, second = (affine(graph, a) for a in product.arguments)
    return None if first is None or second is None or first.argument != second.argument else (first, second)


def affine(graph: Graph, i: int) -> Affine | None:
    """Node i as an affine function of a vector below it, through reshapes."""
    node = graph.nodes[through_reshapes(graph, i)]
    if not isinstance(node.operator, Dense) or node.operator.weight.dim() != 2:
        return None
    weight, bias = node.operator.weight, node.operator.bias
    source = through_reshapes(graph, node.arguments[0])
    if graph.nodes[source].shape != (weight.shape[0],):
        return None
    return Affine(source, weight, weight.new_zeros(weight.shape[1]) if bias is None else bias.reshape(-1))


def through_reshapes(graph: Graph, i: int) -> int:
    while isinstance(graph.nodes[i].operator, Reshape):
        i = graph.nodes[i].arguments[0]
    return i


def squares_of(first: Affine, second: Affine) -> tuple[Affine, Affine, float] | None:
    """Linear functions whose squares, with a common sign, and what remains of the form; None where it is indefinite."""
    entries, factors = first.weight.shape
    if entries * entries * factors > MOST_TERMS:
        return None
    product = exact_product(first.weight, second.weight)
    matrix = rounded([[(product[i][j] + product[j][i]) / 2 for j in range(entries)] for i in range(entries)], first)
    used = matrix.any(1).nonzero().flatten()
    values, vectors = torch.linalg.eigh(matrix[used][:, used])
    if len(used) == 0 or bool((values > 0).any()) == bool((values < 0).any()):
        return None
    if float(values.abs().amin()) < LEAST * float(values.abs().amax()):
        return None
    weight = torch.zeros(entries, len(used), dtype=matrix.dtype, device=matrix.device)
    squares = Affine(
        first.argument, weight.index_copy(0, used, vectors * values.abs().sqrt()), weight.new_zeros(len(used))
    )
    one, other = (exact_product(f.weight, g.bias.unsqueeze(0)) for f, g in ((first, second), (second, first)))
    linear = rounded([[x + y for x, y in zip(*pair, strict=True)] for pair in zip(one, other, strict=True)], first)
    constant = rounded(exact_product(first.bias.unsqueeze(0), second.bias.unsqueeze(0)), first)
    rest = Affine(first.argument, linear, constant.reshape(1))
    return squares, rest, 1.0 if bool(values[0] > 0) else -1.0


def exact_product(x: Tensor, y: Tensor) -> list[list[Fraction]]:
    """``x @ y.T``."""
    left, right = ([[Fraction(v) for v in row] for row in t.tolist()] for t in (x, y))
    return [[sum((a * b for a, b in zip(p, q, strict=True)), Fraction(0)) for q in right] for p in left]


def rounded(rows: list[list[Fraction]], like: Affine) -> Tensor:
    return like.weight.new_tensor([[float(v) for v in row] for row in rows])


def sum_of_squares(start: int, node: Node, source: int, squares: Affine, rest: Affine, sign: float) -> list[Node]:
    """Nodes from number `start` on that compute what `node` did."""
    count, scalar = squares.weight.shape[1], squares.weight.new_full((squares.weight.shape[1], 1), sign)
    return [
        Node(Dense(squares.weight), (source,), (count,), node.name),
        Node(EvenPower(2), (start,), (count,), node.name),
        Node(Dense(scalar), (start + 1,), (1,), node.name),
        Node(Dense(rest.weight, rest.bias), (source,), (1,), node.name),
        Node(Combine((1.0, 1.0)), (start + 2, start + 3), (1,), node.name),
        Node(Reshape((1,), node.shape), (start + 4,), node.shape, node.name),
    ]
