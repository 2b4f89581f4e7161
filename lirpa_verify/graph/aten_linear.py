"""Lowering rules of ATen calls that are linear in what depends on the input."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from lirpa_verify.errors import UnsupportedOperator
from lirpa_verify.graph.lower import Builder, Rule, Symbol, as_float, operator_name
from lirpa_verify.load.recording import Call
from lirpa_verify.operators.arithmetic import Combine, Scale
from lirpa_verify.operators.convolution import Convolution
from lirpa_verify.operators.dense import Dense
from lirpa_verify.operators.rearrange import Concat, Expand, Gather, Permute, Reshape, Sum


def identity(b: Builder, call: Call, args: list[Any]) -> Symbol:
    return args[0]


def view(b: Builder, call: Call, args: list[Any]) -> Symbol:
    """view, squeeze, unsqueeze, flatten and the like: the recorded output shape says it all."""
    return b.reshape(args[0], shape_of(call))


def shape_of(call: Call, item: int = 0) -> tuple[int, ...]:
    spec = call.outputs[item]
    assert spec is not None
    return tuple(spec.shape)


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


def broadcast(b: Builder, x: Symbol, shape: tuple[int, ...]) -> Symbol:
    return x if x.shape == shape else b.add(Expand(x.shape, shape), [x], shape)


def rearrange(b: Builder, call: Call, args: list[Any]) -> Symbol | tuple[Symbol | None, ...]:
    """Any call that only moves entries (or fills in zeros): run it on the entries' numbers."""
    x: Symbol = args[0]
    numbers = torch.arange(1, math.prod(x.shape) + 1, dtype=torch.float64).reshape(x.shape)
    namespace, name, overload = call.op.split(".")
    run = getattr(getattr(getattr(torch.ops, namespace), name), overload)
    moved = run(numbers, *args[1:], **call.kwargs)
    results = tuple(moved) if isinstance(moved, tuple | list) else (moved,)
    symbols = tuple(
        b.add(Gather(r.reshape(-1).long() - 1, x.shape, tuple(r.shape)), [x], tuple(r.shape)) for r in results
    )
    return symbols if isinstance(moved, tuple | list) else symbols[0]


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
    return b.add(Scale(None, fill), [padded], padded.shape)


def concat(b: Builder, call: Call, args: list[Any]) -> Symbol:
    parts = [b.symbol(p) for p in args[0]]
    parts = [p for p in parts if p.shape != (0,)]  # ATen's cat passes over empty 1-d tensors
    dimension = (args[1] if len(args) > 1 else 0) % len(parts[0].shape)
    return b.add(Concat(dimension, tuple(p.shape[dimension] for p in parts)), parts, shape_of(call))


def add(b: Builder, call: Call, args: list[Any]) -> Symbol:
    """add and sub, with ATen's ``alpha`` factor of the second operand."""
    alpha = float(call.kwargs.get("alpha", 1)) * (-1 if operator_name(call) in ("sub", "rsub") else 1)
    x, y = args[0], args[1]
    if operator_name(call) == "rsub":  # alpha counts for the first operand: y - alpha * x
        x, y = y, x
    shape = shape_of(call)
    if isinstance(x, Symbol) and isinstance(y, Symbol):
        return b.add(Combine((1.0, alpha)), [broadcast(b, x, shape), broadcast(b, y, shape)], shape)
    if isinstance(x, Symbol):
        return b.add(Scale(None, alpha * as_float(y)), [broadcast(b, x, shape)], shape)
    factor = None if alpha == 1 else as_float(alpha)
    return b.add(Scale(factor, as_float(x)), [broadcast(b, y, shape)], shape)


def negate(b: Builder, call: Call, args: list[Any]) -> Symbol:
    return b.add(Scale(as_float(-1.0)), [args[0]], args[0].shape)


def scale(b: Builder, call: Call, x: Symbol, factor: Tensor) -> Symbol:
    shape = shape_of(call)
    return b.add(Scale(factor), [broadcast(b, x, shape)], shape)


