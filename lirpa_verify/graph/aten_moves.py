"""Lowering rules of ATen calls that only move entries."""

from __future__ import annotations

import math
from typing import Any

import torch

from lirpa_verify.errors import UnsupportedOperator
from lirpa_verify.graph.aten_discrete import where
from lirpa_verify.graph.aten_index import gather, index, index_put, index_select, scatter
from lirpa_verify.graph.aten_scatter_reduce import SCATTER_REDUCE_RULES, scatter_reduce
from lirpa_verify.graph.building import broadcast, combined, scaled, shape_of
from lirpa_verify.graph.lower import Builder, Rule, Symbol, as_float, operator_name
from lirpa_verify.load.recording import Call
from lirpa_verify.operators.dense import Dense
from lirpa_verify.operators.rearrange import Concat, Gather, Permute


def identity(b: Builder, call: Call, args: list[Any]) -> Symbol:
    return args[0]


def view(b: Builder, call: Call, args: list[Any]) -> Symbol:
    """view, squeeze, unsqueeze, flatten and the like: the recorded output shape says it all."""
    return b.reshape(args[0], shape_of(call))


def permute(b: Builder, call: Call, args: list[Any]) -> Symbol:
    x, rank = args[0], len(args[0].shape)
    if operator_name(call) == "permute":
        order = [d % rank for d in args[1]]
    else:  # transpose(x, d0, d1), t(x)
        order = list(range(rank))
        d0, d1 = (args[1] % rank, args[2] % rank) if len(args) > 2 else (0, rank - 1)
        order[d0], order[d1] = order[d1], order[d0]
    if order == list(range(rank)):
        return x
    return b.add(Permute(tuple(order)), [x], shape_of(call))


def expand(b: Builder, call: Call, args: list[Any]) -> Symbol:
    return broadcast(b, args[0], shape_of(call))


def rearrange(b: Builder, call: Call, args: list[Any]) -> Symbol | tuple[Symbol | None, ...]:
    """Any call that only moves entries (or fills in zeros): run it on the entries' numbers."""
    x: Symbol = args[0]
    if not isinstance(x, Symbol) or any(isinstance(a, Symbol) for a in args[1:]):
        raise UnsupportedOperator(call.op, call.label, "where entries go depends on the input")
    numbers = torch.arange(1, math.prod(x.shape) + 1, dtype=torch.float64).reshape(x.shape)
    moved = aten(call)(numbers, *args[1:], **call.kwargs)
    results = tuple(moved) if isinstance(moved, tuple | list) else (moved,)
    symbols = tuple(
        b.add(Gather(r.reshape(-1).long() - 1, x.shape, tuple(r.shape)), [x], tuple(r.shape)) for r in results
    )
    return symbols if isinstance(moved, tuple | list) else symbols[0]


def aten(call: Call) -> Any:
    """The ATen function of a call."""
    namespace, name, overload = call.op.split(".")
    return getattr(getattr(getattr(torch.ops, namespace), name), overload)


def pad(b: Builder, call: Call, args: list[Any]) -> Symbol:
    """constant_pad_nd(x, pads, value): zero padding, then the value where padded."""
    value = float(args[2]) if len(args) > 2 else 0.0
    padded = rearrange(b, call, args[:2])
    assert isinstance(padded, Symbol)
    if value == 0:
        return padded
    gather = b.nodes[padded.node].operator
    assert isinstance(gather, Gather)
    fill = torch.where(gather.index < 0, value, 0.0).to(torch.float64).reshape(padded.shape)
    return scaled(b, padded, None, fill)


def concat(b: Builder, call: Call, args: list[Any]) -> Symbol:
    parts = [b.symbol(p) for p in args[0]]
    parts = [p for p in parts if p.shape != (0,)]  # ATen's cat passes over empty 1-d tensors
    dimension = (args[1] if len(args) > 1 else 0) % len(parts[0].shape)
    return b.add(Concat(dimension, tuple(p.shape[dimension] for p in parts)), parts, shape_of(call))


def stack(b: Builder, call: Call, args: list[Any]) -> Symbol:
    parts = [b.symbol(p) for p in args[0]]
    shape = shape_of(call)
    dimension = (args[1] if len(args) > 1 else 0) % len(shape)
    sized = tuple(1 if d == dimension else n for d, n in enumerate(shape))
    return b.add(Concat(dimension, (1,) * len(parts)), [b.reshape(p, sized) for p in parts], shape)


# Calls that write one value into another at known places: which arguments those two are.
WRITES = {
    "slice_scatter": (0, 1),
    "select_scatter": (0, 1),
    "scatter": (0, 3),
    "scatter_add": (0, 3),
    "index_put": (0, 2),
}


