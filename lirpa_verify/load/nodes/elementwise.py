"""Element by element: arithmetic, comparison, logic, casts."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import reduce
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from lirpa_verify.load.nodes.node import Node, NodeFunction
from lirpa_verify.load.nodes.types import torch_type


def _unary(function: Callable[[Tensor], Tensor]) -> NodeFunction:
    return lambda node, x: function(x)


def _binary(function: Callable[[Tensor, Tensor], Tensor]) -> NodeFunction:
    def run(node: Node, a: Tensor, b: Tensor) -> Tensor:
        return function(a, _old_broadcast(node, a, b))

    return run


def _variadic(function: Callable[[Tensor, Tensor], Tensor]) -> NodeFunction:
    return lambda node, *values: reduce(function, values)


def _old_broadcast(node: Node, a: Tensor, b: Tensor) -> Tensor:
    """Before opset 7, `axis` aligned the second operand with an inner dimension of the first."""
    if node.opset >= 7 or not node.get("broadcast", 0) or "axis" not in node.attributes:
        return b
    axis = node.get("axis") % a.dim()
    return b.reshape(*b.shape, *[1] * (a.dim() - axis - b.dim()))


def _divide(a: Tensor, b: Tensor) -> Tensor:
    return a / b if a.is_floating_point() else torch.div(a, b, rounding_mode="trunc")


def _power(node: Node, base: Tensor, exponent: Tensor) -> Tensor:
    exponent = _old_broadcast(node, base, exponent)
    number = node.number(exponent)
    result = torch.pow(base, exponent if number is None or exponent.dim() > base.dim() else number)
    return result.to(base.dtype)  # the type of the result is that of the base


def _modulo(node: Node, a: Tensor, b: Tensor) -> Tensor:
    return torch.fmod(a, b) if node.get("fmod", 0) else torch.remainder(a, b)


def _maximum(node: Node, *values: Tensor) -> Tensor:
    if len(values) == 2 and values[0].is_floating_point():
        for x, other in (values, values[::-1]):
            if other.dim() <= x.dim() and node.number(other) == 0:
                return torch.relu(x)
    return reduce(torch.maximum, values)


def _mean(node: Node, *values: Tensor) -> Tensor:
    return reduce(torch.add, values) / len(values)


def _clip(node: Node, x: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
    lower = node.get("min") if low is None else node.number(low)
    upper = node.get("max") if high is None else node.number(high)
    if (low is not None and lower is None) or (high is not None and upper is None):  # limits that are not constant
        x = x if low is None else torch.maximum(x, low)
        return x if high is None else torch.minimum(x, high)
    # Limits beyond every number of the type are no limits.
    lower = None if lower is None or lower == -math.inf else lower
    upper = None if upper is None or upper == math.inf else upper
    if lower is None and upper is None:
        return x
    if upper is None and lower == 0:
        return torch.relu(x)
    return torch.clamp(x, lower, upper)


def _where(node: Node, condition: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return torch.where(condition.bool(), a, b)


def _cast(node: Node, x: Tensor) -> Tensor:
    return x.to(torch_type(node.get("to"), node))


def _cast_like(node: Node, x: Tensor, like: Tensor) -> Tensor:
    return x.to(like.dtype)


def _is_infinite(node: Node, x: Tensor) -> Tensor:
    low, high = node.get("detect_negative", 1), node.get("detect_positive", 1)
    if low and high:
        return torch.isinf(x)
    return torch.eq(x, math.inf if high else -math.inf) if low or high else torch.zeros_like(x, dtype=torch.bool)


def _identity(node: Node, x: Tensor) -> Tensor:
    return x


def _dropout(node: Node, x: Tensor, ratio: Tensor | None = None, training: Tensor | None = None) -> Any:
    if node.number(training):
        raise node.unsupported("dropout in training mode is random")
    return (x, torch.ones(x.shape, dtype=torch.bool))[: max(len(node.outputs), 1)]


# Operators of one argument that torch has under the same name, in lower case.
_SAME_NAME = (
    *("Neg", "Abs", "Sqrt", "Exp", "Log", "Reciprocal", "Floor", "Ceil", "Round", "Sign", "Erf", "Sigmoid", "Tanh"),
    *("Sin", "Cos", "Tan", "Asin", "Acos", "Atan", "Sinh", "Cosh", "Asinh", "Acosh", "Atanh"),
)

OPERATORS: Mapping[str, NodeFunction] = MappingProxyType(
    {
        "Add": _binary(torch.add),
        "Sub": _binary(torch.sub),
        "Mul": _binary(torch.mul),
        "Div": _binary(_divide),
        "Pow": _power,
        "Mod": _modulo,
        "Sum": _variadic(torch.add),
        "Max": _maximum,
        "Min": _variadic(torch.minimum),
        "Mean": _mean,
        "Clip": _clip,
        "Equal": _binary(torch.eq),
        "Less": _binary(torch.lt),
        "LessOrEqual": _binary(torch.le),
        "Greater": _binary(torch.gt),
        "GreaterOrEqual": _binary(torch.ge),
        "And": _binary(torch.logical_and),
        "Or": _binary(torch.logical_or),
        "Xor": _binary(torch.logical_xor),
        "Not": _unary(torch.logical_not),
        "BitwiseAnd": _binary(torch.bitwise_and),
        "BitwiseOr": _binary(torch.bitwise_or),
        "BitwiseXor": _binary(torch.bitwise_xor),
        "BitwiseNot": _unary(torch.bitwise_not),
        "Where": _where,
        "Cast": _cast,
        "CastLike": _cast_like,
        "IsInf": _is_infinite,
        "IsNaN": _unary(torch.isnan),
        "Identity": _identity,
        "Dropout": _dropout,
        **{name: _unary(getattr(torch, name.lower())) for name in _SAME_NAME},
    }
)
