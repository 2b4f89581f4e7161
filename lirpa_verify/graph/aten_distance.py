"""Lowering rules of distances and angles."""

from __future__ import annotations

from typing import Any

import torch

from lirpa_verify.graph.aten_groups import p_norm, range_like
from lirpa_verify.graph.building import broadcast, combined, nonlinear, operand, shape_of
from lirpa_verify.graph.lower import Builder, Rule, Symbol
from lirpa_verify.load.recording import Call
from lirpa_verify.operators.arctangent2 import Arctangent2
from lirpa_verify.operators.power import EvenPower, RealPower
from lirpa_verify.operators.rearrange import Gather


def pairwise(b: Builder, call: Call, args: list[Any]) -> Symbol:
    """cdist: the p-norm of the difference of every row of one value and every row of another."""
    first, second = (b.symbol(value) for value in args[:2])
    order = float(args[2]) if len(args) > 2 else 2.0
    shape = shape_of(call)
    whole = (*shape, first.shape[-1])
    rows = b.reshape(first, (*first.shape[:-1], 1, first.shape[-1]))
    columns = b.reshape(second, (*second.shape[:-2], 1, *second.shape[-2:]))
    difference = combined(b, broadcast(b, rows, whole), broadcast(b, columns, whole), -1.0)
    return p_norm(b, call, difference, order, [-1], shape)


def among_rows(b: Builder, call: Call, args: list[Any]) -> Symbol:
    """pdist: the distances of every row to those after it."""
    x, order = args[0], float(args[1]) if len(args) > 1 else 2.0
    numbers = range_like(x.shape)
    pairs = torch.triu_indices(x.shape[0], x.shape[0], 1)
    shape = (pairs.shape[1], x.shape[1])
    parts = [b.add(Gather(numbers[side].reshape(-1), x.shape, shape), [x], shape) for side in pairs]
    return p_norm(b, call, combined(b, parts[0], parts[1], -1.0), order, [-1], shape_of(call))


def angle(b: Builder, call: Call, args: list[Any]) -> Symbol:
    shape = shape_of(call)
    return nonlinear(b, Arctangent2(), [operand(b, value, shape) for value in args[:2]])


def hypotenuse(b: Builder, call: Call, args: list[Any]) -> Symbol:
    shape = shape_of(call)
    squares = [nonlinear(b, EvenPower(2), [operand(b, value, shape)]) for value in args[:2]]
    return nonlinear(b, RealPower(0.5), [combined(b, squares[0], squares[1])])


def euclidean(b: Builder, call: Call, args: list[Any]) -> Symbol:
    return pairwise(b, call, [*args[:2], 2.0])


DISTANCE_RULES: dict[str, Rule] = {
    **dict.fromkeys(("cdist", "_cdist_forward"), pairwise),
    "_euclidean_dist": euclidean,
    **dict.fromkeys(("pdist", "_pdist_forward"), among_rows),
    "atan2": angle,
    "hypot": hypotenuse,
}
