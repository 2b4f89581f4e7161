"""Lowering rules of ATen calls on groups of entries: softmax, normalisation, norms, extremes."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from lirpa_verify.errors import UnsupportedOperator
from lirpa_verify.graph.building import (
    affine,
    along,
    argument,
    broadcast,
    combined,
    last_dimension,
    listed,
    mean_over,
    nonlinear,
    operand,
    over_groups,
    product,
    reshaped,
    scaled,
    shape_of,
    softmax_over,
    standardised,
)
from lirpa_verify.graph.lower import Builder, Rule, Symbol, operator_name
from lirpa_verify.graph.recognise import before_rising
from lirpa_verify.load.recording import Call
from lirpa_verify.operators.absolute import Absolute
from lirpa_verify.operators.arithmetic import Scale
from lirpa_verify.operators.dense import Dense
from lirpa_verify.operators.discrete import ArgMax
from lirpa_verify.operators.log_sum_exp import LogSumExp
from lirpa_verify.operators.maximum import Maximum
from lirpa_verify.operators.power import EvenPower, RealPower, power
from lirpa_verify.operators.rearrange import Concat, Gather, Reshape, Sum
from lirpa_verify.operators.sign import Step
from lirpa_verify.operators.softmax import Softmax
from lirpa_verify.operators.sort import Sort, SortedPlaces


def softmax(b: Builder, call: Call, args: list[Any]) -> Symbol:
    """Entries at minus infinity, by a constant mask, take no part."""
    x: Symbol = args[0]
    x, mask = unmasked(b, x)
    if mask is not None:
        dimension = args[1] % len(x.shape)
        return along(b, Softmax(mask.movedim(dimension, -1).contiguous()), x, dimension)
    return softmax_over(b, x, args[1])


def unmasked(b: Builder, x: Symbol) -> tuple[Symbol, Tensor | None]:
    """A value to which a constant of minus infinities is added: without them, and where they are not."""
    node = b.nodes[x.node]
    if isinstance(node.operator, Reshape) and isinstance(b.nodes[node.arguments[0]].operator, Scale):
        inner, mask = unmasked(b, Symbol(node.arguments[0], b.nodes[node.arguments[0]].shape))
        return (x, None) if mask is None else (b.reshape(inner, x.shape), mask.reshape(x.shape))
    if not isinstance(node.operator, Scale) or node.operator.shift is None:
        return x, None
    factor, shift = node.operator.factor, node.operator.shift
    left_out = torch.isneginf(shift)
    if not bool(left_out.any()):
        return x, None
    known = shift.masked_fill(left_out, 0.0)
    inner = b.add(Scale(factor, known), [Symbol(node.arguments[0], x.shape)], x.shape)
    return inner, ~left_out.expand(x.shape)


def log_softmax(b: Builder, call: Call, args: list[Any]) -> Symbol:
    x: Symbol = args[0]
    kept = tuple(1 if d == args[1] % len(x.shape) else n for d, n in enumerate(x.shape))
    total = over_groups(b, LogSumExp(), x, [args[1]], kept)
    return combined(b, x, broadcast(b, total, x.shape), -1.0)


def log_sum_exp(b: Builder, call: Call, args: list[Any]) -> Symbol:
    return over_groups(b, LogSumExp(), args[0], listed(args[1]), shape_of(call))


def log_add_exp(b: Builder, call: Call, args: list[Any]) -> Symbol:
    """``log(exp(x) + exp(y))``, jointly."""
    shape = shape_of(call)
    parts = [b.reshape(operand(b, value, shape), (*shape, 1)) for value in args[:2]]
    return over_groups(b, LogSumExp(), b.add(Concat(len(shape), (1, 1)), parts, (*shape, 2)), [-1], shape)


def extreme(b: Builder, call: Call, args: list[Any]) -> Symbol | tuple[Symbol | None, ...]:
    """amax, amin, and max, min of one argument, with arg-max where a dimension is given."""
    name, x = operator_name(call), args[0]
    sign = 1.0 if name in ("amax", "max") else -1.0
    if name in ("max", "min") and len(args) > 1 and isinstance(args[1], Symbol):
        raise UnsupportedOperator(call.op, call.label)
    dimensions = listed(argument(call, args, 1, "dim", None))
    turned = x if sign == 1 else scaled(b, x, -1.0)
    best = over_groups(b, Maximum(), turned, dimensions, shape_of(call))
    value = best if sign == 1 else scaled(b, best, -1.0)
    if name in ("amax", "amin") or not dimensions:
        return value
    return value, place_of_largest(b, turned, dimensions, shape_of(call, 1))


def arg_extreme(b: Builder, call: Call, args: list[Any]) -> Symbol:
    turned = args[0] if operator_name(call) == "argmax" else scaled(b, args[0], -1.0)
    return place_of_largest(b, turned, listed(argument(call, args, 1, "dim", None)), shape_of(call))


def place_of_largest(b: Builder, x: Symbol, dimensions: list[int], shape: tuple[int, ...]) -> Symbol:
    """Of two entries a step function of their difference."""
    grouped = last_dimension(b, before_rising(b, x), dimensions)
    inner = b.nodes[grouped.node]
    if inner.operator == Softmax():  # keeps the order of the entries
        grouped = Symbol(inner.arguments[0], grouped.shape)
    if grouped.shape[-1] != 2:
        return over_groups(b, ArgMax(), grouped, [-1], shape)
    column = torch.tensor([[-1.0], [1.0]], dtype=torch.float64)
    difference = b.add(Dense(column), [grouped], (*grouped.shape[:-1], 1))
    return b.reshape(nonlinear(b, Step(True), [difference]), shape)


def sort(b: Builder, call: Call, args: list[Any]) -> tuple[Symbol | None, ...]:
    """Sorted values and their places."""
    stable = call.op.endswith(".stable")
    dimension = int(argument(call, args, 2 if stable else 1, "dim", -1))
    descending = bool(argument(call, args, 3 if stable else 2, "descending", False))
    if not args[0].shape:
        return args[0], b.constant(torch.zeros((), dtype=torch.float64))
    return in_order(b, args[0], dimension, descending)


def in_order(b: Builder, x: Symbol, dimension: int, descending: bool) -> tuple[Symbol, Symbol]:
    return along(b, Sort(descending), x, dimension), along(b, SortedPlaces(descending), x, dimension)


def top(b: Builder, call: Call, args: list[Any]) -> tuple[Symbol | None, ...]:
    """The first entries of the sorted values, and their places."""
    x, count, dimension = args[0], int(args[1]), int(argument(call, args, 2, "dim", -1))
    largest = bool(argument(call, args, 3, "largest", True))
    if count == 1:
        turned = x if largest else scaled(b, x, -1.0)
        best = over_groups(b, Maximum(), turned, [dimension], shape_of(call))
        place = place_of_largest(b, turned, [dimension], shape_of(call, 1))
        return best if largest else scaled(b, best, -1.0), place
    return tuple(narrowed(b, part, dimension, 0, count) for part in in_order(b, x, dimension, largest))


def ranked(b: Builder, call: Call, args: list[Any]) -> Symbol | tuple[Symbol | None, ...]:
    """kthvalue and median (the lower one of two), with their places where a dimension is given."""
    x: Symbol = args[0]
    if operator_name(call) == "median" and len(args) == 1:
        flat = b.reshape(x, (math.prod(x.shape),))
        middle = narrowed(b, along(b, Sort(False), flat, 0), 0, (flat.shape[0] - 1) // 2, 1)
        return b.reshape(middle, shape_of(call))
    median = operator_name(call) == "median"
    dimension = int(argument(call, args, 1 if median else 2, "dim", -1))
    rank = (x.shape[dimension] - 1) // 2 if median else int(args[1]) - 1
    parts = [narrowed(b, part, dimension, rank, 1) for part in in_order(b, x, dimension, False)]
    return tuple(b.reshape(part, shape_of(call, item)) for item, part in enumerate(parts))


def narrowed(b: Builder, x: Symbol, dimension: int, start: int, count: int) -> Symbol:
    numbers = range_like(x.shape).narrow(dimension, start, count)
    return b.add(Gather(numbers.reshape(-1), x.shape, tuple(numbers.shape)), [x], tuple(numbers.shape))


def range_like(shape: tuple[int, ...]) -> Tensor:
    return torch.arange(math.prod(shape)).reshape(shape)


def reduce_product(b: Builder, call: Call, args: list[Any]) -> Symbol:
    x: Symbol = args[0]
    dimensions = listed(argument(call, args, 1, "dim", None)) or list(range(len(x.shape)))
    if len(dimensions) > 1 or not x.shape:
        x, dimensions = b.reshape(x, (math.prod(x.shape),)), [0]
    return b.reshape(product_along(b, x, dimensions[0] % len(x.shape)), shape_of(call))


def product_along(b: Builder, x: Symbol, dimension: int) -> Symbol:
    """A balanced tree of products; the dimension goes."""
    numbers = range_like(x.shape)
    parts = []
    for i in range(x.shape[dimension]):
        index = numbers.select(dimension, i)
        parts.append(b.add(Gather(index.reshape(-1), x.shape, tuple(index.shape)), [x], tuple(index.shape)))
    while len(parts) > 1:
        paired = [product(b, u, v) for u, v in zip(parts[::2], parts[1::2], strict=False)]
        parts = paired + parts[2 * len(paired) :]
    return parts[0]


def total(b: Builder, x: Symbol, dimensions: list[int], shape: tuple[int, ...]) -> Symbol:
    rank = len(x.shape)
    wanted = tuple(sorted({d % rank for d in dimensions})) if dimensions else tuple(range(rank))
    kept = tuple(1 if d in wanted else n for d, n in enumerate(x.shape))
    return b.reshape(b.add(Sum(x.shape, wanted, True), [x], kept) if wanted else x, shape)


def norm(b: Builder, call: Call, args: list[Any]) -> Symbol:
    """linalg_vector_norm and norm: the p-norm over dimensions."""
    order = argument(call, args, 1, "ord", 2)
    order = 2.0 if order is None else float(order)
    return p_norm(b, call, args[0], order, listed(argument(call, args, 2, "dim", None)), shape_of(call))


def p_norm(b: Builder, call: Call, x: Symbol, order: float, dimensions: list[int], shape: tuple[int, ...]) -> Symbol:
    size = nonlinear(b, Absolute(), [x])
    if order == math.inf:
        return over_groups(b, Maximum(), size, dimensions, shape)
    if order == -math.inf:
        return scaled(b, over_groups(b, Maximum(), scaled(b, size, -1.0), dimensions, shape), -1.0)
    if order == 1:
        return total(b, size, dimensions, shape)
    if order == 2:
        return nonlinear(b, RealPower(0.5), [total(b, nonlinear(b, EvenPower(2), [x]), dimensions, shape)])
    if order <= 1:
        raise UnsupportedOperator(call.op, call.label, f"a norm of order {order}")
    return nonlinear(b, power(1 / order), [total(b, nonlinear(b, power(order), [size]), dimensions, shape)])


def variance(b: Builder, call: Call, args: list[Any]) -> Symbol:
    """var and std with `correction`."""
    x: Symbol = args[0]
    rank = len(x.shape)
    dimensions = listed(argument(call, args, 1, "dim", None)) or list(range(rank))
    wanted = tuple(sorted({d % rank for d in dimensions}))
    correction = call.kwargs.get("correction", 1)
    count = math.prod(x.shape[d] for d in wanted)
    _, spread = centred_and_variance(b, x, wanted)
    value = scaled(b, spread, count / (count - (1 if correction is None else float(correction))))
    value = b.reshape(value, shape_of(call))
    return value if operator_name(call) == "var" else nonlinear(b, RealPower(0.5), [value])


def centred_and_variance(b: Builder, x: Symbol, dimensions: tuple[int, ...]) -> tuple[Symbol, Symbol]:
    """x less its mean, and the mean of the squares of that (dimensions kept)."""
    centred = combined(b, x, broadcast(b, mean_over(b, x, dimensions), x.shape), -1.0)
    return centred, mean_over(b, nonlinear(b, EvenPower(2), [centred]), dimensions)


def normalised(b: Builder, x: Symbol, dimensions: tuple[int, ...], epsilon: float) -> tuple[Symbol, Symbol, Symbol]:
    """(x - mean) / sqrt(variance + epsilon), the mean, and the reciprocal deviation."""
    centred, spread = centred_and_variance(b, x, dimensions)
    rate = nonlinear(b, RealPower(-0.5), [scaled(b, spread, None, epsilon)])
    return standardised(b, centred, rate, dimensions, epsilon, True), mean_over(b, x, dimensions), rate


def layer_norm(b: Builder, call: Call, args: list[Any]) -> tuple[Symbol | None, ...]:
    x, shape, weight, bias, epsilon = args
    rank = len(x.shape)
    y, mean, rate = normalised(b, x, tuple(range(rank - len(shape), rank)), float(epsilon))
    return affine(b, y, weight, bias), mean, rate


def group_norm(b: Builder, call: Call, args: list[Any]) -> tuple[Symbol | None, ...]:
    x, weight, bias, batch, channels, _, groups, epsilon = args
    y, _, _ = normalised(b, b.reshape(x, (batch, groups, math.prod(x.shape) // (batch * groups))), (2,), float(epsilon))
    y = b.reshape(y, x.shape)
    column = (channels, *[1] * (len(x.shape) - 2))
    return affine(b, y, reshaped(b, weight, column), reshaped(b, bias, column)), None, None


def batch_norm(b: Builder, call: Call, args: list[Any]) -> tuple[Symbol | None, ...]:
    """Batch normalisation: a scale and a shift per channel, or (instance norm) with the statistics of the values."""
    x, weight, bias, mean, variance = args[:5]
    epsilon, column = float(args[-1]), (x.shape[1], *[1] * (len(x.shape) - 2))
    if isinstance(mean, Symbol) or isinstance(variance, Symbol):
        raise UnsupportedOperator(call.op, call.label, "running statistics that depend on the input")
    if mean is None or (operator_name(call) == "native_batch_norm" and args[5]):
        dimensions = tuple(d for d in range(len(x.shape)) if d != 1)
        x = normalised(b, x, dimensions, epsilon)[0]
    elif isinstance(weight, Symbol) or isinstance(bias, Symbol):
        rate = 1 / torch.sqrt(variance + epsilon)
        x = scaled(b, x, rate.reshape(column), (-mean * rate).reshape(column))
    else:
        weight = (1 if weight is None else weight) / torch.sqrt(variance + epsilon)
        bias = -mean * weight if bias is None else bias - mean * weight
    return affine(b, x, reshaped(b, weight, column), reshaped(b, bias, column)), None, None


GROUP_RULES: dict[str, Rule] = {
    **dict.fromkeys(("_softmax", "_safe_softmax", "softmax"), softmax),
    **dict.fromkeys(("_log_softmax", "log_softmax"), log_softmax),
    **dict.fromkeys(("amax", "amin", "max", "min"), extreme),
    **dict.fromkeys(("argmax", "argmin"), arg_extreme),
    **dict.fromkeys(("linalg_vector_norm", "norm"), norm),
    **dict.fromkeys(("var", "std"), variance),
    **dict.fromkeys(("native_batch_norm", "_native_batch_norm_legit_no_training"), batch_norm),
    "logsumexp": log_sum_exp,
    "logaddexp": log_add_exp,
    "sort": sort,
    "topk": top,
    **dict.fromkeys(("kthvalue", "median"), ranked),
    "prod": reduce_product,
    "native_layer_norm": layer_norm,
    "native_group_norm": group_norm,
}
