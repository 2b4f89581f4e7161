"""Lowering rules of reading from and writing to places that may depend on the input."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from lirpa_verify.errors import UnsupportedOperator
from lirpa_verify.graph.aten_discrete import is_whole
from lirpa_verify.graph.building import broadcast, combined, nonlinear, operand, product, scaled, shape_of
from lirpa_verify.graph.lower import Builder, Symbol, as_float
from lirpa_verify.load.recording import Call
from lirpa_verify.operators.discrete import Compare, Lookup, Scatter
from lirpa_verify.operators.rearrange import Concat, Gather, Permute
from lirpa_verify.operators.take import Take
from lirpa_verify.operators.where import Where

Value = Symbol | Tensor


def index_select(b: Builder, call: Call, args: list[Any]) -> Symbol:
    """Parts of a value, along a dimension, by a varying vector of places."""
    values, dimension, index = args
    rank = max(1, len(values.shape))
    flat = b.reshape(index, (math.prod(index.shape),))
    return b.reshape(select(b, values, dimension % rank, flat), shape_of(call))


def select(b: Builder, values: Value, dimension: int, index: Symbol) -> Symbol:
    """``values[..., index, ...]`` with a vector of places."""
    before, size, after = around(tuple(values.shape) or (1,), dimension)
    count, shape = index.shape[0], (*before, index.shape[0], *after)
    if not isinstance(values, Symbol):
        table = as_float(values).reshape(*before, size, *after).movedim(dimension, 0).reshape(size, -1)
        picked = b.add(Lookup(table), [index], (count, table.shape[1]))
        return moved_back(b, b.reshape(picked, (count, *before, *after)), 0, dimension)
    columns = last(b, b.reshape(values, (*before, size, *after)), dimension)
    places = broadcast(b, index, (*before, *after, count))
    return moved_back(b, b.add(Take(), [places, columns], (*before, *after, count)), len(shape) - 1, dimension)


def around(shape: tuple[int, ...], dimension: int) -> tuple[tuple[int, ...], int, tuple[int, ...]]:
    return shape[:dimension], shape[dimension], shape[dimension + 1 :]


def last(b: Builder, x: Symbol, dimension: int) -> Symbol:
    """x with one dimension moved to the end."""
    return moved_back(b, x, dimension, len(x.shape) - 1)


def moved_back(b: Builder, x: Symbol, source: int, target: int) -> Symbol:
    """x with dimension `source` moved to `target`."""
    if source == target:
        return x
    order = [d for d in range(len(x.shape)) if d != source]
    order.insert(target, source)
    return b.add(Permute(tuple(order)), [x], tuple(x.shape[d] for d in order))


def gather(b: Builder, call: Call, args: list[Any]) -> Symbol:
    """``result[i][j] = values[index[i][j]][j]`` with varying places, along one dimension."""
    values, dimension, index = args[:3]
    shape = shape_of(call)
    if not shape:
        return b.reshape(select(b, values, 0, b.reshape(index, (1,))), ())
    dimension %= len(shape)
    sizes = tuple(n if d == dimension else shape[d] for d, n in enumerate(values.shape))
    columns = last(b, corner(b, b.symbol(values), sizes), dimension)
    places = last(b, index, dimension)
    return moved_back(b, b.add(Take(), [places, columns], places.shape), len(shape) - 1, dimension)


def corner(b: Builder, x: Symbol, sizes: tuple[int, ...]) -> Symbol:
    """The first entries along every dimension."""
    return (
        x if x.shape == sizes else b.add(Gather(corner_index(x.shape, sizes).reshape(-1), x.shape, sizes), [x], sizes)
    )


def corner_index(shape: tuple[int, ...], sizes: tuple[int, ...]) -> Tensor:
    numbers = torch.arange(math.prod(shape)).reshape(shape)
    return numbers[tuple(slice(0, n) for n in sizes)]


def index(b: Builder, call: Call, args: list[Any]) -> Symbol:
    """``values[:, i, j]`` with varying places for neighbouring dimensions; negative ones count from the end."""
    values, given = args
    place, block, flat = joined_places(b, call, tuple(values.shape), given)
    before, after = tuple(values.shape[:place]), tuple(values.shape[place + block :])
    folded = (*before, math.prod(values.shape[place : place + block]), *after)
    values = b.reshape(values, folded) if isinstance(values, Symbol) else values.reshape(folded)
    return b.reshape(select(b, values, place, flat), shape_of(call))


def joined_places(b: Builder, call: Call, shape: tuple[int, ...], given: list[Any]) -> tuple[int, int, Symbol]:
    """The first indexed dimension, how many there are, and the places in all of them together, as one vector."""
    used = [d for d, places in enumerate(given) if places is not None]
    if used != list(range(used[0], used[-1] + 1)) or any(
        not isinstance(p, Symbol) and p.dtype in (torch.bool, torch.uint8) for p in given if p is not None
    ):
        raise UnsupportedOperator(call.op, call.label, "places in dimensions that are not neighbours, or masks")
    common = tuple(torch.broadcast_shapes(*(tuple(given[d].shape) for d in used)))
    total: Symbol | None = None
    for d in used:
        places = wrapped(b, operand(b, given[d], common), shape[d])
        total = places if total is None else combined(b, scaled(b, total, float(shape[d])), places)
    assert total is not None
    return used[0], len(used), b.reshape(total, (math.prod(common),))


def wrapped(b: Builder, places: Symbol, size: int) -> Symbol:
    """Places below 0 count from the end."""
    negative = nonlinear(b, Compare("lt", is_whole(b, places)), [places, operand(b, 0.0, places.shape)])
    return combined(b, places, negative, float(size))


def index_put(b: Builder, call: Call, args: list[Any]) -> Symbol:
    """Writes (or adds) values at varying places of neighbouring dimensions."""
    base, given, values = args[:3]
    shape, add = shape_of(call), len(args) > 3 and bool(args[3])
    place, block, flat = joined_places(b, call, shape, given)
    before, after = shape[:place], shape[place + block :]
    common = tuple(torch.broadcast_shapes(*(tuple(p.shape) for p in given if p is not None)))
    source = b.reshape(operand(b, values, (*before, *common, *after)), (*before, flat.shape[0], *after))
    folded = (*before, math.prod(shape[place : place + block]), *after)
    column = b.reshape(flat, (*[1] * len(before), flat.shape[0], *[1] * len(after)))
    places = broadcast(b, column, source.shape)
    return b.reshape(one_by_one(b, b.reshape(operand(b, base, shape), folded), place, places, source, add), shape)


def scatter(b: Builder, call: Call, args: list[Any], add: bool = False) -> Symbol:
    """``base[index[k]] = source[k]`` (or +=) along a dimension with varying places."""
    base, dimension, index, source = args
    shape = shape_of(call)
    dimension %= len(shape)
    part = tuple(n if d == dimension else index.shape[d] for d, n in enumerate(shape))
    source = source if isinstance(source, Symbol) else as_float(source)
    source = source if len(source.shape) else operand(b, source, index.shape)
    lone = math.prod(shape) == shape[dimension]
    if lone and not add and not isinstance(base, Symbol) and not isinstance(source, Symbol):
        places = b.reshape(index, (math.prod(index.shape),))
        written = source[tuple(slice(0, n) for n in index.shape)].reshape(-1)
        operator = Scatter(as_float(base).reshape(-1), written)
        return b.reshape(b.add(operator, [places], (math.prod(shape),)), shape)
    whole = operand(b, base, shape)
    source = corner(b, b.symbol(source), index.shape)
    changed = one_by_one(b, corner(b, whole, part), dimension, index, source, add)
    return changed if part == shape else with_corner(b, whole, changed)


def with_corner(b: Builder, x: Symbol, part: Symbol) -> Symbol:
    """x with its first entries along every dimension replaced."""
    size = math.prod(x.shape)
    numbers = torch.arange(size)
    numbers[corner_index(x.shape, part.shape).reshape(-1)] = torch.arange(size, size + math.prod(part.shape))
    parts = [b.reshape(v, (math.prod(v.shape),)) for v in (x, part)]
    sizes = tuple(v.shape[0] for v in parts)
    joined = b.add(Concat(0, sizes), parts, (sum(sizes),))
    return b.add(Gather(numbers, joined.shape, x.shape), [joined], x.shape)


def one_by_one(b: Builder, result: Symbol, dimension: int, index: Symbol, source: Symbol, add: bool) -> Symbol:
    """One choice after the other between the value so far and the value written, or one term after the other."""
    for k in range(index.shape[dimension]):
        hit = hits(b, index, dimension, k, result.shape)
        value = broadcast(b, sliced(b, source, dimension, k), result.shape)
        result = combined(b, result, product(b, hit, value)) if add else nonlinear(b, Where(), [hit, value, result])
    return result


def hits(b: Builder, index: Symbol, dimension: int, k: int, shape: tuple[int, ...]) -> Symbol:
    """Where write k goes: 1 at its place along the dimension, else 0."""
    place = as_float(torch.arange(shape[dimension])).reshape(-1, *[1] * (len(shape) - 1 - dimension)).expand(shape)
    written = broadcast(b, sliced(b, index, dimension, k), shape)
    return nonlinear(b, Compare("eq", True), [written, b.constant(place.contiguous())])


def sliced(b: Builder, x: Symbol, dimension: int, k: int) -> Symbol:
    """Entry k along a dimension, which is kept."""
    numbers = torch.arange(math.prod(x.shape)).reshape(x.shape).narrow(dimension, k, 1)
    return b.add(Gather(numbers.reshape(-1), x.shape, tuple(numbers.shape)), [x], tuple(numbers.shape))
