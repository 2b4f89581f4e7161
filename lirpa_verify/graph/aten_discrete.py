"""Lowering rules of comparisons, logic, choices and casts."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lirpa_verify.errors import UnsupportedOperator
from lirpa_verify.graph.building import (
    broadcast,
    combined,
    listed,
    nonlinear,
    operand,
    over_groups,
    product,
    scaled,
    shape_of,
)
from lirpa_verify.graph.lower import Builder, Rule, Symbol, as_float, operator_name
from lirpa_verify.load.recording import Call
from lirpa_verify.operators.arithmetic import Scale
from lirpa_verify.operators.base import Operator
from lirpa_verify.operators.constant import Constant
from lirpa_verify.operators.discrete import ArgMax, Compare, Truncate
from lirpa_verify.operators.maximum import Maximum
from lirpa_verify.operators.rearrange import Expand, Gather, Permute, Reshape, Sum
from lirpa_verify.operators.sign import Sign, Step, Threshold
from lirpa_verify.operators.sort import SortedPlaces
from lirpa_verify.operators.staircase import Staircase
from lirpa_verify.operators.where import Where

INTEGER = Truncate | Compare | ArgMax | SortedPlaces | Staircase | Sign | Step
MOVING = Reshape | Permute | Expand | Gather


def compare(b: Builder, call: Call, args: list[Any]) -> Symbol:
    """Comparing 0 or 1 with a constant is linear; orders of reals are step functions of differences."""
    name, shape = operator_name(call), shape_of(call)
    x, y = args[:2]
    if isinstance(x, Symbol) and not isinstance(y, Symbol) and is_truth(b, x.node):
        at_0, at_1 = (getattr(torch, name)(torch.tensor(v), as_float(y)).double() for v in (0.0, 1.0))
        if torch.equal(at_0, at_1):
            return b.constant(at_0.expand(shape).contiguous())
        return scaled(b, broadcast(b, x, shape), at_1 - at_0, at_0)
    if name in ("gt", "ge"):
        x, y, name = y, x, {"gt": "lt", "ge": "le"}[name]
    integers = all(not isinstance(v, Symbol) or is_integer(b, v.node) for v in (x, y))
    if name in ("lt", "le") and not integers:
        return nonlinear(b, Step(name == "lt"), [difference(b, y, x, shape)])
    left, right = (operand(b, value, shape) for value in (x, y))
    if name in ("eq", "ne"):
        equal = equality(b, left, right)
        return equal if name == "eq" else negation(b, equal)
    return nonlinear(b, Compare("lt" if name == "lt" else "le", is_whole(b, left, right)), [left, right])


def equality(b: Builder, x: Symbol, y: Symbol) -> Symbol:
    """With x of 0 and 1 it is a choice between y = 0 and y = 1, linear in x as soon as y is known."""
    if is_truth(b, y.node):
        x, y = y, x
    if not is_truth(b, x.node):
        return nonlinear(b, Compare("eq", is_whole(b, x, y)), [x, y])
    whole = is_whole(b, y)
    zero, one = (nonlinear(b, Compare("eq", whole), [y, operand(b, v, y.shape)]) for v in (0.0, 1.0))
    return combined(b, zero, product(b, x, combined(b, one, zero, -1.0)))


def difference(b: Builder, x: Any, y: Any, shape: tuple[int, ...]) -> Symbol:
    """``x - y`` of values one of which may be constant."""
    if not isinstance(y, Symbol):
        return scaled(b, operand(b, x, shape), None, -as_float(y))
    if not isinstance(x, Symbol):
        return scaled(b, operand(b, y, shape), -1.0, x)
    return combined(b, operand(b, x, shape), operand(b, y, shape), -1.0)


def negation(b: Builder, x: Symbol) -> Symbol:
    return scaled(b, x, -1.0, 1.0)


def truth(b: Builder, value: Symbol | Tensor | float, shape: tuple[int, ...]) -> Symbol:
    """0 or 1 for whether a value differs from 0."""
    x = operand(b, value, shape)
    if is_truth(b, x.node):
        return x
    return negation(b, nonlinear(b, Compare("eq", is_whole(b, x)), [x, operand(b, 0.0, shape)]))


def logic(b: Builder, call: Call, args: list[Any]) -> Symbol:
    """and, or, xor, not of truth values; their McCormick planes are exact hulls."""
    name, shape = operator_name(call).removeprefix("logical_").removeprefix("bitwise_"), shape_of(call)
    spec = call.outputs[0]
    if spec is not None and spec.dtype != torch.bool:
        raise UnsupportedOperator(call.op, call.label, "bits of integers")
    x = truth(b, args[0], shape)
    if name == "not":
        return negation(b, x)
    y = truth(b, args[1], shape)
    both = product(b, x, y)
    if name == "and":
        return both
    return combined(b, combined(b, x, y), both, -1.0 if name == "or" else -2.0)


def some(b: Builder, call: Call, args: list[Any]) -> Symbol:
    """any and all."""
    dimensions = listed(args[1]) if len(args) > 1 else []
    x = truth(b, args[0], args[0].shape)
    if operator_name(call) == "any":
        return over_groups(b, Maximum(), x, dimensions, shape_of(call))
    return negation(b, over_groups(b, Maximum(), negation(b, x), dimensions, shape_of(call)))


def where(b: Builder, call: Call, args: list[Any]) -> Symbol:
    condition, x, y = args
    shape = shape_of(call)
    if isinstance(condition, Symbol) and isinstance(known := b.nodes[condition.node].operator, Constant):
        condition = known.value
    if not isinstance(condition, Symbol):
        mask = as_float(condition != 0)
        if bool((mask == mask.reshape(-1)[0]).all()):
            return operand(b, x if mask.reshape(-1)[0] else y, shape)
        if isinstance(x, Symbol) and isinstance(y, Symbol):
            chosen, other = scaled(b, broadcast(b, x, shape), mask), scaled(b, broadcast(b, y, shape), 1 - mask)
            return combined(b, chosen, other)
        if not isinstance(x, Symbol):
            x, y, mask = y, x, 1 - mask
        return scaled(b, operand(b, x, shape), mask, torch.where(mask != 0, 0.0, as_float(y)))  # y may be infinite
    if not isinstance(x, Symbol) and not isinstance(y, Symbol):
        return scaled(b, truth(b, condition, shape), as_float(x) - as_float(y), as_float(y))
    jump = thresholded(b, condition, x, y)
    if jump is not None and condition.shape == shape:
        return jump
    return nonlinear(b, Where(), [truth(b, condition, shape), operand(b, x, shape), operand(b, y, shape)])


def thresholded(b: Builder, condition: Symbol, x: Any, y: Any) -> Symbol | None:
    """``x where x > limit else value`` with numbers is a function of x alone."""
    node = b.nodes[condition.node]
    if node.operator != Step(True) or not isinstance(x, Symbol) or isinstance(y, Symbol):
        return None
    inner, values = b.nodes[node.arguments[0]], as_float(y).unique()
    if not isinstance(inner.operator, Scale) or inner.arguments[0] != x.node or len(values) != 1:
        return None
    factor, shift = inner.operator.factor, inner.operator.shift
    if factor is not None or shift is None or len(shift.unique()) != 1:
        return None
    return nonlinear(b, Threshold(-float(shift.unique()), float(values[0])), [x])


def heaviside(b: Builder, call: Call, args: list[Any]) -> Symbol:
    """1 above 0, 0 below, and a given value at 0: a mix of both step functions."""
    x, at_0, shape = args[0], args[1], shape_of(call)
    if not isinstance(x, Symbol) or isinstance(at_0, Symbol):
        raise UnsupportedOperator(call.op, call.label, "a value at 0 that depends on the input")
    x, at_0 = broadcast(b, x, shape), as_float(at_0)
    above = nonlinear(b, Step(True), [x])
    if bool((at_0 == 0).all()):
        return above
    return combined(b, scaled(b, above, 1 - at_0), scaled(b, nonlinear(b, Step(False), [x]), at_0))


def bucket(b: Builder, call: Call, args: list[Any]) -> Symbol:
    """bucketize and searchsorted: how many of the sorted boundaries are less than (or equal to) each value."""
    boundaries, values = (args[1], args[0]) if operator_name(call) == "bucketize" else args[:2]
    if isinstance(boundaries, Symbol) or call.kwargs.get("sorter") is not None:
        raise UnsupportedOperator(call.op, call.label, "boundaries that depend on the input, or that are not sorted")
    limits = as_float(boundaries)
    if not bool((limits.diff() >= 0).all()):
        raise UnsupportedOperator(call.op, call.label, "boundaries that are not sorted")
    shape, count = tuple(values.shape), limits.shape[-1]
    limits = limits if limits.dim() == 1 else limits.unsqueeze(-2)
    beyond = scaled(b, broadcast(b, b.reshape(values, (*shape, 1)), (*shape, count)), None, -limits)
    inclusive = bool(call.kwargs.get("right")) or call.kwargs.get("side") == "right"
    steps = nonlinear(b, Step(not inclusive), [beyond])
    return b.reshape(b.add(Sum(steps.shape, (len(shape),), True), [steps], (*shape, 1)), shape)


def count_nonzero(b: Builder, call: Call, args: list[Any]) -> Symbol:
    x = truth(b, args[0], args[0].shape)
    dimensions = tuple(sorted({d % len(x.shape) for d in listed(args[1] if len(args) > 1 else None)}))
    dimensions = dimensions or tuple(range(len(x.shape)))
    kept = tuple(1 if d in dimensions else n for d, n in enumerate(x.shape))
    return b.reshape(b.add(Sum(x.shape, dimensions, True), [x], kept), shape_of(call))


def unchanged(b: Builder, call: Call, args: list[Any]) -> Symbol:
    """nan_to_num, of the real numbers that bounds are about."""
    x: Symbol = args[0]
    return x


def never(b: Builder, call: Call, args: list[Any]) -> Symbol:
    """isnan and isinf: no, of the real numbers that bounds are about."""
    return b.constant(torch.zeros(shape_of(call), dtype=torch.float64))


def cast(b: Builder, call: Call, args: list[Any]) -> Symbol:
    """A cast to an integer type cuts the fraction off; one to bool asks whether the value is 0."""
    x, dtype = args[0], call.kwargs.get("dtype")
    if dtype is None or dtype.is_floating_point or is_integer(b, x.node):
        return truth(b, x, x.shape) if dtype == torch.bool else x
    return truth(b, x, x.shape) if dtype == torch.bool else nonlinear(b, Truncate(), [x])


def is_whole(b: Builder, *values: Symbol) -> bool:
    """Whether all values are integers; constants say so themselves."""
    for value in values:
        operator = b.nodes[value.node].operator
        constant = isinstance(operator, Constant) and bool((operator.value == operator.value.round()).all())
        if not constant and not is_integer(b, value.node):
            return False
    return True


def is_integer(b: Builder, node: int) -> bool:
    """Whether a node's values are integers whatever the input."""
    operator: Operator = b.nodes[node].operator
    if isinstance(operator, MOVING):
        return node in b.integers or is_integer(b, b.nodes[node].arguments[0])
    return node in b.integers or isinstance(operator, INTEGER)


