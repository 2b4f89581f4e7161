"""Lowering rules of ATen calls that are not linear in what depends on the input."""

from __future__ import annotations

from typing import Any

from lirpa_verify.errors import UnsupportedOperator
from lirpa_verify.graph.aten_linear import LINEAR_RULES, scale
from lirpa_verify.graph.lower import Builder, Rule, Symbol, as_float
from lirpa_verify.load.recording import Call
from lirpa_verify.operators.base import Operator
from lirpa_verify.operators.relu import ReLU
from lirpa_verify.operators.sigmoid import Sigmoid
from lirpa_verify.operators.tanh import Tanh


def elementwise(operator: Operator) -> Rule:
    def rule(b: Builder, call: Call, args: list[Any]) -> Symbol:
        return b.add(operator, [args[0]], args[0].shape)

    return rule


def leaky_relu(b: Builder, call: Call, args: list[Any]) -> Symbol:
    leak = float(args[1]) if len(args) > 1 else 0.01
    if not 0 <= leak <= 1:
        raise UnsupportedOperator(call.op, call.label, f"negative slope {leak} is outside [0, 1]")
    return b.add(ReLU(leak), [args[0]], args[0].shape)


def multiply(b: Builder, call: Call, args: list[Any]) -> Symbol:
    x, y = args[0], args[1]
    if isinstance(x, Symbol) and isinstance(y, Symbol):
        raise UnsupportedOperator(call.op, call.label, "a product of two values that depend on the input")
    return scale(b, call, x, as_float(y)) if isinstance(x, Symbol) else scale(b, call, y, as_float(x))


def divide(b: Builder, call: Call, args: list[Any]) -> Symbol:
    x, y = args[0], args[1]
    if isinstance(y, Symbol):
        raise UnsupportedOperator(call.op, call.label, "a quotient whose divisor depends on the input")
    return scale(b, call, x, 1 / as_float(y))


NONLINEAR_RULES: dict[str, Rule] = {
    "relu": elementwise(ReLU()),
    "leaky_relu": leaky_relu,
    "sigmoid": elementwise(Sigmoid()),
    "tanh": elementwise(Tanh()),
    "mul": multiply,
    "div": divide,
}

RULES: dict[str, Rule] = {**LINEAR_RULES, **NONLINEAR_RULES}