def write(b: Builder, call: Call, args: list[Any]) -> Symbol:
    """Runs the call on the numbers of all entries of both values."""
    name = operator_name(call)
    if name == "scatter" and "reduce" in call.kwargs:
        return scatter_reduce(b, call, [*args, call.kwargs["reduce"]])
    if name.startswith("scatter") and isinstance(args[2], Symbol):
        return scatter(b, call, args, name == "scatter_add")
    if name == "index_put" and any(isinstance(places, Symbol) for places in args[1]):
        return index_put(b, call, args)
    if call.kwargs:
        raise UnsupportedOperator(call.op, call.label, "writing that combines old and new values")
    if name == "scatter_add" or (name == "index_put" and len(args) > 3 and args[3]):
        return add_to(b, call, args)
    values = [
        b.symbol(args[place] if isinstance(args[place], Symbol) else as_float(args[place])) for place in WRITES[name]
    ]
    sizes = tuple(math.prod(v.shape) for v in values)
    numbers = torch.arange(sum(sizes), dtype=torch.float64).split(sizes)
    given = list(args)
    for place, value, number in zip(WRITES[name], values, numbers, strict=True):
        given[place] = number.reshape(value.shape)
        if name == "scatter" and call.op.endswith(".value"):
            given[3] = float(sizes[0])
    index = aten(call)(*given)
    flat = [b.reshape(v, (n,)) for v, n in zip(values, sizes, strict=True)]
    joined = b.add(Concat(0, sizes), flat, (sum(sizes),))
    return b.add(Gather(index.reshape(-1).long(), joined.shape, shape_of(call)), [joined], shape_of(call))


def add_to(b: Builder, call: Call, args: list[Any]) -> Symbol:
    """The base, plus the source times the matrix that says where each of its entries goes."""
    base, source = (args[place] for place in WRITES[operator_name(call)])
    total = None if not isinstance(base, Symbol) else base
    shape = shape_of(call)
    if isinstance(source, Symbol):
        given = list(args)
        given[WRITES[operator_name(call)][0]] = torch.zeros(shape, dtype=torch.float64)
        added = by_matrix(b, call, given, WRITES[operator_name(call)][1])
        return scaled(b, added, None, base) if total is None else combined(b, total, added)
    given = [torch.zeros(shape, dtype=torch.float64), *args[1:]]
    given[WRITES[operator_name(call)][1]] = as_float(source)
    return scaled(b, base, None, aten(call)(*given))


def by_matrix(b: Builder, call: Call, args: list[Any], place: int = 0) -> Symbol:
    """A call that is linear in one argument, as the matrix of what it makes of unit vectors."""
    x: Symbol = args[place]
    size = math.prod(x.shape)
    rows = []
    for unit in torch.eye(size, dtype=torch.float64):
        given = [unit.reshape(x.shape) if d == place else value for d, value in enumerate(args)]
        rows.append(aten(call)(*given, **call.kwargs).reshape(-1))
    matrix = torch.stack(rows)
    product = b.add(Dense(matrix), [b.reshape(x, (size,))], (matrix.shape[1],))
    return b.reshape(product, shape_of(call))


def linear_image(b: Builder, call: Call, args: list[Any]) -> Symbol:
    """Resampling of an image at places that are constant."""
    if not isinstance(args[0], Symbol) or any(isinstance(value, Symbol) for value in args[1:]):
        raise UnsupportedOperator(call.op, call.label, "places that depend on the input")
    return by_matrix(b, call, args)


def pick(b: Builder, call: Call, args: list[Any]) -> Symbol | tuple[Symbol | None, ...]:
    """Reading from places, which may vary."""
    rules = {"index_select": (index_select, 2), "gather": (gather, 2), "index": (index, 1)}
    rule, place = rules[operator_name(call)]
    places = args[place] if isinstance(args[place], list) else [args[place]]
    return rule(b, call, args) if any(isinstance(p, Symbol) for p in places) else rearrange(b, call, args)


def masked_fill(b: Builder, call: Call, args: list[Any]) -> Symbol:
    return where(b, call, [args[1], args[2], args[0]])


MOVING_RULES: dict[str, Rule] = {
    **dict.fromkeys(("alias", "clone", "detach", "contiguous", "lift_fresh", "dropout"), identity),
    **dict.fromkeys(("view", "_unsafe_view", "reshape", "_reshape_alias", "squeeze", "unsqueeze", "flatten"), view),
    **dict.fromkeys(("permute", "transpose", "t"), permute),
    **dict.fromkeys(("slice", "select", "flip", "roll", "split_with_sizes", "split", "chunk", "unbind"), rearrange),
    **dict.fromkeys(
        ("repeat", "diagonal", "diagonal_copy", "unfold", "tril", "triu", "repeat_interleave", "diag", "rot90", "take"),
        rearrange,
    ),
    **dict.fromkeys(("upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d"), rearrange),
    **dict.fromkeys(("_upsample_nearest_exact1d", "_upsample_nearest_exact2d", "_upsample_nearest_exact3d"), rearrange),
    **dict.fromkeys(("reflection_pad1d", "reflection_pad2d", "reflection_pad3d"), rearrange),
    **dict.fromkeys(("replication_pad1d", "replication_pad2d", "replication_pad3d"), rearrange),
    **dict.fromkeys(("pixel_shuffle", "pixel_unshuffle", "channel_shuffle", "im2col", "diag_embed"), rearrange),
    **dict.fromkeys(WRITES, write),
    **SCATTER_REDUCE_RULES,
    "expand": expand,
    "constant_pad_nd": pad,
    "cat": concat,
    "stack": stack,
    **dict.fromkeys(("index_select", "gather", "index"), pick),
    **dict.fromkeys(("col2im", "grid_sampler_2d", "grid_sampler_3d"), linear_image),
    **dict.fromkeys(("_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa"), linear_image),
    "masked_fill": masked_fill,
}
