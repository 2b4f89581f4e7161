"""Products and quotients that together are a function of one variable, which has a much tighter relaxation."""

from __future__ import annotations

import math
from typing import NamedTuple

from lirpa_verify.graph.building import fixed, nonlinear, scaled
from lirpa_verify.graph.lower import Builder, Symbol
from lirpa_verify.operators.absolute import Absolute
from lirpa_verify.operators.arithmetic import Scale
from lirpa_verify.operators.base import Operator
from lirpa_verify.operators.clip import Clip
from lirpa_verify.operators.erf import Erf
from lirpa_verify.operators.exponential import Softplus
from lirpa_verify.operators.gate import GELU, Mish, SiLU
from lirpa_verify.operators.hard_swish import HardSwish
from lirpa_verify.operators.sigmoid import Sigmoid
from lirpa_verify.operators.softsign import Softsign
from lirpa_verify.operators.tanh import Tanh


class Affine(NamedTuple):
    """``factor * node + shift`` with numbers."""

    node: int
    factor: float = 1.0
    shift: float = 0.0


def affine(b: Builder, node: int) -> Affine:
    """A node as a function of the node below all scalings by numbers."""
    factor, shift = 1.0, 0.0
    while isinstance(operator := b.nodes[node].operator, Scale):
        numbers = [default if t is None else float(t) if t.numel() == 1 and fixed(t) else None
                   for t, default in ((operator.factor, 1.0), (operator.shift, 0.0))]  # fmt: skip
        if numbers[0] is None or numbers[1] is None:
            break
        factor, shift = factor * numbers[0], factor * numbers[1] + shift
        node = b.nodes[node].arguments[0]
    return Affine(node, factor, shift)


def gated(b: Builder, x: Symbol, y: Symbol) -> Symbol | None:
    """x * y where one of them is a step function of the other: SiLU, GELU, Mish, hard swish."""
    if x.shape != y.shape:
        return None
    for value, gate in ((x, y), (y, x)):
        outer = affine(b, gate.node)
        operator = b.nodes[outer.node].operator
        if not isinstance(operator, Sigmoid | Erf | Clip | Tanh):
            continue
        inner = affine(b, b.nodes[outer.node].arguments[0])
        factor = affine(b, value.node)
        if factor.shift:
            continue
        match = step_of(b, operator, outer, inner, factor.node)
        if match is not None:
            unit, rate, height = match
            base = Symbol(factor.node, value.shape)
            return scaled(b, nonlinear(b, unit, [scaled(b, base, rate)]), factor.factor * height / rate)
    return None


def step_of(
    b: Builder, operator: Operator, outer: Affine, inner: Affine, base: int
) -> tuple[Operator, float, float] | None:
    """(unit, rate, height) with ``base * gate = height / rate * unit(rate * base)``."""
    p, s = outer.factor, outer.shift
    if isinstance(operator, Tanh):
        softplus = (
            isinstance(b.nodes[inner.node].operator, Softplus) and inner.factor == 1 and not inner.shift and not s
        )
        return (Mish(), 1.0, p) if softplus and b.nodes[inner.node].arguments[0] == base else None
    if inner.node != base or not inner.factor:
        return None
    if isinstance(operator, Sigmoid) and not s and not inner.shift:
        return SiLU(), inner.factor, p
    if isinstance(operator, Erf) and s == p and not inner.shift:
        return GELU(), inner.factor * math.sqrt(2), 2 * p
    if operator == Clip(0.0, 1.0) and not s and inner.shift == 0.5:
        return HardSwish(), 6 * inner.factor, p
    return None


def softsign(b: Builder, x: Symbol, y: Symbol) -> Symbol | None:
    """``x / (shift + factor * |x|)``."""
    outer = affine(b, y.node)
    node = b.nodes[outer.node]
    if not isinstance(node.operator, Absolute) or node.arguments[0] != x.node or min(outer.factor, outer.shift) <= 0:
        return None
    unit = nonlinear(b, Softsign(), [scaled(b, x, outer.factor / outer.shift)])
    return scaled(b, unit, 1 / outer.factor)