def is_truth(b: Builder, node: int) -> bool:
    """Whether a node's values are 0 or 1 whatever the input."""
    operator: Operator = b.nodes[node].operator
    if node in b.truths or isinstance(operator, Compare | Step):
        return True
    if isinstance(operator, Scale) and is_truth(b, b.nodes[node].arguments[0]):
        at_0 = as_float(0.0 if operator.shift is None else operator.shift)
        at_1 = at_0 + (1.0 if operator.factor is None else operator.factor)
        return all(bool(((v == 0) | (v == 1)).all()) for v in (at_0, at_1))
    return isinstance(operator, MOVING) and is_truth(b, b.nodes[node].arguments[0])


DISCRETE_RULES: dict[str, Rule] = {
    **dict.fromkeys(("eq", "ne", "lt", "le", "gt", "ge"), compare),
    **dict.fromkeys(("logical_and", "logical_or", "logical_xor", "logical_not"), logic),
    **dict.fromkeys(("bitwise_and", "bitwise_or", "bitwise_xor", "bitwise_not"), logic),
    **dict.fromkeys(("any", "all"), some),
    **dict.fromkeys(("isnan", "isinf"), never),
    **dict.fromkeys(("bucketize", "searchsorted"), bucket),
    "count_nonzero": count_nonzero,
    "nan_to_num": unchanged,
    "heaviside": heaviside,
    "where": where,
    "_to_copy": cast,
}