def mm(b: Builder, call: Call, args: list[Any]) -> Symbol:
    """mm, bmm, mv, dot with one constant side."""
    x, y = args[0], args[1]
    shape = shape_of(call)
    if isinstance(x, Symbol):
        if y.dim() == 1:  # a matrix that varies times a constant vector
            column = b.add(Dense(y.unsqueeze(1)), [x], (*shape, 1))
            return b.reshape(column, shape)
        return b.add(Dense(shared_matrix(y)), [x], shape)
    if len(y.shape) == 1:
        return b.add(Dense(x.mT.contiguous()), [y], shape) if x.dim() == 2 else dot(b, x, y)
    swap = (*range(len(y.shape) - 2), len(y.shape) - 1, len(y.shape) - 2)
    turned = b.add(Permute(swap), [y], tuple(y.shape[d] for d in swap))
    product_shape = (*shape[:-2], shape[-1], shape[-2])
    product = b.add(Dense(shared_matrix(x).mT.contiguous()), [turned], product_shape)
    return b.add(Permute(swap), [product], shape)


def dot(b: Builder, constant: Tensor, y: Symbol) -> Symbol:
    return b.reshape(b.add(Dense(constant.unsqueeze(1)), [y], (1,)), ())


def shared_matrix(weight: Tensor) -> Tensor:
    """One matrix instead of a batch of equal ones (matmul expands constants)."""
    if weight.dim() == 3 and bool((weight == weight[:1]).all()):
        return weight[0]
    return weight


def addmm(b: Builder, call: Call, args: list[Any]) -> Symbol:
    beta, alpha = (float(call.kwargs.get(k, 1)) for k in ("beta", "alpha"))
    product = mm(b, call, args[1:3])
    if alpha != 1:
        product = scale(b, call, product, as_float(alpha))
    shape = shape_of(call)
    if isinstance(args[0], Symbol):
        return b.add(Combine((1.0, beta)), [product, broadcast(b, args[0], shape)], shape)
    return b.add(Scale(None, beta * as_float(args[0])), [product], shape)


def convolution(b: Builder, call: Call, args: list[Any]) -> Symbol:
    x, weight, bias, stride, padding, dilation, transposed, output_padding, groups = args
    if not isinstance(x, Symbol) or isinstance(weight, Symbol) or isinstance(bias, Symbol):
        raise UnsupportedOperator(call.op, call.label, "the kernel of a convolution depends on the input")
    operator = Convolution(
        weight, bias, tuple(stride), tuple(padding), tuple(dilation), transposed, tuple(output_padding), groups, x.shape
    )
    return b.add(operator, [x], shape_of(call))


def average_pool(b: Builder, call: Call, args: list[Any]) -> Symbol:
    """avg_pool as a depthwise convolution with a constant kernel, rescaled where padding does not count."""
    x, kernel = args[0], [int(k) for k in args[1]]
    rank = len(kernel)
    stride = [int(s) for s in args[2]] if len(args) > 2 and args[2] else kernel
    padding = [int(p) for p in args[3]] if len(args) > 3 else [0] * rank
    ceil_mode = bool(args[4]) if len(args) > 4 else False
    include_pad = bool(args[5]) if len(args) > 5 else True
    divisor = args[6] if len(args) > 6 else None
    if ceil_mode:
        raise UnsupportedOperator(call.op, call.label, "average pooling with ceil_mode")
    kernel, stride, padding = (v * rank if len(v) == 1 else v for v in (kernel, stride, padding))
    shape = shape_of(call)
    x = b.reshape(x, (1,) * (rank + 2 - len(x.shape)) + x.shape)  # a missing model batch dimension
    channels = x.shape[1]
    weight = torch.full((channels, 1, *kernel), 1.0 / (divisor or math.prod(kernel)), dtype=torch.float64)
    operator = Convolution(
        weight, None, tuple(stride), tuple(padding), (1,) * rank, False, (0,) * rank, channels, x.shape
    )
    pooled = b.add(operator, [x], (x.shape[0], *shape[-rank - 1 :]))
    if not include_pad and not divisor and any(padding):
        ones = operator.convolve(torch.ones(1, *x.shape, dtype=torch.float64), weight)[0]
        pooled = b.add(Scale(1 / ones), [pooled], pooled.shape)
    return b.reshape(pooled, shape)


