"""Products and quotients that together are a function of one variable, which has a much tighter relaxation."""

from __future__ import annotations

import math
from typing import NamedTuple

from lirpa_verify.graph.building import fixed, nonlinear, scaled, standardised
from lirpa_verify.graph.lower import Builder, Symbol
from lirpa_verify.operators.absolute import Absolute
from lirpa_verify.operators.arithmetic import Combine, Scale
from lirpa_verify.operators.base import Operator
from lirpa_verify.operators.clip import Clip
from lirpa_verify.operators.erf import Erf
from lirpa_verify.operators.exponential import Exponential, Softplus
from lirpa_verify.operators.gate import GELU, Mish, SiLU
from lirpa_verify.operators.hard_swish import HardSwish
from lirpa_verify.operators.power import EvenPower, RealPower
from lirpa_verify.operators.rearrange import Expand, Gather, Permute, Reshape, Sum
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


def standardised_by(b: Builder, x: Symbol, y: Symbol) -> Symbol | None:
    """``x * (mean(x^2) + epsilon)^(-1/2)``: what normalisations do, whatever calls they are written with."""
    for value, rate in ((x, y), (y, x)):
        root = b.nodes[moved_from(b, rate.node)]
        if root.operator != RealPower(-0.5):
            continue
        inner = affine(b, moved_from(b, root.arguments[0]))
        mean = b.nodes[inner.node]
        if not isinstance(mean.operator, Sum) or inner.shift <= 0:
            continue
        square = b.nodes[mean.arguments[0]]
        dimensions = mean.operator.dimensions
        count = math.prod(value.shape[d] for d in dimensions)
        kept = tuple(1 if d in dimensions else n for d, n in enumerate(value.shape))
        same = square.operator == EvenPower(2) and square.arguments[0] == value.node
        if same and abs(inner.factor * count - 1) < 1e-12:
            turned = b.reshape(Symbol(moved_from(b, rate.node), root.shape), kept)
            return standardised(b, value, turned, dimensions, inner.shift, is_centred(b, value.node, dimensions))
    return None


def before_rising(b: Builder, x: Symbol) -> Symbol:
    """A value with the same order of entries: what a growing function of one variable was applied to."""
    node = b.nodes[x.node]
    if isinstance(node.operator, Sigmoid | Tanh | Softplus | Exponential):
        return before_rising(b, Symbol(node.arguments[0], x.shape))
    moves = isinstance(node.operator, Reshape | Permute) or (
        isinstance(node.operator, Gather) and not node.operator.padded
    )
    if not moves:
        return x
    below = Symbol(node.arguments[0], b.nodes[node.arguments[0]].shape)
    inner = before_rising(b, below)
    return x if inner == below else b.add(node.operator, [inner], x.shape)


def moved_from(b: Builder, node: int) -> int:
    """The node below reshaping and repeating."""
    while isinstance(b.nodes[node].operator, Reshape | Expand):
        node = b.nodes[node].arguments[0]
    return node


def is_centred(b: Builder, node: int, dimensions: tuple[int, ...]) -> bool:
    """Whether a node is something less its mean over the dimensions."""
    difference = b.nodes[node]
    if difference.operator != Combine((1.0, -1.0)):
        return False
    value, mean = difference.arguments
    inner = affine(b, moved_from(b, mean))
    total = b.nodes[moved_from(b, inner.node)]
    count = math.prod(difference.shape[d] for d in dimensions)
    return (
        isinstance(total.operator, Sum)
        and total.operator.dimensions == dimensions
        and total.arguments[0] == value
        and b.nodes[value].shape == difference.shape
        and not inner.shift
        and inner.factor == 1 / count
    )


def softsign(b: Builder, x: Symbol, y: Symbol) -> Symbol | None:
    """``x / (shift + factor * |x|)``."""
    outer = affine(b, y.node)
    node = b.nodes[outer.node]
    if not isinstance(node.operator, Absolute) or node.arguments[0] != x.node or min(outer.factor, outer.shift) <= 0:
        return None
    unit = nonlinear(b, Softsign(), [scaled(b, x, outer.factor / outer.shift)])
    return scaled(b, unit, 1 / outer.factor)
