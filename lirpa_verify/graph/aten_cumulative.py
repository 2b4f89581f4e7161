"""Lowering rules of running extremes and products."""

from __future__ import annotations

from typing import Any

import torch

from lirpa_verify.graph.aten_groups import narrowed, place_of_largest
from lirpa_verify.graph.building import over_groups, product, scaled
from lirpa_verify.graph.lower import Builder, Rule, Symbol, operator_name
from lirpa_verify.load.recording import Call
from lirpa_verify.operators.log_sum_exp import LogSumExp
from lirpa_verify.operators.maximum import Maximum
from lirpa_verify.operators.rearrange import Concat


def cumulative_product(b: Builder, call: Call, args: list[Any]) -> Symbol:
    """Each product times the next entry."""
    x, dimension = args[:2]
    if not x.shape:
        return x
    products = entries(b, x, dimension)[:1]
    for entry in entries(b, x, dimension)[1:]:
        products.append(product(b, products[-1], entry))
    return joined(b, products, dimension)


def cumulative_extreme(b: Builder, call: Call, args: list[Any]) -> tuple[Symbol | None, ...]:
    """Largest or least of the first entries, and its place; every group is one of its own, bounded jointly."""
    x, dimension = args[:2]
    sign = 1.0 if operator_name(call) == "cummax" else -1.0
    if not x.shape:
        return x, b.constant(torch.zeros((), dtype=torch.float64))
    turned = x if sign == 1 else scaled(b, x, -1.0)
    kept = tuple(1 if d == dimension % len(x.shape) else n for d, n in enumerate(x.shape))
    begun = [narrowed(b, turned, dimension, 0, count + 1) for count in range(x.shape[dimension])]
    best = joined(b, [over_groups(b, Maximum(), part, [dimension], kept) for part in begun], dimension)
    place = joined(b, [place_of_largest(b, part, [dimension], kept) for part in begun], dimension)
    return best if sign == 1 else scaled(b, best, -1.0), place


def cumulative_log_sum(b: Builder, call: Call, args: list[Any]) -> Symbol:
    """``log(sum(exp(x)))`` of the first entries."""
    x, dimension = args[:2]
    if not x.shape:
        return x
    kept = tuple(1 if d == dimension % len(x.shape) else n for d, n in enumerate(x.shape))
    begun = [narrowed(b, x, dimension, 0, count + 1) for count in range(x.shape[dimension])]
    return joined(b, [over_groups(b, LogSumExp(), part, [dimension], kept) for part in begun], dimension)


def entries(b: Builder, x: Symbol, dimension: int) -> list[Symbol]:
    """The parts of size 1 along a dimension."""
    return [narrowed(b, x, dimension, i, 1) for i in range(x.shape[dimension])]


def joined(b: Builder, parts: list[Symbol], dimension: int) -> Symbol:
    """Parts of size 1 along a dimension, one after the other."""
    rank = len(parts[0].shape)
    shape = tuple(len(parts) if d == dimension % rank else n for d, n in enumerate(parts[0].shape))
    return b.add(Concat(dimension % rank, (1,) * len(parts)), parts, shape)


CUMULATIVE_RULES: dict[str, Rule] = {
    "cumprod": cumulative_product,
    **dict.fromkeys(("cummax", "cummin"), cumulative_extreme),
    "logcumsumexp": cumulative_log_sum,
}