def batch_norm(b: Builder, call: Call, args: list[Any]) -> tuple[Symbol | None, ...]:
    """Evaluation-mode batch normalisation: a scale and a shift per channel."""
    x, weight, bias, mean, variance = args[:5]
    epsilon = float(args[-1])
    factor = 1 / torch.sqrt(variance + epsilon)
    if weight is not None:
        factor = factor * weight
    shift = -mean * factor + (0 if bias is None else bias)
    column = (-1, *[1] * (len(x.shape) - 2))
    return (b.add(Scale(factor.reshape(column), shift.reshape(column)), [x], x.shape),)


def reduce_sum(b: Builder, call: Call, args: list[Any]) -> Symbol:
    """sum and mean over some or all dimensions."""
    x = args[0]
    rank = len(x.shape)
    wanted = args[1] if len(args) > 1 and args[1] is not None and args[1] != [] else list(range(rank))
    dimensions = tuple(sorted({d % rank for d in (wanted if isinstance(wanted, list) else [wanted])}))
    keep = bool(args[2]) if len(args) > 2 else False
    shape = shape_of(call)
    total = b.add(Sum(x.shape, dimensions, keep), [x], shape) if dimensions else x
    if operator_name(call) != "mean":
        return total
    count = math.prod(x.shape[d] for d in dimensions)
    return b.add(Scale(as_float(1.0 / count)), [total], shape)


def cumulative_sum(b: Builder, call: Call, args: list[Any]) -> Symbol:
    """A product with a triangular matrix along the dimension."""
    x, rank = args[0], len(args[0].shape)
    dimension = args[1] % rank
    order = (*(d for d in range(rank) if d != dimension), dimension)
    moved_shape = tuple(x.shape[d] for d in order)
    moved = b.add(Permute(order), [x], moved_shape)
    triangle = torch.ones(x.shape[dimension], x.shape[dimension], dtype=torch.float64).triu()
    summed = b.add(Dense(triangle), [moved], moved_shape)
    back = tuple(sorted(range(rank), key=order.__getitem__))
    return b.add(Permute(back), [summed], x.shape)


LINEAR_RULES: dict[str, Rule] = {
    **dict.fromkeys(("alias", "clone", "detach", "contiguous", "lift_fresh", "dropout", "_to_copy"), identity),
    **dict.fromkeys(("view", "_unsafe_view", "reshape", "_reshape_alias", "squeeze", "unsqueeze", "flatten"), view),
    **dict.fromkeys(("permute", "transpose", "t"), permute),
    **dict.fromkeys(("slice", "select", "flip", "roll", "upsample_nearest1d", "upsample_nearest2d"), rearrange),
    **dict.fromkeys(("upsample_nearest3d", "split_with_sizes", "split", "unbind", "repeat", "diagonal"), rearrange),
    **dict.fromkeys(("reflection_pad1d", "reflection_pad2d", "replication_pad1d", "replication_pad2d"), rearrange),
    **dict.fromkeys(("add", "sub", "rsub"), add),
    **dict.fromkeys(("mm", "bmm", "mv", "dot"), mm),
    **dict.fromkeys(("addmm",), addmm),
    **dict.fromkeys(("avg_pool1d", "avg_pool2d", "avg_pool3d"), average_pool),
    **dict.fromkeys(("native_batch_norm", "_native_batch_norm_legit_no_training"), batch_norm),
    **dict.fromkeys(("sum", "mean"), reduce_sum),
    "expand": expand,
    "constant_pad_nd": pad,
    "cat": concat,
    "neg": negate,
    "convolution": convolution,
    "cumsum": cumulative_sum,
}
