"""Lowering rules of writing where old and new values are combined: the largest, the least, the product, the mean."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from lirpa_verify.errors import UnsupportedOperator
from lirpa_verify.graph.aten_elementwise import pick_larger
from lirpa_verify.graph.aten_groups import product_along
from lirpa_verify.graph.aten_index import corner, corner_index, hits, sliced, with_corner
from lirpa_verify.graph.building import broadcast, combined, nonlinear, over_groups, product, scaled, shape_of
from lirpa_verify.graph.lower import Builder, Rule, Symbol, as_float
from lirpa_verify.load.recording import Call
from lirpa_verify.operators.maximum import Maximum
from lirpa_verify.operators.rearrange import Concat, Gather, Sum
from lirpa_verify.operators.where import Where

KINDS = {"add": "sum", "multiply": "prod"}  # what `scatter` calls them


def scatter_reduce(b: Builder, call: Call, args: list[Any]) -> Symbol:
    """``base[index[k]] = reduce(base[index[k]], source[k])`` along a dimension."""
    base, dimension, index, source, kind = args[:5]
    include = bool(args[5]) if len(args) > 5 else bool(call.kwargs.get("include_self", True))
    return reduced(b, call, b.symbol(base), dimension, index, source, KINDS.get(kind, kind), include)


def index_reduce(b: Builder, call: Call, args: list[Any]) -> Symbol:
    """As `scatter_reduce`, of whole slices."""
    base, dimension, index, source, kind = args[:5]
    include = bool(args[5]) if len(args) > 5 else bool(call.kwargs.get("include_self", True))
    shape = tuple(source.shape)
    if isinstance(index, Symbol):
        raise UnsupportedOperator(call.op, call.label, "places that depend on the input")
    places = index.reshape(*[-1 if d == dimension % len(shape) else 1 for d in range(len(shape))]).expand(shape)
    return reduced(b, call, b.symbol(base), dimension, places, source, kind, include)


def reduced(
    b: Builder,
    call: Call,
    base: Symbol,
    dimension: int,
    index: Symbol | Tensor,
    source: Symbol | Tensor | float,
    kind: str,
    include: bool,
) -> Symbol:
    shape = shape_of(call)
    dimension %= len(shape)
    if not isinstance(source, Symbol):
        source = b.constant(as_float(source).expand(tuple(index.shape)).contiguous())
    source = corner(b, source, tuple(index.shape))
    if not isinstance(index, Symbol):
        return by_groups(b, base, written_to(shape, dimension, index), source, kind, include)
    if not include or kind == "mean":
        raise UnsupportedOperator(call.op, call.label, f"{kind} at places that depend on the input, without old values")
    part = tuple(n if d == dimension else index.shape[d] for d, n in enumerate(shape))
    changed = one_after_the_other(b, corner(b, base, part), dimension, index, source, kind)
    return changed if part == shape else with_corner(b, base, changed)


def written_to(shape: tuple[int, ...], dimension: int, index: Tensor) -> Tensor:
    """The number of the entry that each entry of the source is written to."""
    sizes = tuple(n if d == dimension else index.shape[d] for d, n in enumerate(shape))
    return corner_index(shape, sizes).gather(dimension, index.long())


def by_groups(b: Builder, base: Symbol, target: Tensor, source: Symbol, kind: str, include: bool) -> Symbol:
    """Entries with equally many values together: one operator for each number of values."""
    size, parts = math.prod(base.shape), [b.reshape(v, (math.prod(v.shape),)) for v in (base, source)]
    values = b.add(Concat(0, (size, parts[1].shape[0])), parts, (size + parts[1].shape[0],))
    members: list[list[int]] = [[] for _ in range(size)]
    for number, place in enumerate(target.reshape(-1).tolist()):
        members[place].append(size + number)
    members = [[place, *found] if include or not found else found for place, found in enumerate(members)]
    results, order = [], []
    for count in sorted({len(found) for found in members}):
        chosen = [place for place, found in enumerate(members) if len(found) == count]
        grid = torch.tensor([members[place] for place in chosen])
        grouped = b.add(Gather(grid.reshape(-1), values.shape, tuple(grid.shape)), [values], tuple(grid.shape))
        results.append(of_group(b, grouped, kind))
        order += chosen
    sizes = tuple(result.shape[0] for result in results)
    joined = b.add(Concat(0, sizes), results, (size,)) if len(results) > 1 else results[0]
    return b.add(Gather(torch.tensor(order).argsort(), (size,), base.shape), [joined], base.shape)


def of_group(b: Builder, x: Symbol, kind: str) -> Symbol:
    """(groups, entries) to (groups,)."""
    groups, count = x.shape
    if kind == "amax":
        return over_groups(b, Maximum(), x, [1], (groups,))
    if kind == "amin":
        return scaled(b, over_groups(b, Maximum(), scaled(b, x, -1.0), [1], (groups,)), -1.0)
    if kind == "prod":
        return product_along(b, x, 1)
    total = b.add(Sum(x.shape, (1,), False), [x], (groups,))
    return total if kind == "sum" else scaled(b, total, 1 / count)


def one_after_the_other(b: Builder, result: Symbol, dimension: int, index: Symbol, source: Symbol, kind: str) -> Symbol:
    """Each write changes an entry only where it hits it."""
    for k in range(index.shape[dimension]):
        hit = hits(b, index, dimension, k, result.shape)
        value = broadcast(b, sliced(b, source, dimension, k), result.shape)
        if kind == "sum":
            result = combined(b, result, product(b, hit, value))
            continue
        new = (
            product(b, result, value) if kind == "prod" else pick_larger(b, value, result, 1 if kind == "amax" else -1)
        )
        result = nonlinear(b, Where(), [hit, new, result])
    return result


SCATTER_REDUCE_RULES: dict[str, Rule] = {"scatter_reduce": scatter_reduce, "index_reduce": index_reduce}
