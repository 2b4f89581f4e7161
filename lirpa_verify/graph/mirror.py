"""Neurons of a ReLU layer that repeat or mirror one another are kept once.

With ``relu(-z) = relu(z) - z`` a layer whose pre-activations come in pairs z and -z (as where a network
writes |z|, or z itself, with ReLUs) has half the ReLUs and a linear path beside them. Where both halves
enter with opposite weights nothing but the linear path is left. Bounds become tighter, as the
relaxation of a mirrored pair does not know that its two halves move together.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lirpa_verify.graph.graph import Graph, Node
from lirpa_verify.graph.mirror_channels import channels_below, without_channels
from lirpa_verify.operators.arithmetic import Combine
from lirpa_verify.operators.convolution import Convolution
from lirpa_verify.operators.dense import Dense
from lirpa_verify.operators.relu import ReLU
from lirpa_verify.operators.sparse_dense import SPARSE_DENSITY, SparseDense, product

NEAR = 1e-9  # of the largest: far above what rounding may add to a sum, far below how sums differ by chance
WORTHWHILE = 0.02  # of the neurons must be copies: the linear path costs a product of its own


@dataclass(frozen=True)
class Copies:
    """Per neuron the first one that has its pre-activation, and whether with the same sign."""

    first: Tensor  # (neurons,) int64; the neuron itself where it is the first
    same: Tensor  # (neurons,) bool


def merge_mirrored(graph: Graph) -> Graph:
    """The same function with every matrix, ReLU, matrix chain rewritten where enough neurons are copies."""
    nodes: list[Node] = []
    position: list[int] = []
    for i, node in enumerate(graph.nodes):
        moved = replace(node, arguments=tuple(position[a] for a in node.arguments))
        channels = channels_below(graph, i)
        if channels is not None:
            copies = worthwhile_copies(channels)
            below = nodes[nodes[moved.arguments[0]].arguments[0]].operator
            rewritten = copies is not None and isinstance(below, Convolution)
            nodes.extend(without_channels(nodes, moved, copies.first, copies.same) if copies and rewritten else [moved])
            position.append(len(nodes) - 1)
            continue
        copies = copies_below(graph, i)
        if copies is not None and not isinstance(nodes[nodes[moved.arguments[0]].arguments[0]].operator, Dense):
            copies = None  # the matrix below was itself the end of a chain that has just been rewritten
        nodes.extend([moved] if copies is None else without_copies(nodes, moved, copies))
        position.append(len(nodes) - 1)
    return Graph(tuple(nodes)) if len(nodes) > len(graph.nodes) else graph


def copies_below(graph: Graph, i: int) -> Copies | None:
    """The copies among the neurons of a chain that ends in node i; None where it is no such chain."""
    chain = [graph.nodes[i]]
    for kind in (ReLU, Dense):
        below = chain[-1].arguments[0] if chain[-1].arguments else 0
        if not isinstance(graph.nodes[below].operator, kind) or len(graph.users[below]) != 1:
            return None
        chain.append(graph.nodes[below])
    after, relu, before = (node.operator for node in chain)
    if not (isinstance(after, Dense) and plain(after) and isinstance(before, Dense) and plain(before)):
        return None
    return worthwhile_copies(before) if relu == ReLU() else None


def worthwhile_copies(dense: Dense) -> Copies | None:
    """The copies among the columns, where there are enough of them."""
    if not may_have_copies(dense):
        return None
    copies = find_copies(dense)
    itself = copies.first == torch.arange(len(copies.first))
    return copies if int((~itself).sum()) >= WORTHWHILE * len(itself) else None


def plain(dense: Dense) -> bool:
    """One matrix, and a bias that is the same for all of the node's rows."""
    return dense.weight.dim() == 2 and (dense.bias is None or dense.bias.numel() == dense.weight.shape[1])


def may_have_copies(dense: Dense) -> bool:
    """Whether enough columns have nearly equal random sums, up to sign: one product, also for the largest matrices."""
    mix = torch.rand(len(dense.weight), generator=torch.Generator().manual_seed(0), dtype=dense.weight.dtype)
    total = (mix @ dense.weight).abs().sort().values
    near = total[1:] - total[:-1] <= NEAR * total[-1]
    return int(near.sum()) >= WORTHWHILE * len(total)


def find_copies(dense: Dense) -> Copies:
    """Columns with equal random sums (up to sign) are compared entry by entry; most matrices here are sparse."""
    weight = torch.cat([dense.weight, column_bias(dense).unsqueeze(0)])
    row, column = weight.nonzero(as_tuple=True)
    value = weight[row, column]
    n = weight.shape[1]
    mix = torch.rand(len(weight), generator=torch.Generator().manual_seed(0), dtype=weight.dtype)
    total = weight.new_zeros(n).index_add(0, column, value * mix[row])
    _, group = torch.unique(total.abs(), return_inverse=True)
    number = torch.arange(n)
    first = torch.full_like(group, n).scatter_reduce(0, group, number, "amin")[group]
    same = (total >= 0) == (total[first] >= 0)

    order = torch.argsort(column, stable=True)
    row, column, value = row[order], column[order], value[order]
    count = torch.bincount(column, minlength=n)
    start = count.cumsum(0) - count
    opposite = (start[first[column]] + torch.arange(len(column)) - start[column]).clamp(max=len(column) - 1)
    signed = torch.where(same[column], value, -value)
    differs = (row != row[opposite]) | (signed != value[opposite])
    equal = torch.bincount(column, differs.double(), minlength=n) == 0
    equal &= count == count[first]
    return Copies(torch.where(equal, first, number), same | ~equal)


def column_bias(dense: Dense) -> Tensor:
    return dense.weight.new_zeros(dense.weight.shape[1]) if dense.bias is None else dense.bias.reshape(-1)


def sparse_product(a: Tensor, b: Tensor) -> Tensor:
    """``a @ b`` for a matrix b that is mostly zero."""
    row, _column = b.nonzero(as_tuple=True)
    if len(row) > SPARSE_DENSITY * b.numel():
        return a @ b
    return product(a, SparseDense.of(b, None).turned)


def without_copies(nodes: list[Node], after: Node, copies: Copies) -> list[Node]:
    """The chain's new nodes: kept pre-activations, their ReLU, its product, the linear path and their sum."""
    relu = nodes[after.arguments[0]]
    before = nodes[relu.arguments[0]]
    assert isinstance(after.operator, Dense) and isinstance(before.operator, Dense)
    weight = after.operator.weight
    gathered = torch.zeros_like(weight).index_add(0, copies.first, weight)
    mirrored = torch.where(copies.same.unsqueeze(1), 0.0, weight)
    passed = torch.zeros_like(weight).index_add(0, copies.first, -mirrored)  # relu(-z) = relu(z) - z
    kept = (gathered != 0).any(1).nonzero().flatten()
    kept = kept if len(kept) else kept.new_zeros(1)
    bias = column_bias(before.operator)
    start, source = len(nodes), before.arguments

    def shape(n: int) -> tuple[int, ...]:
        return (*before.shape[:-1], n)

    first = Dense(before.operator.weight[:, kept], bias[kept])
    second = Dense(gathered[kept], after.operator.bias)
    beside = Dense(sparse_product(before.operator.weight, passed), bias @ passed)
    return [
        Node(first, source, shape(len(kept)), before.name),
        Node(ReLU(), (start,), shape(len(kept)), relu.name),
        Node(second, (start + 1,), after.shape, after.name),
        Node(beside, source, after.shape, after.name),
        Node(Combine((1.0, 1.0)), (start + 2, start + 3), after.shape, after.name),
    ]
