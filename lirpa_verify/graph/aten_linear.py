"""Lowering rules of ATen calls that are linear, but for products of two values that vary."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from lirpa_verify.graph.aten_moves import MOVING_RULES
from lirpa_verify.graph.building import along_matrix, argument, broadcast, fixed, scaled, shape_of
from lirpa_verify.graph.lower import Builder, Rule, Symbol, as_float, operator_name
from lirpa_verify.graph.varying_convolution import untransposed, varying_convolution, with_bias
from lirpa_verify.load.recording import Call
from lirpa_verify.operators.arithmetic import Combine, Scale
from lirpa_verify.operators.convolution import Convolution
from lirpa_verify.operators.dense import Dense
from lirpa_verify.operators.matmul import MatMul
from lirpa_verify.operators.rearrange import Permute, Sum


def add(b: Builder, call: Call, args: list[Any]) -> Symbol:
    """add and sub, with ATen's ``alpha`` factor of the second operand."""
    alpha = float(argument(call, args, 2, "alpha", 1)) * (-1 if operator_name(call) in ("sub", "rsub") else 1)
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
    return scaled(b, args[0], -1.0)


def mm(b: Builder, call: Call, args: list[Any]) -> Symbol:
    """mm, bmm, mv, dot."""
    x, y = args[0], args[1]
    shape = shape_of(call)
    if isinstance(x, Symbol) and isinstance(y, Symbol):
        return varying_product(b, x, y, shape)
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


def varying_product(b: Builder, x: Symbol, y: Symbol, shape: tuple[int, ...]) -> Symbol:
    """Vectors count as a row on the left and as a column on the right."""
    x = x if len(x.shape) > 1 else b.reshape(x, (1, *x.shape))
    y = y if len(y.shape) > 1 else b.reshape(y, (*y.shape, 1))
    return b.reshape(b.add(MatMul(), [x, y], (*x.shape[:-1], y.shape[-1])), shape)


def dot(b: Builder, constant: Tensor, y: Symbol) -> Symbol:
    return b.reshape(b.add(Dense(constant.unsqueeze(1)), [y], (1,)), ())


def shared_matrix(weight: Tensor) -> Tensor:
    """One matrix instead of a batch of equal ones (matmul expands constants)."""
    if weight.dim() != 3:
        return weight
    one = weight.shape[0] == 1 or weight.stride(0) == 0
    return weight[0] if one or (fixed(weight) and bool((weight == weight[:1]).all())) else weight


def addmm(b: Builder, call: Call, args: list[Any]) -> Symbol:
    beta, alpha = (float(call.kwargs.get(k, 1)) for k in ("beta", "alpha"))
    shape = shape_of(call)
    if not isinstance(args[1], Symbol) and not isinstance(args[2], Symbol):
        known = alpha * (as_float(args[1]) @ as_float(args[2]))
        return scaled(b, broadcast(b, args[0], shape), None if beta == 1 else beta, known)
    product = mm(b, call, args[1:3])
    if alpha != 1:
        product = scaled(b, product, alpha)
    if isinstance(args[0], Symbol):
        return b.add(Combine((1.0, beta)), [product, broadcast(b, args[0], shape)], shape)
    return scaled(b, product, None, beta * as_float(args[0]))


def convolution(b: Builder, call: Call, args: list[Any]) -> Symbol:
    x, weight, bias, stride, padding, dilation, transposed, output_padding, groups = args
    if isinstance(bias, Symbol):
        return with_bias(b, convolution(b, call, [x, weight, None, *args[3:]]), bias)
    if isinstance(weight, Symbol):
        x = b.symbol(x)
        if transposed:
            x, weight = untransposed(b, x, weight, stride, padding, dilation, output_padding, groups)
            stride, padding = [1] * len(stride), [0] * len(padding)
        y = varying_convolution(b, x, weight, stride, padding, dilation, groups, shape_of(call))
        return y if bias is None else scaled(b, y, None, bias.reshape(-1, *[1] * (len(y.shape) - 2)))
    operator = Convolution(
        weight, bias, tuple(stride), tuple(padding), tuple(dilation), transposed, tuple(output_padding), groups, x.shape
    )
    return b.add(operator, [x], shape_of(call))


def reduce_sum(b: Builder, call: Call, args: list[Any]) -> Symbol:
    """sum and mean over some or all dimensions; no number is NaN."""
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
    return scaled(b, total, 1.0 / count)


def cumulative_sum(b: Builder, call: Call, args: list[Any]) -> Symbol:
    """A product with a triangular matrix along the dimension."""
    x: Symbol = args[0]
    if not x.shape:
        return x
    size = x.shape[args[1] % len(x.shape)]
    return along_matrix(b, x, args[1], torch.ones(size, size, dtype=torch.float64).triu())


LINEAR_RULES: dict[str, Rule] = {
    **MOVING_RULES,
    **dict.fromkeys(("add", "sub", "rsub"), add),
    **dict.fromkeys(("mm", "bmm", "mv", "dot", "matmul"), mm),
    **dict.fromkeys(("addmm", "addmv", "baddbmm"), addmm),
    **dict.fromkeys(("sum", "mean", "nansum"), reduce_sum),
    "neg": negate,
    "convolution": convolution,
    "cumsum": cumulative_sum,
}
